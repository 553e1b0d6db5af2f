"""The small tables of ``./lab get``, with kubectl's words."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from controller.api.errors import UsageError
from scenarios import cli_get

OLD = "2020-01-01T00:00:00Z"


class Api:
    """A client that holds these objects."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = objects

    def list(self, kind: str, namespace: str | None = None) -> tuple[list[dict[str, Any]], str]:
        return [obj for obj in self.objects if obj["kind"] == kind], "1"

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        return next(o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def obj(kind: str, name: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "creationTimestamp": OLD}, **parts}


def table(capsys: pytest.CaptureFixture[str], kind: str, *objects: dict[str, Any]) -> list[list[str]]:
    options = argparse.Namespace(kind=kind, name=None, namespace="default", output="table")
    assert cli_get.get(Api(*objects), options) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def service(type_: str, **status: Any) -> dict[str, Any]:
    port = {"port": 80, "protocol": "TCP"} | ({} if type_ == "ClusterIP" else {"nodePort": 30000})
    spec = {"type": type_, "clusterIP": "10.96.0.7", "ports": [port]}
    return obj("Service", "web", spec=spec, status=status)


@pytest.mark.parametrize(
    ("one", "cells"),
    [
        (service("ClusterIP"), ["ClusterIP", "10.96.0.7", "<none>", "80/TCP"]),
        (service("NodePort"), ["NodePort", "10.96.0.7", "<none>", "80:30000/TCP"]),
        (
            service("LoadBalancer", loadBalancer={}),
            ["LoadBalancer", "10.96.0.7", "<pending>", "80:30000/TCP"],
        ),
        (
            service("LoadBalancer", loadBalancer={"ingress": [{"ip": "203.0.113.5"}]}),
            ["LoadBalancer", "10.96.0.7", "203.0.113.5", "80:30000/TCP"],
        ),
    ],
)
def test_services(capsys: pytest.CaptureFixture[str], one: dict[str, Any], cells: list[str]) -> None:
    head, row = table(capsys, "svc", one)
    assert head == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row[:-1] == ["web", *cells]
    assert row[-1].endswith("d")


def test_pods(capsys: pytest.CaptureFixture[str]) -> None:
    running = obj(
        "Pod",
        "web-1",
        spec={"containers": [{}, {}], "nodeName": "node1"},
        status={
            "phase": "Running",
            "podIP": "10.244.1.2",
            "containerStatuses": [{"ready": True, "restartCount": 2}, {"ready": False}],
        },
    )
    ending = obj("Pod", "web-2", spec={"containers": [{}]}, status={"phase": "Running"})
    ending["metadata"]["deletionTimestamp"] = OLD
    _, first, second = table(capsys, "po", running, ending)
    assert [first[0], *first[1:4], *first[5:]] == ["web-1", "1/2", "Running", "2", "10.244.1.2", "node1"]
    assert second[1:3] == ["0/1", "Terminating"]
    assert second[-2:] == ["<none>", "<none>"]


def test_endpoints_of_both_kinds_are_named_alike() -> None:
    ports = [{"port": 8080}]
    old = obj("Endpoints", "web", subsets=[{"addresses": [{"ip": "10.244.1.2"}], "ports": ports}])
    new = obj(
        "EndpointSlice",
        "web-x",
        endpoints=[
            {"addresses": ["10.244.1.2"], "conditions": {"ready": True}},
            {"addresses": ["10.244.1.3"], "conditions": {"ready": False}},
        ],
        ports=ports,
    )
    assert cli_get.endpoint_addresses(old) == cli_get.endpoint_addresses(new) == ["10.244.1.2:8080"]
    assert cli_get.endpoint_addresses(obj("Endpoints", "none")) == []


def test_nothing_is_said_as_kubectl_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(kind="pods", name=None, namespace="default", output="table")
    assert cli_get.get(Api(), options) == 0
    assert capsys.readouterr().err == "No resources found in default namespace.\n"


def test_a_kind_without_columns_of_kubectls_shows_name_and_age(capsys: pytest.CaptureFixture[str]) -> None:
    head, row = table(capsys, "podtemplates", obj("PodTemplate", "default"))
    assert head == ["NAME", "AGE"]
    assert row[0] == "default"


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    options = argparse.Namespace(kind="servcies", name=None, namespace="default", output="table")
    with pytest.raises(UsageError, match=r"resource type `servcies`\. Did you mean `services`"):
        cli_get.get(Api(), options)


def test_an_external_name_is_shown_as_kubectl_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    named = obj("Service", "db", spec={"type": "ExternalName", "externalName": "db.example.com"})
    _, row = table(capsys, "svc", named)
    assert row[:5] == ["db", "ExternalName", "<none>", "db.example.com", "<none>"]


def test_other_kinds_have_the_columns_of_kubectl(capsys: pytest.CaptureFixture[str]) -> None:
    about = {"kind": "Service", "name": "web"}
    told = obj("Event", "e", type="Warning", reason="Bad", message="so", involvedObject=about)
    head, row = table(capsys, "events", told)
    assert (head, row[1:]) == (
        ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"],
        ["Warning", "Bad", "service/web", "so"],
    )
    assert table(capsys, "servicecidr", obj("ServiceCIDR", "a", spec={"cidrs": ["10.96.0.0/12"]}))[1][:2] == [
        "a",
        "10.96.0.0/12",
    ]
