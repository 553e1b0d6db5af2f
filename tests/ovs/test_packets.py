"""The packet rows on the dummy datapath: our own bytes in a real switch, and what it does with packets."""

from __future__ import annotations

import re

import pytest

from controller.api import wiring
from tests.ovs.world import NODES, World
from tests.packets import ROWS, Row
from tests.packets_dual import IPV6_ROWS

_TO = re.compile(r"(\[.*\][^:]*|[^:]+)(?::(\d+))?")
CONNECTIONS = range(10001, 10013)
"""Client ports of a row's connections: fixed, so the same endpoints answer in every run."""


@pytest.mark.parametrize("row", [row for row in ROWS if "ovs" in row.tiers], ids=lambda row: row.name)
def test_row(world: World, row: Row) -> None:
    check(world, row, "IPv4")


@pytest.mark.parametrize(
    "row",
    # The node's kernel alone refuses what goes to localhost: no packet is on any wire.
    [row for row in IPV6_ROWS if "ovs" in row.tiers and not row.to.startswith("localhost")],
    ids=lambda row: row.name,
)
def test_row_in_ipv6(world: World, row: Row) -> None:
    check(world, row, "IPv6")


def check(world: World, row: Row, family: str, size: int = 0) -> None:
    """What the row says is what happens."""
    host, _, protocol = row.to.rpartition("/")
    target, port = _TO.fullmatch(host).groups("0")  # type: ignore[union-attr]
    several = isinstance(row.expect, tuple) and len(row.expect) > 1
    world.switch.flush_conntrack()
    outcomes = [
        world.connect(row.sender, target, int(port), protocol, source_port, size, family)
        for source_port in (CONNECTIONS if several else CONNECTIONS[:2])
    ]
    if isinstance(row.expect, str):
        assert {o.kind for o in outcomes} == {row.expect}
        return
    assert {o.kind for o in outcomes} == {"answered"}
    answered = {o.by for o in outcomes}
    assert len(answered) == 1 and answered < set(row.expect) if row.one else answered == set(row.expect)
    for outcome in outcomes:
        assert outcome.source == source_of(world, row, outcome.by, family)


def source_of(world: World, row: Row, answered_by: str, family: str = "") -> str:
    """The address that the pod which answered must have seen."""
    family = family or world.family
    itself = row.sender == f"pod/{answered_by}"
    if row.source == "hairpin" or (row.source == "sender or hairpin" and itself):
        return str(wiring.RANGES[family].hairpin_virtual)
    return world.host(row.source if row.source in NODES else row.sender).at(family)
