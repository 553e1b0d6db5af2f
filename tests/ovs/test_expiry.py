"""What happens as time goes by; the switch's clock is warped, so this module has a switch of its own."""

from __future__ import annotations

import pytest

from tests.ovs.switch import DummySwitch
from tests.ovs.world import World


@pytest.fixture(autouse=True)
def stopped(switch: DummySwitch) -> None:
    """No connections, and a clock that only ``warp`` moves."""
    switch.appctl("time/stop")
    switch.flush_conntrack()


def warp(switch: DummySwitch, seconds: int) -> None:
    switch.appctl("time/warp", str(1000 * seconds), str(1000 * seconds))


def test_connections_that_expired_unswept_do_not_end_the_switch(switch: DummySwitch, world: World) -> None:
    """A null translation did: conntrack then met its own entry for the replies (about one round in ten)."""
    targets = [
        ("node1", "pod/web-1", 8080),  # the node's own connection
        ("node1", "svc/web", 80),
        ("client1", "node2", 30086),  # a NodePort with the number of its hostNetwork endpoint's port
    ]
    for _ in range(40):
        for sender, host, number in targets:
            assert world.connect(sender, host, number, "udp", 10001).kind == "answered"
        warp(switch, 61)
