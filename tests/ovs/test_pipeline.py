"""What the rows of ``tests.packets`` do not say: TTL, spoofing, ICMP errors, conntrack, changes under way.

In both families, with the IPv4 address standing for the other one's (``in_family``).
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from controller.api import wiring
from controller.kubeproxy.explain import explain_conntrack, explain_flows
from tests import packets
from tests.kubeproxy_objects import endpoint_object
from tests.ovs.layers import error, framed, header, hops_of, inner, ip_of
from tests.ovs.world import CLIENT, NODES, Outcome, World
from tests.packets_dual import dual, in_ipv6


def in_family(address: str, family: str) -> str:
    return address if family == "IPv4" else in_ipv6(address)


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    """Each test begins without connections and with the scene's endpoints."""
    world.switch.flush_conntrack()
    world.update_slices()
    world.sync()
    world.trace.clear()


def udp(world: World, family: str, sender: str, to: str, port: int) -> Outcome:
    """Always from one client port."""
    return world.connect(sender, to, port, "udp", 10001, family=family)


def ttls(world: World, name: str) -> list[int]:
    """The TTLs of what arrived at a pod or node."""
    port = world.port_of[world.host(name).address]
    return [hops_of(ip_of(Ether(frame))) for where, frame in world.trace if where == f"{port}>"]


@pytest.mark.parametrize(
    ("who", "source", "mac"),
    [
        ("pod/alice", "10.244.1.3", None),
        ("pod/alice", "192.168.49.2", None),
        ("pod/alice", None, "0a:58:0a:f4:01:03"),
        ("node1", "10.244.1.2", None),
        ("node1", "192.168.49.3", None),
    ],
)
def test_a_spoofed_source_is_dropped(
    world: World, family: str, who: str, source: str | None, mac: str | None
) -> None:
    host = world.host(who)
    target = world.host("pod/web-1").at(family)

    def say(source: str, mac: str) -> list[tuple[str, bytes]]:
        packet = header(source, target) / UDP(sport=10001, dport=8080)
        frame = Ether(src=mac, dst=wiring.GATEWAY_MAC) / packet
        return world.inject(world.port_of[host.address], bytes(frame))

    assert say(in_family(source, family) if source else host.at(family), mac or host.mac) == []
    assert len(say(host.at(family), host.mac)) == 1


def test_every_router_on_the_way_counts_a_hop(world: World, family: str) -> None:
    assert udp(world, family, "pod/alice", "pod/web-0", 8080).by == "web-0"
    assert udp(world, family, "pod/alice", "pod/web-1", 8080).by == "web-1"
    assert udp(world, family, "node1", "pod/web-0", 8080).by == "web-0"
    assert ttls(world, "pod/web-0") == [63, 64]
    assert ttls(world, "pod/web-1") == [61]


@pytest.mark.parametrize(
    ("sender", "target", "port"),
    [("pod/alice", "svc/empty", 80), ("client1", "node1", 30084), ("pod/bob", "node1", 30084)],
)
def test_a_refused_datagram_leaves_no_connection_behind(
    world: World, family: str, sender: str, target: str, port: int
) -> None:
    """The statsd case: one client port, refused, must be served as soon as there is an endpoint."""
    assert udp(world, family, sender, target, port).kind == "refused"
    at_node1 = [c for c in world.switch.conntrack() if "zone=1002" in c or "zone=1003" in c]
    assert [c for c in at_node1 if "30084" in c or world.resolve("svc/empty", family) in c] == []
    world.set_endpoints("empty", [endpoint_object(world.host("pod/far-0").address, "node2")])
    world.sync()
    assert udp(world, family, sender, target, port).by == "far-0"


