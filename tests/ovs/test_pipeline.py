"""What the rows of ``tests.packets`` do not say: TTL, spoofing, ICMP errors, conntrack, changes under way."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from controller.api import wiring
from controller.kubeproxy.explain import explain_conntrack, explain_flows
from tests import packets
from tests.kubeproxy_objects import endpoint_object, slice_object
from tests.ovs.layers import inner
from tests.ovs.world import CLIENT, NODES, World

FRAGMENTATION_NEEDED = 4


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    """Each test begins without connections and with the scene's endpoints."""
    world.switch.flush_conntrack()
    world.update_slices()
    world.sync()
    world.trace.clear()


def ttls(world: World, name: str) -> list[int]:
    """The TTLs of what arrived at a pod or node."""
    port = world.port_of[world.host(name).address]
    return [Ether(frame)[IP].ttl for where, frame in world.trace if where == f"{port}>"]


def test_the_bridge_answers_arp_for_the_gateway_and_for_nothing_else(world: World) -> None:
    alice = world.host("pod/alice")
    port = world.port_of[alice.address]

    def ask(target: str) -> list[tuple[str, bytes]]:
        question = ARP(op=1, hwsrc=alice.mac, psrc=alice.address, pdst=target)
        return world.inject(port, bytes(Ether(src=alice.mac, dst="ff:ff:ff:ff:ff:ff") / question))

    ((out, frame),) = ask(str(wiring.GATEWAY))
    answer = Ether(frame)
    assert out == port
    assert (answer.src, answer.dst) == (wiring.GATEWAY_MAC, alice.mac)
    assert (answer[ARP].op, answer[ARP].hwsrc, answer[ARP].psrc) == (
        2,
        wiring.GATEWAY_MAC,
        str(wiring.GATEWAY),
    )
    assert (answer[ARP].hwdst, answer[ARP].pdst) == (alice.mac, alice.address)
    assert ask(world.host("pod/web-0").address) == []


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
def test_a_spoofed_source_is_dropped(world: World, who: str, source: str | None, mac: str | None) -> None:
    host = world.host(who)
    target = world.host("pod/web-1").address
    packet = Ether(src=mac or host.mac, dst=wiring.GATEWAY_MAC) / IP(src=source or host.address, dst=target)
    sent = world.inject(world.port_of[host.address], bytes(packet / UDP(sport=10001, dport=8080)))
    assert sent == []


def test_every_router_on_the_way_counts_a_hop(world: World) -> None:
    assert world.connect("pod/alice", "pod/web-0", 8080, "udp", 10001).by == "web-0"
    assert world.connect("pod/alice", "pod/web-1", 8080, "udp", 10001).by == "web-1"
    assert world.connect("node1", "pod/web-0", 8080, "udp", 10001).by == "web-0"
    assert ttls(world, "pod/web-0") == [63, 64]
    assert ttls(world, "pod/web-1") == [61]


@pytest.mark.parametrize(
    ("sender", "target", "port"),
    [("pod/alice", "svc/empty", 80), ("client1", "node1", 30084), ("pod/bob", "node1", 30084)],
)
def test_a_refused_datagram_leaves_no_connection_behind(
    world: World, sender: str, target: str, port: int
) -> None:
    """The statsd case: one client port, refused, must be served as soon as there is an endpoint."""
    assert world.connect(sender, target, port, "udp", 10001).kind == "refused"
    at_node1 = [c for c in world.switch.conntrack() if "zone=1002" in c or "zone=1003" in c]
    assert [c for c in at_node1 if "30084" in c or "10.96.0.54" in c] == []
    ports = world.objects["Service", "empty"]["spec"]["ports"]
    far = world.host("pod/far-0").address
    world.tell("MODIFIED", slice_object("empty", ports, [endpoint_object(far, "node2")]))
    world.sync()
    assert world.connect(sender, target, port, "udp", 10001).by == "far-0"


