"""What a switch still tells of a kubeproxy that is gone, on the dummy datapath."""

from __future__ import annotations

import pytest

from controller.kubeproxy import openflow
from controller.kubeproxy.leftover import ways_left
from controller.kubeproxy.stale import Stale, outdated
from tests.kubeproxy_objects import NODES
from tests.ovs.world import World


def left(world: World, node: str) -> frozenset[Stale]:
    bridge = world.switch.openflow(f"br-{node}")
    flows, groups = (
        bridge.ask(request(7)) for request in (openflow.flow_stats_request, openflow.group_desc_request)
    )
    return ways_left(flows, groups, world.proxiers[node].nodes())


@pytest.mark.parametrize("node", NODES)
def test_every_way_that_is_offered_is_read_back(world: World, node: str) -> None:
    found, wanted = left(world, node), world.proxiers[node].ways()
    assert wanted
    assert outdated(found, wanted) == set()
    assert {way for way in wanted if way.endpoint is None} == {way for way in found if way.endpoint is None}


def test_what_vanished_meanwhile_is_what_is_to_be_forgotten(world: World) -> None:
    before = {node: left(world, node) for node in NODES}
    gone = world.objects["Pod", "web-0"]
    world.tell(
        "MODIFIED", gone | {"status": gone["status"] | {"conditions": [{"type": "Ready", "status": "False"}]}}
    )
    world.update_slices()
    world.tell("DELETED", world.objects["Service", "far"])
    addresses = {entry["ip"] for entry in gone["status"]["podIPs"]}
    far = "10.96.0.52"
    for node in NODES:
        stale = outdated(before[node], world.proxiers[node].ways())
        assert {str(way.endpoint) for way in stale if way.endpoint} == addresses
        assert {str(way.asked) for way in stale if not way.endpoint} >= {far, NODES[node]}
    world.tell("MODIFIED", gone)
    world.update_slices()
    world.sync()
