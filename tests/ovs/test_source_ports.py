"""Whose source port is whose when pods, clients and the node itself share the node's address."""

from __future__ import annotations

import re

import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from controller.api import wiring
from tests.ovs.layers import header
from tests.ovs.world import World

pytestmark = pytest.mark.usefixtures("family")
OWN = range(wiring.MASQUERADE_PORTS.stop, 1 << 16)


def seen_ports(world: World) -> set[int]:
    """The source ports that node1's connections to the client have outside."""
    client, node1 = world.resolve("client1"), world.resolve("node1")
    pattern = rf"reply=\(src={client},dst={node1},sport=8080,dport=(\d+)\),zone=1003"
    return {int(m[1]) for line in world.switch.conntrack() if (m := re.search(pattern, line))}


def ask(world: World, sender: str, port: int) -> None:
    host = world.host(sender)
    ip = header(host.at(world.family), world.resolve("client1"))
    world.send(host, ip / UDP(sport=port, dport=8080) / Raw(b"who"))


def test_a_masqueraded_pod_keeps_its_port(world: World) -> None:
    world.switch.flush_conntrack()
    ask(world, "pod/alice", 12345)
    assert seen_ports(world) == {12345}


def test_two_pods_with_one_port_get_two(world: World) -> None:
    world.switch.flush_conntrack()
    ask(world, "pod/alice", 12345)
    ask(world, "pod/web-0", 12345)
    assert len(seen_ports(world)) == 2
    assert 12345 in seen_ports(world)


def test_a_pod_gets_another_port_for_one_of_the_node_s(world: World) -> None:
    world.switch.flush_conntrack()
    for port in (OWN.start, OWN.stop - 1):
        ask(world, "pod/alice", port)
    ports = seen_ports(world)
    assert len(ports) == 2
    assert ports <= set(wiring.MASQUERADE_PORTS)


def test_the_node_keeps_its_port_and_a_pod_cannot_have_it(world: World) -> None:
    world.switch.flush_conntrack()
    ask(world, "node1", 12345)  # bound to it explicitly: by itself it would choose one of OWN
    ask(world, "pod/alice", 12345)
    assert len(seen_ports(world)) == 2
    assert 12345 in seen_ports(world)


@pytest.mark.parametrize("order", [("node1", "pod/alice"), ("pod/alice", "node1")], ids="-then-".join)
def test_node_and_pod_are_both_answered_on_ports_of_their_own(world: World, order: tuple[str, str]) -> None:
    world.switch.flush_conntrack()
    for _ in range(2):
        for sender in order:
            outcome = world.connect(sender, "client1", 8080, "udp", OWN.start + 1)
            assert outcome.kind == "answered"
            assert outcome.source == world.resolve("node1")


@pytest.mark.parametrize("sender", ["pod/bob", "pod/alice", "client1"])
def test_one_client_port_towards_several_addresses_over_one_pod(world: World, sender: str) -> None:
    """The pod tells them apart by the source port, of which the second gets another."""
    world.switch.flush_conntrack()
    targets = [("node3", 30081), ("node3", 30072)]
    targets += [("svc/solo", 80), ("svc/self", 80)] if sender != "client1" else [("lb/self@node1", 80)]
    for _ in range(2):
        for to, port in targets:
            outcome = world.connect(sender, to, port, "udp", 12345)
            assert (outcome.kind, outcome.by) == ("answered", "solo-0"), to