@pytest.mark.parametrize(
    ("target", "port", "expect"), [("10.96.0.99", 80, "dropped"), ("node1", 32000, "refused")]
)
def test_who_asked_by_udp_before_there_was_a_service_is_served_when_there_is_one(
    world: World, family: str, target: str, port: int, expect: str
) -> None:
    """One client port all the time: a tracked connection would keep it from the Service for ever."""
    target = target if target == "node1" else in_family(target, family)
    assert udp(world, family, "pod/bob", target, port).kind == expect
    service = dual(packets.service("far", "10.96.0.99", 32000))
    service["metadata"]["name"] = "late"
    world.tell("ADDED", service)
    world.set_endpoints("late", [endpoint_object(world.host("pod/far-0").address, "node2")])
    world.sync()
    assert udp(world, family, "pod/bob", target, port).by == "far-0"
    world.set_endpoints("late", [])
    world.tell("DELETED", service)


def test_an_established_connection_outlives_its_endpoint_and_new_ones_go_elsewhere(
    world: World, family: str
) -> None:
    def ask(source_port: int) -> str:
        return world.connect("pod/alice", "svc/web", 80, "tcp", source_port, family=family).by

    alice, service = world.host("pod/alice"), world.resolve("svc/web", family)
    port = next(p for p in range(10001, 10100) if ask(p) == "web-1")
    world.set_endpoints("web", [endpoint_object(world.host("pod/web-0").address, "node1")])
    world.sync()
    more = TCP(sport=port, dport=80, flags="PA", seq=504, ack=1017) / Raw(b"still there?")
    got = world.send(alice, header(alice.at(family), service) / more)
    assert [bytes(p[Raw]).split()[0] for p in got] == [b"web-1"]
    for source_port in range(10101, 10111):
        assert ask(source_port) == "web-0"


def test_a_pod_and_its_node_may_use_one_port_towards_one_server(world: World, family: str) -> None:
    """Both leave with the node's address; conntrack gives the second another port."""
    outcomes = [
        world.connect(sender, "client1", 8080, "tcp", 10001, family=family)
        for sender in ("pod/alice", "node1", "pod/web-0")
    ]
    assert {(o.by, o.source) for o in outcomes} == {("client1", in_family(NODES["node1"], family))}


def test_one_client_port_towards_two_services_over_one_pod(world: World, family: str) -> None:
    world.set_endpoints("empty", [endpoint_object(world.host("pod/solo-0").address, "node1")])
    world.sync()
    for service in ("svc/solo", "svc/empty", "svc/solo"):
        assert udp(world, family, "pod/alice", service, 80).by == "solo-0"


def test_one_client_port_in_both_families_at_once(world: World) -> None:
    """One pair of zones for both: their connections do not meet."""
    for family in ("IPv4", "IPv6", "IPv4", "IPv6"):
        outcome = udp(world, family, "client1", "node1", 30081)
        assert (outcome.by, outcome.source) == ("solo-0", in_family(NODES["node1"], family))


def test_a_syn_ack_that_nobody_asked_for_is_dropped_as_invalid(world: World, family: str) -> None:
    alice = world.host("pod/alice")
    packet = header(alice.at(family), world.host("pod/web-0").at(family))
    assert world.send(alice, packet / TCP(sport=10001, dport=8080, flags="SA")) == []
    assert ttls(world, "pod/web-0") == []


def last_at(world: World, name: str) -> Any:
    port = world.port_of[world.host(name).address]
    return [ip_of(Ether(frame)) for where, frame in world.trace if where == f"{port}>"][-1]


ROUTER = "198.51.100.1"


def test_too_big_a_packet_is_told_the_client_of_a_cluster_ip(world: World, family: str) -> None:
    """Fragmentation needed, or packet too big; of a router on the way."""
    alice = world.host("pod/alice")
    assert udp(world, family, "pod/alice", "svc/far", 80).by == "far-0"
    alice.inbox.clear()
    about = error("size", last_at(world, "pod/far-0"), in_family(ROUTER, family), 1400)
    world.into_cluster("node1", about)
    (got,) = alice.inbox
    assert (inner(got).src, inner(got).dst) == (alice.at(family), world.resolve("svc/far", family))


