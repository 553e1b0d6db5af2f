"""The packet rows in IPv6 over a real dual-stack lab; the IPv4 ones beside them for the kinds there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.test_packets import scene, try_row
from tests.packets import CLUSTER_IP_ROWS, NODE_PORT_ROWS, POD_ROWS, Row
from tests.packets_dual import DUAL_SCENE, IPV6_ROWS
from topo.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene(ip_family="dual", objects=DUAL_SCENE) as lab:
        yield lab


@pytest.mark.parametrize("row", [row for row in IPV6_ROWS if "net" in row.tiers], ids=lambda row: row.name)
def test_row_in_ipv6(lab: Lab, row: Row) -> None:
    try_row(lab, row, 6)


@pytest.mark.parametrize(
    "row", [*POD_ROWS, *CLUSTER_IP_ROWS[:8], *NODE_PORT_ROWS[:8]], ids=lambda row: row.name
)
def test_row_in_ipv4_beside_ipv6(lab: Lab, row: Row) -> None:
    try_row(lab, row)
