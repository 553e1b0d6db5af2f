"""Node objects as they are registered: what the scheduler, the kubeproxy and kubectl read from them."""

from __future__ import annotations

from typing import Any

from controller.api.wiring import DATAPATH_ID, HOST_INTERFACE, UPLINK_INTERFACE
from topo.config import ClusterConfig
from topo.nodes import node_object
from topo.plan import Plan

NOW = "2024-01-01T00:00:00Z"


def node(number: int, **config: Any) -> dict[str, Any]:
    plan = Plan(ClusterConfig(**config))
    return node_object(plan.nodes[number - 1], cpus=2, memory_kib=1024, now=NOW)


def test_a_node_names_its_bridge_and_ports_for_the_kubeproxy() -> None:
    assert node(2)["metadata"]["annotations"] == {
        DATAPATH_ID: "0000000000000002",
        HOST_INTERFACE: "node2-host",
        UPLINK_INTERFACE: "node2-up",
    }


def test_only_the_first_node_is_of_the_control_plane() -> None:
    role = "node-role.kubernetes.io/control-plane"
    assert [role in node(number)["metadata"]["labels"] for number in (1, 2, 3)] == [True, False, False]


def test_a_node_has_a_zone_only_when_the_configuration_gives_it_one() -> None:
    label = "topology.kubernetes.io/zone"
    assert label not in node(1)["metadata"]["labels"]
    assert node(2, zones=["a", "b", "a"])["metadata"]["labels"][label] == "b"


def test_a_node_is_ready_with_its_address_and_pod_range() -> None:
    obj = node(3)
    assert obj["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.168.49.4"}
    assert obj["spec"]["podCIDRs"] == ["10.244.3.0/24"]
    ready = [row for row in obj["status"]["conditions"] if row["type"] == "Ready"]
    assert [(row["status"], row["lastTransitionTime"]) for row in ready] == [("True", NOW)]
    assert obj["status"]["allocatable"] == {"cpu": "2", "memory": "1024Ki", "pods": "250"}


def test_a_node_of_a_dual_stack_cluster_has_an_address_and_a_range_of_each_family() -> None:
    obj = node(3, ip_family="dual")
    internal = [row["address"] for row in obj["status"]["addresses"] if row["type"] == "InternalIP"]
    assert internal == ["192.168.49.4", "fd00:49::4"]
    assert obj["spec"] == {
        "podCIDR": "10.244.3.0/24",
        "podCIDRs": ["10.244.3.0/24", "fd00:10:244:3::/64"],
    }