def test_too_big_a_packet_is_told_through_both_zones_of_a_node_port(world: World, family: str) -> None:
    """From the pod's side to the client, and from the client's side to the pod."""
    node1, client = in_family(NODES["node1"], family), in_family(CLIENT, family)
    assert udp(world, family, "client1", "node1", 30081).by == "solo-0"
    solo = world.host("pod/solo-0")
    world.client.inbox.clear()
    world.send(solo, error("size", last_at(world, "pod/solo-0"), solo.at(family), 1400))
    (got,) = world.client.inbox
    assert ip_of(got).src == node1
    assert (inner(got).src, inner(got).dst) == (client, node1)
    assert inner(got)["UDP in ICMP"].dport == 30081

    answer = header(node1, client) / UDP(sport=30081, dport=10001) / Raw(b"too big an answer")
    solo.inbox.clear()
    about = ip_of(Ether(bytes(framed(answer))))
    world.into_cluster("node1", error("size", about, in_family(ROUTER, family), 1400))
    (got,) = solo.inbox
    assert ip_of(got).dst == solo.at(family)
    assert (inner(got).src, inner(got).dst) == (solo.at(family), node1)
    assert inner(got)["UDP in ICMP"].sport == 8080


def test_flows_are_explained_by_what_caused_them(world: World, family: str) -> None:
    assert world.connect("pod/alice", "svc/web", 80, "tcp", 10001, family=family).kind == "answered"
    rows = explain_flows(world.dump("node1"), world.proxiers["node1"])
    assert len(rows) == len(world.proxiers["node1"].desired().flows)
    assert "nobody" not in {row.cause for row in rows}
    to = f"_dst={world.resolve('svc/web', family)},tp_dst=80"
    (used,) = [
        r for r in rows if r.table == "ServiceLB" and r.match.startswith("tcp") and r.match.endswith(to)
    ]
    assert used.cause == "Service default/web"
    assert used.packets >= 1
    assert used.why.startswith("The first packet to ClusterIP:port has the group choose an endpoint")
    about = {row.table for row in rows if row.concerns("default", "web")}
    assert about == {"ServiceLB", "EndpointDNAT"}


def test_connections_are_explained_by_service_and_endpoint(world: World, family: str) -> None:
    def pair(address: str, port: int) -> str:
        return f"{address}:{port}" if family == "IPv4" else f"[{address}]:{port}"

    assert world.connect("client1", "node1", 30081, "tcp", 10001, family=family).by == "solo-0"
    assert world.connect("pod/alice", "svc/far", 80, "tcp", 10002, family=family).by == "far-0"
    assert world.connect("pod/solo-0", "svc/solo", 80, "udp", 10003, family=family).by == "solo-0"
    services = [o for (kind, _), o in world.objects.items() if kind == "Service"]
    nodes = [o for (kind, _), o in world.objects.items() if kind == "Node"]
    rows = explain_conntrack("\n".join(world.switch.conntrack()), services, nodes)
    solo, far = (world.host(name).at(family) for name in ("pod/solo-0", "pod/far-0"))
    client, node1 = (world.host(name).at(family) for name in ("client1", "node1"))
    whys = {(r.node, r.zone, r.service): r.why for r in rows}
    assert whys["node1", "DNAT", "NodePort of Service default/solo"] == (
        f"{pair(client, 10001)} asked for NodePort of Service default/solo ({pair(node1, 30081)}); "
        f"node1 chose {pair(solo, 8080)} and gives it the node's address."
    )
    assert whys["node1", "DNAT", "Service default/far"].endswith(
        f"node1 chose {pair(far, 8080)} and keeps the source address."
    )
    assert whys["node1", "DNAT", "Service default/solo"].endswith(
        f"it leaves as {wiring.RANGES[family].hairpin_virtual}."
    )
    snat = [r.why for r in rows if (r.node, r.zone) == ("node1", "SNAT")]
    assert any(f"{pair(client, 10001)} leaves node1 as {pair(node1, 0)[:-1]}" in why for why in snat)


def test_the_scene_is_what_the_rows_think_it_is() -> None:
    targets = {
        row.to.split("/")[1].split(":")[0] for row in packets.ROWS if row.to.startswith(("pod/", "svc/"))
    }
    assert targets <= {obj["metadata"]["name"] for obj in packets.SCENE}
