"""Datagrams larger than a packet, on the dummy datapath: the first fragment chooses, the others follow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.packet import Packet

from tests.ovs.test_packets import CONNECTIONS, source_of
from tests.ovs.world import World
from tests.packets import Row
from tests.packets_fragments import FRAGMENT_ROWS, SIZES


def shuffled(pieces: list[Packet]) -> list[Packet]:
    return random.Random(len(pieces)).sample(pieces, len(pieces))


@pytest.fixture(params=[list, lambda p: p[::-1], shuffled], ids=["in order", "backwards", "shuffled"])
def world_in_order(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    world.switch.flush_conntrack()
    world.in_order = request.param
    yield world
    world.in_order = list


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("row", FRAGMENT_ROWS, ids=lambda row: row.name)
def test_row(world_in_order: World, family: str, row: Row, size: int) -> None:
    world = world_in_order
    if family == "IPv6" and row.to.startswith("localhost"):
        row = replace(row, to=row.to.replace("localhost", row.sender))
    host, _, protocol = row.to.rpartition("/")
    target, _, port = host.partition(":")
    several = isinstance(row.expect, tuple) and len(row.expect) > 1
    outcomes = [
        world.connect(row.sender, target, int(port), protocol, source_port, size)
        for source_port in (CONNECTIONS if several else CONNECTIONS[:2])
    ]
    if isinstance(row.expect, str):
        assert {o.kind for o in outcomes} == {row.expect}
        return
    assert {o.kind for o in outcomes} == {"answered"}
    answered = {o.by for o in outcomes}
    assert len(answered) == 1 and answered < set(row.expect) if row.one else answered == set(row.expect)
    for outcome in outcomes:
        assert outcome.source == source_of(world, row, outcome.by)


def test_a_connection_that_fragments_opened_goes_on_with_small_datagrams(world: World) -> None:
    world.switch.flush_conntrack()
    for port in CONNECTIONS:
        opened = world.connect("client1", "node3", 30080, "udp", port, 4000)
        assert opened.kind == "answered"
        assert world.connect("client1", "node3", 30080, "udp", port) == opened
        assert world.connect("client1", "node3", 30080, "udp", port, 2000) == opened


def test_datagrams_of_several_clients_that_arrive_mixed_go_each_its_way(world: World) -> None:
    """Twelve datagrams, a fragment of each in turn, from two ports of one pod to two Services."""
    world.switch.flush_conntrack()
    host = world.host("pod/bob")
    host.inbox.clear()
    held: list[Packet] = []
    world.in_order = lambda pieces: held.extend(pieces) or []  # type: ignore[func-returns-value]
    asked = [(to, 10001 + n) for n in range(6) for to in ("svc/web", "svc/far")]
    for to, source_port in asked:
        assert world.connect("pod/bob", to, 80, "udp", source_port, 4000).kind == "dropped"
    world.in_order = list
    for place in (1, 0, 2):
        for piece in held[place::3]:
            world.emit(host, piece)
            world.drain()
    got = [(p.sprintf("%IP.src%"), p.dport) for p in host.inbox]
    assert sorted(got) == sorted((world.resolve(to), source_port) for to, source_port in asked)


def test_fragments_that_never_become_whole_reach_nobody(world: World) -> None:
    world.in_order = lambda pieces: pieces[:-1]
    before = len(world.trace)
    assert world.connect("pod/bob", "svc/web", 80, "udp", 10001, 4000).kind == "dropped"
    world.in_order = list
    assert not [port for port, _ in world.trace[before:] if port.endswith(">")]
