"""Fixtures of the ovs tier: one private switch for all, a cluster on it for each scene."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ovs.private_ovs import PrivateOvs
from tests.ovs.switch import DummySwitch
from tests.ovs.world import World
from tests.packets_dual import DUAL_SCENE


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DummySwitch]:
    """A running switch without bridges. Its directory's name is short: socket paths end at 107 bytes."""
    ovs = PrivateOvs(tmp_path_factory.mktemp("ovs"))
    try:
        ovs.start()
        dummy = DummySwitch(ovs)
        yield dummy
        dummy.close()
    finally:
        ovs.stop()


@pytest.fixture(params=["IPv4", "IPv6"])
def family(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """A test that uses this runs in both families."""
    world.family = str(request.param)
    yield world.family
    world.family = "IPv4"


@pytest.fixture(scope="module")
def world(switch: DummySwitch) -> World:
    """The cluster of ``tests.packets`` in both families, its flows installed."""
    made = World(switch)
    made.add(DUAL_SCENE)
    made.sync()
    return made
