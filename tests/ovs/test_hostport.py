"""hostPort on the dummy datapath: what comes over the bridge. A node's own packets are the net tier's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ovs.test_packets import CONNECTIONS, source_of
from tests.ovs.world import World
from tests.packets import Row
from tests.packets_hostport import HOST_PORT_PODS, HOST_PORT_ROWS, host_port_pod

Obj = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def pods(world: World) -> None:
    world.add(HOST_PORT_PODS)
    world.sync()


def itself(row: Row) -> bool:
    """Whether a node asks itself: topo.host_ports leads that to the pod before the bridge sees it."""
    return row.sender in ("node1", "node2") and row.to.startswith((row.sender, "localhost"))


def at_an_ipv4_address(row: Row) -> bool:
    """Whether its pods are open at a hostIP, which is of one family."""
    return ":8089/" in row.to


ON_THE_WIRE = [row for row in HOST_PORT_ROWS if not itself(row)]


@pytest.mark.parametrize("row", ON_THE_WIRE, ids=lambda row: row.name)
def test_row(world: World, row: Row) -> None:
    check(world, row)


@pytest.mark.parametrize(
    "row", [row for row in ON_THE_WIRE if not at_an_ipv4_address(row)], ids=lambda row: row.name
)
def test_row_in_ipv6(world: World, row: Row) -> None:
    world.family = "IPv6"
    try:
        check(world, row)
    finally:
        world.family = "IPv4"


def check(world: World, row: Row) -> None:
    world.switch.flush_conntrack()
    host, _, protocol = row.to.rpartition("/")
    target, _, port = host.partition(":")
    for source_port in CONNECTIONS[:2]:
        outcome = world.connect(row.sender, target, int(port), protocol, source_port)
        if row.expect == "refused":
            assert outcome.kind == "refused"
            continue
        assert (outcome.by,) == row.expect
        assert outcome.source == source_of(world, row, outcome.by)


@pytest.mark.usefixtures("family")
def test_a_udp_client_that_keeps_its_port_is_refused_when_the_pod_goes_and_served_when_it_is_back(
    world: World,
) -> None:
    pod = world.objects["Pod", "open-0"]
    world.switch.flush_conntrack()
    for state in ("answered", "refused", "answered"):
        if state == "refused":
            world.tell("DELETED", pod)
        elif ("Pod", "open-0") not in world.objects:
            world.tell("ADDED", pod)
        world.sync()
        assert world.connect("client1", "node1", 8088, "udp", 12345).kind == state


@pytest.mark.usefixtures("family")
def test_a_node_port_of_that_number_comes_first(world: World) -> None:
    world.add([host_port_pod("late-0", "node2", 30082)])
    world.sync()
    assert world.connect("client1", "node2", 30082, "tcp", 10001).by == "far-0"
