"""``./lab get`` over a real API server: it prints the server's own tables.

Pod default/web-1 (10.244.1.2 on node1), more/web-2; Service default/web; Node node1 192.168.49.2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.errors import NotFound, UsageError
from scenarios import cli_get
from scenarios.cli_parsers import commands
from scenarios.objects import endpoint_addresses
from tests.unit.api_kit import ROOT, ApiServer, api_server, deployment, namespace, pod, service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as made:
        for obj in (
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}},
            namespace("more"),
            pod("web-1", spec={"nodeName": "node1"}),
            pod("web-2", metadata={"namespace": "more", "labels": {"app": "other"}}),
            service("web", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}),
            deployment("web"),
        ):
            made.client.create(obj)
        address = {"addresses": [{"type": "InternalIP", "address": "192.168.49.2"}]}
        made.client.patch("Node", "node1", {"status": address}, subresource="status")
        running = {"phase": "Running", "podIP": "10.244.1.2"}
        made.client.patch("Pod", "web-1", {"status": running}, subresource="status")
        yield made


class Printed:
    """What a command line of ``./lab get`` prints."""

    def __init__(self, socket: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._socket, self._capsys = socket, capsys

    def __call__(self, *words: str) -> str:
        options = commands()["get"].parse_args(words)
        assert cli_get.get(self._socket, options) == 0
        found = self._capsys.readouterr()
        return found.out + found.err

    def rows(self, *words: str) -> list[list[str]]:
        return [line.split() for line in self(*words).splitlines()]


@pytest.fixture
def printed(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> Printed:
    return Printed(server.socket, capsys)


def test_pods_come_with_their_addresses_and_nodes(printed: Printed) -> None:
    assert printed.rows("po") == [
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"],
        ["web-1", "0/1", "Running", "0", printed.rows("po")[1][4], "10.244.1.2", "node1"],
    ]


def test_wide_is_as_wide_as_kubectl_s(printed: Printed) -> None:
    assert printed("pods", "-o", "wide").splitlines()[0].endswith("NOMINATED NODE   READINESS GATES")
    assert printed.rows("svc", "-o", "wide")[1][-1] == "app=web"


def test_a_service_has_the_columns_of_kubectl(printed: Printed) -> None:
    head, row = printed.rows("services", "web")
    assert head == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert (row[0], row[1], row[3:5]) == ("web", "NodePort", ["<none>", "80:30000/TCP"])


def test_a_node_comes_with_its_address(printed: Printed) -> None:
    head, row = printed.rows("nodes")
    assert (head[-1], row[-1]) == ("INTERNAL-IP", "192.168.49.2")


def test_all_namespaces_are_named_in_front(printed: Printed) -> None:
    head, *rows = printed.rows("pods", "-A")
    assert head[:2] == ["NAMESPACE", "NAME"]
    assert [row[:2] for row in rows] == [["default", "web-1"], ["more", "web-2"]]


def test_several_kinds_are_several_tables_with_the_kind_before_the_name(printed: Printed) -> None:
    pods, services = printed("po,svc").split("\n\n")
    assert pods.splitlines()[1].startswith("pod/web-1 ")
    assert services.splitlines()[1].startswith("service/web ")
    assert printed("pod/web-1", "svc/web").split("\n\n")[0] == pods


def test_all_is_every_kind_of_that_category_and_leaves_out_what_there_is_none_of(printed: Printed) -> None:
    names = [row[0] for row in printed.rows("all") if row and row[0] != "NAME"]
    assert names == ["pod/web-1", "service/web", "deployment.apps/web"]


def test_names_labels_and_output_by_name(printed: Printed) -> None:
    assert printed("pods", "-A", "-l", "app=other", "-o", "name") == "pod/web-2\n"
    assert printed("deploy/web", "-o", "name") == "deployment.apps/web\n"


def test_objects_as_they_are(printed: Printed) -> None:
    one = json.loads(printed("pod", "web-1", "-o", "json"))
    assert (one["kind"], one["metadata"]["name"]) == ("Pod", "web-1")
    several = yaml.safe_load(printed("svc,po", "-o", "yaml"))
    assert [(item["apiVersion"], item["kind"]) for item in several["items"]] == [
        ("v1", "Service"),
        ("v1", "Pod"),
    ]


WATCHING = """
import sys
from pathlib import Path
from scenarios import cli_get
from scenarios.cli_parsers import commands
cli_get.get(Path(sys.argv[1]), commands()["get"].parse_args(["cm", "-w"]))
"""


def test_a_watch_goes_on_with_every_change(server: ApiServer) -> None:
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    command = [sys.executable, "-c", WATCHING, str(server.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as watching:
        try:
            assert watching.stdout
            assert watching.stdout.readline().split() == ["NAME", "DATA", "AGE"]
            server.client.create(made)
            assert watching.stdout.readline().split()[:2] == ["settings", "0"]
            server.client.patch("ConfigMap", "settings", {"data": {"a": "1", "b": "2"}})
            assert watching.stdout.readline().split()[:2] == ["settings", "2"]
            server.client.delete("ConfigMap", "settings")
            assert watching.stdout.readline().split()[:2] == ["settings", "2"]
        finally:
            watching.kill()


def test_nothing_is_said_as_kubectl_says_it(printed: Printed) -> None:
    assert printed("statefulsets") == "No resources found in default namespace.\n"
    assert printed("sts", "-A") == printed("persistentvolumes") == "No resources found.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["servcies"], r"resource type `servcies`\. Did you mean `services`"),
        (["pod/web-1", "svc"], "`svc`: with TYPE/NAME, every word is one"),
        (["pod,svc", "-w"], "-w follows one kind"),
        (["pod", "-w", "-o", "json"], "-w follows one kind"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(server: ApiServer, words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cli_get.get(server.socket, commands()["get"].parse_args(words))


def test_a_name_that_is_not_there_is_kubernetes_sentence(server: ApiServer) -> None:
    options: argparse.Namespace = commands()["get"].parse_args(["pod", "nobody"])
    with pytest.raises(NotFound, match='pods "nobody" not found'):
        cli_get.get(server.socket, options)


def test_endpoints_of_both_kinds_are_named_alike() -> None:
    ports = [{"port": 8080}]
    old = {"kind": "Endpoints", "subsets": [{"addresses": [{"ip": "10.244.1.2"}], "ports": ports}]}
    new = {
        "kind": "EndpointSlice",
        "endpoints": [
            {"addresses": ["10.244.1.2"], "conditions": {"ready": True}},
            {"addresses": ["10.244.1.3"], "conditions": {"ready": False}},
        ],
        "ports": ports,
    }
    assert endpoint_addresses(old) == endpoint_addresses(new) == ["10.244.1.2:8080"]
    assert endpoint_addresses({"kind": "Endpoints"}) == []