@pytest.mark.parametrize(
    ("target", "port", "expect"), [("10.96.0.99", 80, "dropped"), ("node1", 32000, "refused")]
)
def test_who_asked_by_udp_before_there_was_a_service_is_served_when_there_is_one(
    world: World, target: str, port: int, expect: str
) -> None:
    """One client port all the time: a tracked connection would keep it from the Service for ever."""
    assert world.connect("pod/bob", target, port, "udp", 10001).kind == expect
    service = packets.service("far", "10.96.0.99", 32000)
    service["metadata"]["name"] = "late"
    world.tell("ADDED", service)
    far = endpoint_object(world.host("pod/far-0").address, "node2")
    endpoints = slice_object("late", service["spec"]["ports"], [far])
    world.tell("ADDED", endpoints)
    world.sync()
    assert world.connect("pod/bob", target, port, "udp", 10001).by == "far-0"
    world.tell("DELETED", service)
    world.tell("DELETED", endpoints)


def test_an_established_connection_outlives_its_endpoint_and_new_ones_go_elsewhere(world: World) -> None:
    alice, service = world.host("pod/alice"), world.resolve("svc/web")
    port = next(
        p for p in range(10001, 10100) if world.connect("pod/alice", "svc/web", 80, "tcp", p).by == "web-1"
    )
    ports = world.objects["Service", "web"]["spec"]["ports"]
    only = [endpoint_object(world.host("pod/web-0").address, "node1")]
    world.tell("MODIFIED", slice_object("web", ports, only))
    world.sync()
    more = TCP(sport=port, dport=80, flags="PA", seq=504, ack=1017) / Raw(b"still there?")
    got = world.send(alice, IP(src=alice.address, dst=service) / more)
    assert [bytes(p[Raw]).split()[0] for p in got] == [b"web-1"]
    for source_port in range(10101, 10111):
        assert world.connect("pod/alice", "svc/web", 80, "tcp", source_port).by == "web-0"


def test_a_pod_and_its_node_may_use_one_port_towards_one_server(world: World) -> None:
    """Both leave with the node's address; conntrack gives the second another port."""
    first = world.connect("pod/alice", "client1", 8080, "tcp", 10001)
    second = world.connect("node1", "client1", 8080, "tcp", 10001)
    third = world.connect("pod/web-0", "client1", 8080, "tcp", 10001)
    assert {(o.by, o.source) for o in (first, second, third)} == {("client1", NODES["node1"])}


def test_one_client_port_towards_two_services_over_one_pod(world: World) -> None:
    ports = world.objects["Service", "empty"]["spec"]["ports"]
    solo = world.host("pod/solo-0").address
    world.tell("MODIFIED", slice_object("empty", ports, [endpoint_object(solo, "node1")]))
    world.sync()
    for service in ("svc/solo", "svc/empty", "svc/solo"):
        assert world.connect("pod/alice", service, 80, "udp", 10001).by == "solo-0"


def test_a_syn_ack_that_nobody_asked_for_is_dropped_as_invalid(world: World) -> None:
    alice = world.host("pod/alice")
    target = world.host("pod/web-0").address
    assert (
        world.send(alice, IP(src=alice.address, dst=target) / TCP(sport=10001, dport=8080, flags="SA")) == []
    )
    assert ttls(world, "pod/web-0") == []


def fragmentation_needed(about: Packet, router: str) -> Packet:
    """What a router on the way says of a packet that is too big for the next link."""
    error = ICMP(type=3, code=FRAGMENTATION_NEEDED, nexthopmtu=1400)
    return IP(src=router, dst=about.src) / error / Raw(bytes(about)[:48])


def last_at(world: World, name: str) -> Any:
    port = world.port_of[world.host(name).address]
    return [Ether(frame)[IP] for where, frame in world.trace if where == f"{port}>"][-1]


