"""Which nodes an external address leads to: by policy, by health, and who is never asked."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from controller.api.errors import UserError
from controller.api.wiring import KUBE_PROXY_HEALTH_PORT as PROXY
from topo.balancer import (
    EXCLUDE_LABEL,
    Target,
    TargetHealth,
    affine,
    eligible,
    health_ports,
    nodes_of_clients,
    targets,
    ways,
)
from topo.config import ClusterConfig, HealthCheckConfig

VIP, OTHER = IPv4Address("203.0.113.7"), IPv4Address("203.0.113.8")
VIP6 = IPv6Address("2001:db8:203::7")
CHECK = 31234
NODES = ("node1", "node2")
Obj = dict[str, Any]


def service(*addresses: str, ip_mode: str = "VIP", **spec: Any) -> Obj:
    ingress = [{"ip": address, "ipMode": ip_mode} for address in addresses]
    return {
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def node(name: str, address: str, **metadata: Any) -> Obj:
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]
    return {"kind": "Node", "metadata": {"name": name, **metadata}, "status": {"addresses": addresses}}


def observed(**states: bool) -> TargetHealth:
    health = TargetHealth(HealthCheckConfig(healthy=2, unhealthy=3))
    health.follow([Target(name, PROXY) for name in NODES])
    for name, passed in states.items():
        health.observe(Target(name, PROXY), passed)
    return health


def test_policy_cluster_asks_kube_proxy_and_policy_local_the_services_own_port() -> None:
    local = service("203.0.113.8", externalTrafficPolicy="Local", healthCheckNodePort=CHECK)
    assert health_ports([service("203.0.113.7"), local]) == {VIP: PROXY, OTHER: CHECK}


@pytest.mark.parametrize(
    "obj",
    [
        service(),
        service("10.96.0.7"),
        service("203.0.113.7", ip_mode="Proxy"),
        service("fd00:10:96::7"),
        {**service("203.0.113.7"), "spec": {"type": "ClusterIP"}},
    ],
    ids=["pending", "a tunnel's ClusterIP", "ipMode Proxy", "an IPv6 ClusterIP", "no balancer any more"],
)
def test_these_are_no_addresses_of_the_cloud(obj: Obj) -> None:
    assert health_ports([obj]) == {}


def test_nodes_that_leave_or_are_excluded_are_no_targets() -> None:
    nodes = [
        node("node1", "192.168.49.2"),
        node("node2", "192.168.49.3", labels={EXCLUDE_LABEL: ""}),
        node("node3", "192.168.49.4", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    assert eligible(nodes) == {"node1": {4: IPv4Address("192.168.49.2")}}


def test_every_node_is_asked_once_for_all_services_of_one_port() -> None:
    assert targets({VIP: PROXY, OTHER: PROXY}, NODES) == {Target("node1", PROXY), Target("node2", PROXY)}
    assert targets({VIP: PROXY, OTHER: CHECK}, ["node1"]) == {Target("node1", PROXY), Target("node1", CHECK)}
    assert targets({}, NODES) == set()


def test_an_address_leads_to_the_healthy_nodes() -> None:
    assert ways({VIP: PROXY}, NODES, observed(node1=True, node2=False)) == {VIP: ("node1",)}
    assert ways({VIP: PROXY}, NODES, observed(node1=False, node2=False)) == {VIP: ()}


def test_a_new_address_waits_until_every_node_has_been_asked() -> None:
    half = observed(node2=True)
    assert ways({VIP: PROXY}, NODES, half) == {}
    assert ways({VIP: PROXY}, NODES, half, before={OTHER: NODES}) == {}


def test_a_node_that_has_not_been_asked_yet_counts_as_before() -> None:
    half = observed(node2=False)
    assert ways({VIP: PROXY}, NODES, half, before={VIP: NODES}) == {VIP: ("node1",)}
    assert ways({VIP: PROXY}, NODES, half, before={VIP: ("node2",)}) == {VIP: ()}
    assert ways({VIP: PROXY}, NODES, half, before={VIP: ()}) == {VIP: ()}


def test_clients_of_a_service_with_affinity_stay_with_a_node_while_it_is_there() -> None:
    sticky = service("203.0.113.8", sessionAffinity="ClientIP")
    assert affine([service("203.0.113.7"), sticky]) == {OTHER}
    clients = [IPv4Address(f"198.51.100.{number}") for number in range(11, 111)]
    three, two = ("node1", "node2", "node3"), ("node1", "node3")
    before = nodes_of_clients(clients, [OTHER], {VIP: three, OTHER: three})
    after = nodes_of_clients(clients, [OTHER], {VIP: three, OTHER: two})
    assert set(before) == {(client, OTHER) for client in clients}
    assert set(before.values()) == set(three)
    assert {before[pair] for pair in before if before[pair] != after[pair]} == {"node2"}
    assert nodes_of_clients(clients, [OTHER], {OTHER: ()}) == {}


def test_the_first_answer_counts_later_ones_by_the_thresholds() -> None:
    health, target = observed(node1=True), Target("node1", PROXY)
    changes = [health.observe(target, passed) for passed in (False, False, True, False, False, False)]
    assert changes == [False, False, False, False, False, True]
    assert health.state(target) is False
    assert [health.observe(target, True) for _ in range(2)] == [False, True]
    assert health.state(target) is True


def test_a_target_that_is_asked_again_later_starts_anew() -> None:
    health, target = observed(node1=False), Target("node1", PROXY)
    health.follow([])
    assert health.state(target) is None
    assert health.observe(target, True) is False
    assert health.known()
    health.follow([target])
    assert not health.known()


def test_the_cloud_is_off_unless_asked_for() -> None:
    assert ClusterConfig().cloud is False
    asked = ClusterConfig.from_mapping({"cloud": True, "health_check": {"interval": 0.2, "unhealthy": 3}})
    assert asked.cloud
    assert asked.health_check == HealthCheckConfig(interval=0.2, unhealthy=3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cloud": "yes"}, "cloud: true or false is needed, not 'yes'"),
        ({"health_check": 3}, "health_check: a mapping like"),
        ({"health_check": {"period": 3}}, "health_check: period: there is no such key; known are interval"),
        ({"health_check": {"interval": "1s"}}, "health_check: interval: a number is needed, not '1s'"),
        ({"health_check": {"timeout": 0}}, "health_check.timeout: seconds from 0.01 to 3600, not 0"),
        ({"health_check": {"healthy": 1.5}}, "health_check.healthy: a whole number from 1 to 3600, not 1.5"),
    ],
)
def test_a_wrong_choice_is_one_sentence(data: Obj, said: str) -> None:
    with pytest.raises(UserError) as caught:
        ClusterConfig.from_mapping(data)
    assert str(caught.value).startswith(said)


def test_an_address_of_each_family_is_asked_after_in_its_own_family() -> None:
    ports = health_ports([service("203.0.113.7", "2001:db8:203::7", "fd00:10:96::7")])
    assert ports == {VIP: PROXY, VIP6: PROXY}
    assert targets(ports, ["node1"]) == {Target("node1", PROXY, 4), Target("node1", PROXY, 6)}
    both = node("node1", "192.168.49.2")
    both["status"]["addresses"].append({"type": "InternalIP", "address": "fd00:49::2"})
    assert eligible([both]) == {"node1": {4: IPv4Address("192.168.49.2"), 6: IPv6Address("fd00:49::2")}}


def test_a_node_that_answers_in_one_family_only_is_a_way_in_that_one_only() -> None:
    health = TargetHealth(HealthCheckConfig())
    ports: dict[IPv4Address | IPv6Address, int] = {VIP: PROXY, VIP6: PROXY}
    health.follow(targets(ports, ["node1"]))
    health.observe(Target("node1", PROXY, 4), True)
    health.observe(Target("node1", PROXY, 6), False)
    assert ways(ports, ["node1"], health) == {VIP: ("node1",), VIP6: ()}


def test_a_client_stays_with_a_node_in_each_family_by_itself() -> None:
    clients: list[IPv4Address | IPv6Address] = [
        IPv4Address("198.51.100.11"),
        IPv6Address("2001:db8:198::11"),
    ]
    kept = nodes_of_clients(clients, [VIP, VIP6], {VIP: NODES, VIP6: NODES})
    assert set(kept) == {(clients[0], VIP), (clients[1], VIP6)}
