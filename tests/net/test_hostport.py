"""hostPort over a real lab, the node's own ways to it among them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.test_packets import scene
from tests.net.test_packets import test_row as check_row
from tests.packets import Row
from tests.packets_hostport import HOST_PORT_PODS, HOST_PORT_ROWS
from topo.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene() as lab:
        lab.apply(*HOST_PORT_PODS)
        lab.settle()
        yield lab


@pytest.mark.parametrize("row", HOST_PORT_ROWS, ids=lambda row: row.name)
def test_row(lab: Lab, row: Row) -> None:
    check_row(lab, row)


def test_a_host_port_goes_with_its_pod_and_moves_with_its_node(lab: Lab) -> None:
    lab.client.delete("Pod", "outer-0", "default", grace=0)
    lab.settle()
    curl = "curl -sS --max-time 5 http://{}:{}/hostname"
    assert lab.node(2).run(curl.format(lab.node(2).ip, 8089)).returncode == 7  # CURLE_COULDNT_CONNECT
    assert lab.node(2).run(curl.format("localhost", 8089)).stdout == "inner-0"
    lab.node(1).readdress()
    lab.settle()
    for asked in (lab.node(1), lab.outside()):
        assert asked.run(curl.format(lab.node(1).ip, 8088)).stdout == "open-0"