def test_fragmentation_needed_comes_back_to_the_client_of_a_cluster_ip(world: World) -> None:
    alice = world.host("pod/alice")
    assert world.connect("pod/alice", "svc/far", 80, "udp", 10001).by == "far-0"
    error = fragmentation_needed(last_at(world, "pod/far-0"), "198.51.100.1")
    alice.inbox.clear()
    world.into_cluster("node1", error)
    (got,) = alice.inbox
    assert (inner(got).src, inner(got).dst) == (alice.address, world.resolve("svc/far"))


def test_fragmentation_needed_comes_back_through_both_zones_of_a_node_port(world: World) -> None:
    """From the pod's side to the client, and from the client's side to the pod."""
    assert world.connect("client1", "node1", 30081, "udp", 10001).by == "solo-0"
    request = last_at(world, "pod/solo-0")
    world.client.inbox.clear()
    solo = world.host("pod/solo-0")
    error = fragmentation_needed(request, solo.address)
    error.src = solo.address
    world.send(solo, error)
    (got,) = world.client.inbox
    assert got[IP].src == NODES["node1"]
    assert (inner(got).src, inner(got).dst) == (CLIENT, NODES["node1"])
    assert inner(got)["UDP in ICMP"].dport == 30081

    answer = IP(src=NODES["node1"], dst=CLIENT) / UDP(sport=30081, dport=10001) / Raw(b"too big an answer")
    solo.inbox.clear()
    world.into_cluster("node1", fragmentation_needed(IP(bytes(answer)), "198.51.100.1"))
    (got,) = solo.inbox
    assert got[IP].dst == solo.address
    assert (inner(got).src, inner(got).dst) == (solo.address, NODES["node1"])
    assert inner(got)["UDP in ICMP"].sport == 8080


def test_flows_are_explained_by_what_caused_them(world: World) -> None:
    assert world.connect("pod/alice", "svc/web", 80, "tcp", 10001).kind == "answered"
    rows = explain_flows(world.dump("node1"), world.proxiers["node1"])
    assert len(rows) == len(world.proxiers["node1"].desired().flows)
    assert "nobody" not in {row.cause for row in rows}
    (used,) = [
        r for r in rows if r.table == "ServiceLB" and r.match.startswith("tcp") and "10.96.0.50" in r.match
    ]
    assert used.cause == "Service default/web"
    assert used.packets >= 1
    assert used.why.startswith("The first packet to ClusterIP:port has the group choose an endpoint")
    about = {row.table for row in rows if row.concerns("default", "web")}
    assert about == {"ServiceLB", "EndpointDNAT"}


def test_connections_are_explained_by_service_and_endpoint(world: World) -> None:
    assert world.connect("client1", "node1", 30081, "tcp", 10001).by == "solo-0"
    assert world.connect("pod/alice", "svc/far", 80, "tcp", 10002).by == "far-0"
    services = [o for (kind, _), o in world.objects.items() if kind == "Service"]
    nodes = [o for (kind, _), o in world.objects.items() if kind == "Node"]
    rows = explain_conntrack("\n".join(world.switch.conntrack()), services, nodes)
    solo, far = world.host("pod/solo-0").address, world.host("pod/far-0").address
    whys = {(r.node, r.zone, r.service): r.why for r in rows}
    assert whys["node1", "DNAT", "NodePort of Service default/solo"] == (
        f"{CLIENT}:10001 asked for NodePort of Service default/solo ({NODES['node1']}:30081); "
        f"node1 chose {solo}:8080 and gives it the node's address."
    )
    assert whys["node1", "DNAT", "Service default/far"].endswith(
        f"node1 chose {far}:8080 and keeps the source address."
    )
    assert whys["node1", "SNAT", ""].startswith(f"{CLIENT}:10001 leaves node1 as {NODES['node1']}:")


def test_the_scene_is_what_the_rows_think_it_is() -> None:
    targets = {
        row.to.split("/")[1].split(":")[0] for row in packets.ROWS if row.to.startswith(("pod/", "svc/"))
    }
    assert targets <= {obj["metadata"]["name"] for obj in packets.SCENE}
