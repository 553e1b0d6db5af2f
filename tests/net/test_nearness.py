"""Zones, nodes and ends of endpoints over a real lab: the control plane writes the hints and conditions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.test_packets import served_by_client1, try_row
from tests.packets import SCENE, Row
from tests.packets_dual import dual, of_row
from tests.packets_nearness import ENDING_PODS, NEARNESS_ROWS, NEARNESS_SCENE, ZONES
from topo.config import ClusterConfig
from topo.lab import Lab

SENDERS = [obj for obj in SCENE if obj["metadata"]["name"] in ("alice", "bob", "far-0")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """In dual stack: a pod ends for both families at once."""
    with Lab(ClusterConfig(nodes=3, clients=1, zones=ZONES, ip_family="dual")) as lab:
        lab.apply(*SENDERS, *map(dual, NEARNESS_SCENE))
        lab.settle()
        for pod in ENDING_PODS:
            lab.client.delete("Pod", pod["metadata"]["name"], "default")
        lab.settle()
        with served_by_client1(lab):
            yield lab


@pytest.mark.parametrize("row", NEARNESS_ROWS, ids=lambda row: row.name)
def test_row(lab: Lab, row: Row) -> None:
    try_row(lab, row)


@pytest.mark.parametrize("row", NEARNESS_ROWS, ids=lambda row: row.name)
def test_row_in_ipv6(lab: Lab, row: Row) -> None:
    try_row(lab, of_row(row), 6)
