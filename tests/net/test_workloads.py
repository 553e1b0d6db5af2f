"""What makes pods and what stands beside Services, in a running lab: their names, places, packets.

nginx   a headless Service over StatefulSet web (app=web); agents: DaemonSet agent (app=agent)
legacy  a Service without selector, whose Endpoints are written by hand
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.objects import Obj
from topo.config import ClusterConfig
from topo.lab import Lab

NODES = ["node1", "node2", "node3"]


def template(app: str) -> Obj:
    container = {
        "name": "main",
        "image": "agnhost",
        "args": ["netexec", "--http-port=8080"],
        "ports": [{"containerPort": 8080}],
    }
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}}


def workload(kind: str, name: str, app: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app), **spec},
    }


def service(name: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=3)) as lab:
        lab.apply(
            service("nginx", clusterIP="None", selector={"app": "web"}),
            workload("StatefulSet", "web", "web", replicas=3, serviceName="nginx"),
            workload("DaemonSet", "agent", "agent"),
            service("legacy"),
        )
        lab.settle()
        yield lab


def get(lab: Lab, url: str) -> str:
    return lab.node(1).run(["curl", "-s", "-m", "10", url]).stdout


def test_a_stateful_sets_pods_are_named_in_order_and_answer_by_their_names(lab: Lab) -> None:
    pods = lab.pods("app=web")
    assert [pod.name for pod in pods] == ["web-0", "web-1", "web-2"]
    assert [get(lab, f"http://{pod.ip}:8080/hostname") for pod in pods] == ["web-0", "web-1", "web-2"]
    assert "web-1.nginx.default.svc.cluster.local" in pods[1].run(["cat", "/etc/hosts"]).stdout


def test_the_headless_services_slice_names_each_pod_for_dns(lab: Lab) -> None:
    slices, _ = lab.client.list("EndpointSlice", "default", labels="kubernetes.io/service-name=nginx")
    named = {one["hostname"]: one["addresses"][0] for found in slices for one in found["endpoints"]}
    assert named == {pod.name: str(pod.ip) for pod in lab.pods("app=web")}


def test_a_pod_that_is_deleted_comes_back_under_its_name(lab: Lab) -> None:
    before = lab.client.get("Pod", "web-1", "default")["metadata"]["uid"]
    lab.client.delete("Pod", "web-1", "default", grace=0)
    lab.settle()
    assert lab.client.get("Pod", "web-1", "default")["metadata"]["uid"] != before
    assert get(lab, f"http://{lab.pod('web-1').ip}:8080/hostname") == "web-1"


def test_a_daemon_set_has_one_pod_on_each_node_the_control_plane_included(lab: Lab) -> None:
    pods, _ = lab.client.list("Pod", "default", labels="app=agent")
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == NODES
    status = lab.client.get("DaemonSet", "agent", "default")["status"]
    assert (status["desiredNumberScheduled"], status["numberReady"]) == (3, 3)


def test_hand_written_endpoints_are_reached_by_their_services_address(lab: Lab) -> None:
    target = lab.pod("web-2")
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "legacy", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": str(target.ip)}], "ports": [{"port": 8080}]}],
        }
    )
    lab.settle()
    address = lab.client.get("Service", "legacy", "default")["spec"]["clusterIP"]
    assert get(lab, f"http://{address}/hostname") == "web-2"
    parent = lab.client.get("IPAddress", address)["spec"]["parentRef"]
    assert (parent["resource"], parent["name"]) == ("services", "legacy")
