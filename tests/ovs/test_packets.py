"""The packet rows on the dummy datapath: our own bytes in a real switch, and what it does with packets."""

from __future__ import annotations

import pytest

from controller.api import wiring
from tests.ovs.world import NODES, World
from tests.packets import ROWS, Row

CONNECTIONS = range(10001, 10013)
"""Client ports of a row's connections: fixed, so the same endpoints answer in every run."""


@pytest.mark.parametrize("row", [row for row in ROWS if "ovs" in row.tiers], ids=lambda row: row.name)
def test_row(world: World, row: Row) -> None:
    host, _, protocol = row.to.rpartition("/")
    target, _, port = host.partition(":")
    several = isinstance(row.expect, tuple) and len(row.expect) > 1
    world.switch.flush_conntrack()
    outcomes = [
        world.connect(row.sender, target, int(port or 0), protocol, source_port)
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


def source_of(world: World, row: Row, answered_by: str) -> str:
    """The address that the pod which answered must have seen."""
    itself = row.sender == f"pod/{answered_by}"
    if row.source == "hairpin" or (row.source == "sender or hairpin" and itself):
        return str(wiring.HAIRPIN_VIRTUAL)
    return NODES.get(row.source) or world.host(row.sender).address
