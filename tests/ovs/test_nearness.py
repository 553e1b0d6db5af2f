"""Zones, nodes and ends of endpoints on the dummy datapath, in both families."""

from __future__ import annotations

import pytest

from controller.kubeproxy.node import ZONE_LABEL
from tests.kubeproxy_objects import NODES, node_object
from tests.ovs.test_packets import check
from tests.ovs.world import World
from tests.packets import Row
from tests.packets_dual import dual, of_row
from tests.packets_nearness import ENDING_PODS, NEARNESS_ROWS, NEARNESS_SCENE, ZONES


@pytest.fixture(scope="module", autouse=True)
def scene(world: World) -> None:
    for (name, address), zone in zip(NODES.items(), ZONES, strict=True):
        node = node_object(name, address, dual=True)
        node["metadata"]["labels"] = {ZONE_LABEL: zone}
        world.tell("MODIFIED", node)
    world.add([dual(obj) for obj in NEARNESS_SCENE])
    for pod in ENDING_PODS:
        told = world.objects["Pod", pod["metadata"]["name"]]
        metadata = told["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
        world.tell("MODIFIED", told | {"metadata": metadata})
    world.update_slices()
    world.sync()


@pytest.mark.parametrize("row", NEARNESS_ROWS, ids=lambda row: row.name)
def test_row(world: World, row: Row) -> None:
    check(world, row, "IPv4")


@pytest.mark.parametrize("row", NEARNESS_ROWS, ids=lambda row: row.name)
def test_row_in_ipv6(world: World, row: Row) -> None:
    check(world, of_row(row), "IPv6")
