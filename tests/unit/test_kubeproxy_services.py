"""Reading Services and EndpointSlices as kube-proxy does, and choosing among endpoints."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.kubeproxy import proxier as proxier_module
from controller.kubeproxy.balance import DP_HASH_MOST, SLOTS, shares
from controller.kubeproxy.explain import explain_flows
from controller.kubeproxy.fields import IPV4, IPV6
from controller.kubeproxy.flows_routing import prefixes
from controller.kubeproxy.pipeline import OUTPUT, SERVICE_LB
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.services import Endpoint, ServicePortName, merge, service_ports
from controller.kubeproxy.topology import categorize, usable
from tests.kubeproxy_objects import endpoint_object, node_object, port_object, service_object, slice_object

HTTP = port_object(80, 8080, "http", node_port=30080)
DNS = port_object(53, 5353, "dns", "UDP")


def test_a_service_has_a_service_port_for_each_port() -> None:
    http, dns = service_ports(service_object("web", "10.96.0.50", HTTP, DNS), IPV4)
    assert str(http.name) == "default/web:http/TCP"
    assert dns.name == ServicePortName("default", "web", "dns", "UDP")
    assert (http.cluster_ip, http.port, http.node_port) == (IPv4Address("10.96.0.50"), 80, 30080)
    assert (dns.port, dns.node_port) == (53, 0)


@pytest.mark.parametrize(
    "spec",
    [{"clusterIP": "None"}, {"type": "ExternalName", "clusterIP": ""}, {"clusterIP": ""}],
    ids=["headless", "a name only", "not allocated yet"],
)
def test_what_has_no_address_is_not_proxied(spec: dict[str, Any]) -> None:
    assert service_ports(service_object("web", "10.96.0.50", HTTP, **spec), IPV4) == []


@pytest.mark.parametrize(
    "label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"]
)
def test_a_service_of_another_proxy_is_left_alone(label: str) -> None:
    service = service_object("web", "10.96.0.50", HTTP)
    service["metadata"]["labels"] = {label: "other"}
    assert service_ports(service, IPV4) == []


def test_each_family_has_its_own_cluster_ip() -> None:
    service = service_object("web", "10.96.0.50", HTTP, clusterIPs=["10.96.0.50", "fd00:10:96::50"])
    assert [str(p.cluster_ip) for f in (IPV4, IPV6) for p in service_ports(service, f)] == [
        "10.96.0.50",
        "fd00:10:96::50",
    ]


def test_policies_and_affinity_are_read() -> None:
    (port,) = service_ports(
        service_object(
            "web", "10.96.0.50", HTTP, externalTrafficPolicy="Local", internalTrafficPolicy="Local",
            sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        ), IPV4)  # fmt: skip
    assert (port.external_local, port.internal_local, port.affinity_seconds) == (True, True, 60)


def test_slices_of_one_service_are_one_set_and_the_better_state_wins() -> None:
    ready, unready = endpoint_object("10.244.1.2"), endpoint_object("10.244.1.2", ready=False)
    one, two = slice_object("web", [HTTP], [unready]), slice_object("web", [HTTP], [ready], "1")
    for order in ([one, two], [two, one]):
        (endpoint,) = merge(order, IPV4)["http", "TCP"].values()
        assert endpoint.ready


def test_conditions_that_are_absent_mean_ready() -> None:
    bare = slice_object("web", [HTTP], [{"addresses": ["10.244.1.2"]}])
    (endpoint,) = merge([bare], IPV4)["http", "TCP"].values()
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (True, True, False)


def test_one_port_name_may_mean_other_numbers_in_other_slices() -> None:
    other = port_object(80, 9090, "http")
    slices = [
        slice_object("web", [HTTP], [endpoint_object("10.244.1.2")]),
        slice_object("web", [other], [endpoint_object("10.244.1.3")], "1"),
    ]
    assert sorted(map(str, merge(slices, IPV4)["http", "TCP"].values())) == [
        "10.244.1.2:8080",
        "10.244.1.3:9090",
    ]


def endpoint(last: int, *, ready: bool = True, serving: bool = True, terminating: bool = False) -> Endpoint:
    return Endpoint(IPv4Address(f"10.244.1.{last}"), 8080, ready, serving, terminating, f"node{last}")


def test_ready_endpoints_are_used_and_terminating_ones_only_when_none_is_ready() -> None:
    ready = endpoint(1)
    leaving = endpoint(2, ready=False, terminating=True)
    failing = endpoint(3, ready=False, serving=False)
    assert usable([failing, leaving, ready]) == (ready,)
    assert usable([failing, leaving]) == (leaving,)
    assert usable([failing]) == ()


PORT = port_object(80, 8080, "http")


def test_local_policies_see_the_endpoints_of_their_node_only() -> None:
    (port,) = service_ports(service_object("web", "10.96.0.50", PORT, internalTrafficPolicy="Local"), IPV4)
    chosen = categorize([endpoint(2), endpoint(1)], port, "node1")
    assert chosen.local == (endpoint(1),)
    assert chosen.cluster == (), "nobody asks under policy Cluster"
    elsewhere = categorize([endpoint(2)], port, "node1")
    assert (elsewhere.local, elsewhere.any) == ((), True)


def test_policy_local_falls_back_to_the_node_s_own_terminating_endpoints() -> None:
    (port,) = service_ports(service_object("web", "10.96.0.50", PORT, internalTrafficPolicy="Local"), IPV4)
    leaving = endpoint(1, ready=False, terminating=True)
    assert categorize([leaving, endpoint(2)], port, "node1").local == (leaving,)


def test_external_traffic_needs_both_sets_under_policy_local() -> None:
    policies = {"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}
    web = service_object("web", "10.96.0.50", HTTP, **policies)
    (port,) = service_ports(web, IPV4)
    chosen = categorize([endpoint(1), endpoint(2)], port, "node1")
    assert (chosen.cluster, chosen.local) == ((endpoint(1), endpoint(2)), (endpoint(1),))


def hinted(last: int, zone: str = "", node: str = "", *, ready: bool = True) -> Endpoint:
    return endpoint(last, ready=ready)._replace(
        zone_hints=(zone,) * bool(zone), node_hints=(node,) * bool(node)
    )


@pytest.mark.parametrize(
    ("endpoints", "expect"),
    [
        ([hinted(1, "a"), hinted(2, "b")], [1]),
        ([hinted(1, "a"), hinted(2)], [1, 2]),  # one has no hint: none counts
        ([hinted(1, "b"), hinted(2, "b")], [1, 2]),  # none is for this zone
        ([hinted(1, "a"), hinted(2, "a", ready=False), hinted(3, ready=False)], [1]),
        ([hinted(1, "a", "node1"), hinted(2, "a", "node2")], [1]),  # the node before the zone
        ([hinted(2, "a", "node2"), hinted(3, "b", "node3")], [2]),
    ],
)
def test_hints_narrow_policy_cluster(endpoints: list[Endpoint], expect: list[int]) -> None:
    (port,) = service_ports(service_object("web", "10.96.0.50", HTTP), IPV4)
    chosen = categorize(endpoints, port, "node1", "a")
    assert [int(e.address) & 255 for e in chosen.cluster] == expect


def test_hints_for_zones_need_a_node_with_a_zone() -> None:
    (port,) = service_ports(service_object("web", "10.96.0.50", HTTP), IPV4)
    assert len(categorize([hinted(1, "a"), hinted(2, "b")], port, "node1").cluster) == 2


@given(st.integers(1, 300))
def test_every_endpoint_gets_its_share(count: int) -> None:
    method, buckets = shares(count)
    weights = [0] * count
    for bucket in buckets:
        weights[bucket.place] += bucket.weight
    assert method == ("dp_hash" if count <= DP_HASH_MOST or count == 64 else "hash")
    assert max(weights) - min(weights) <= 1
    if method == "dp_hash" and count & (count - 1):
        assert sum(weights) == SLOTS
        assert min(bucket.weight for bucket in buckets) == 1


@given(st.integers(0, 65536), st.integers(0, 65536))
def test_prefixes_cover_exactly_their_range(start: int, stop: int) -> None:
    covered = [
        port
        for value, mask in prefixes(range(max(1, start), stop))
        for port in range(value, value + (0xFFFF & ~mask) + 1)
    ]
    assert covered == list(range(max(1, start), stop))


@pytest.mark.parametrize("services", [1, 200])
def test_a_change_recomputes_its_own_share_however_many_services_there_are(
    services: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxier = Proxier("node1")
    proxier.apply("ADDED", node_object("node1"))
    proxier.set_ports({"node1-host": 1, "node1-up": 2})
    for i in range(services):
        proxier.apply("ADDED", service_object(f"s{i}", f"10.96.1.{i}", DNS))
        proxier.apply("ADDED", slice_object(f"s{i}", [DNS], [endpoint_object(f"10.244.2.{i}")]))
    proxier.changes()
    built: list[str] = []
    for name in ("flows_of_service_port", "flows_of_endpoint", "flows_of_pod", "flows_of_node"):
        monkeypatch.setattr(proxier_module, name, _counted(name, getattr(proxier_module, name), built))
    proxier.apply(
        "MODIFIED", slice_object("s0", [DNS], [endpoint_object("10.244.2.0"), endpoint_object("10.244.3.9")])
    )
    changes = proxier.changes()
    assert built == ["flows_of_service_port", "flows_of_endpoint"]
    assert (len(changes.flows), len(changes.groups), changes.flows_gone, changes.groups_gone) == (
        1,
        1,
        set(),
        set(),
    )


def _counted(name: str, function: Any, built: list[str]) -> Any:
    def counted(*args: Any) -> Any:
        built.append(name)
        return function(*args)

    return counted


def test_a_flow_that_no_object_wants_is_explained_as_such() -> None:
    proxier = Proxier("node1")
    proxier.apply("ADDED", node_object("node1"))
    proxier.set_ports({"node1-host": 1, "node1-up": 2})
    cookie = next(f for f in proxier.desired().flows.values() if f.table.name == "Output").cookie
    dump = (
        f" cookie=0x77, duration=1.5s, table={SERVICE_LB.id}, n_packets=3, n_bytes=180, ip actions=drop\n"
        f" cookie={cookie ^ 1:#x}, duration=1.5s, table={OUTPUT.id - 1}, n_packets=0, n_bytes=0, "
        "priority=5 actions=drop\n"
    )
    stranger, older = explain_flows(dump, proxier)
    assert (stranger.table, stranger.priority, stranger.cause, stranger.packets) == (
        "ServiceLB",
        32768,
        "nobody",
        3,
    )
    assert older.cause == "Node node1"
    assert older.why == "An older state of Node node1: it goes with the next change."
