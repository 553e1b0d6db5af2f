"""The kubeproxy process gives out connections, under os-ken and under Ryu; and what happens when it dies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from controller.api import wiring
from controller.kubeproxy.dispatch import LEASE
from tests.ovs.kubeproxy_lab import KubeproxyLab

CLIENT, WEB = "10.244.1.2", "10.96.0.80"
PODS = ["10.244.2.2", "10.244.2.3", "10.244.2.4"]


@pytest.fixture(params=["os-ken", "ryu"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KubeproxyLab]:
    lab = KubeproxyLab(tmp_path, backend=request.param)
    try:
        lab.start()
        lab.add_bridge(1)
        lab.add_node(1)
        lab.add_pod(1, 2)
        lab.add_service("web", WEB, PODS)
        note = {"metadata": {"annotations": {wiring.SCHEDULER: "lc"}}}
        lab.client.patch("Service", "web", note, "default")
        lab.start_kubeproxy()
        lab.settle()
        yield lab
    finally:
        lab.stop()


def open_connection(lab: KubeproxyLab, source_port: int, within: float = 10) -> str:
    """A SYN from the pod; the endpoint that conntrack then knows for it."""
    frame = Ether(src=wiring.mac_of(CLIENT), dst=wiring.GATEWAY_MAC) / IP(src=CLIENT, dst=WEB)
    syn = bytes(frame / TCP(sport=source_port, dport=80, flags="S", seq=source_port)).hex()
    pattern = re.compile(rf"orig=\(src={CLIENT},dst={WEB},sport={source_port}.*reply=\(src=([0-9.]+)")
    end = time.monotonic() + within
    lab.ovs.appctl("netdev-dummy/receive", "node1-p2", syn)
    while time.monotonic() < end:
        found = pattern.search(lab.ovs.appctl("dpctl/dump-conntrack", "dummy@ovs-dummy"))
        if found:
            return found[1]
    return ""


def leases(lab: KubeproxyLab) -> int:
    return sum("CONTROLLER" in flow for flow in lab.flows())


def test_it_gives_out_connections_counts_them_and_outlives_a_restart(lab: KubeproxyLab) -> None:
    assert leases(lab) == 1
    assert [open_connection(lab, port) for port in (7001, 7002, 7003, 7004)] == [*PODS, PODS[0]]
    lab.restart_kubeproxy()
    lab.settle()
    assert open_connection(lab, 7005) == PODS[1]  # it has counted what was open before it was there


def test_when_it_is_dead_its_lease_ends_and_the_group_chooses(lab: KubeproxyLab) -> None:
    assert lab.kubeproxy is not None
    lab.kubeproxy.kill()
    end = time.monotonic() + LEASE + 5
    while leases(lab) and time.monotonic() < end:
        pass  # asking the switch takes its time
    assert leases(lab) == 0
    assert open_connection(lab, 7101) in PODS


def test_a_service_that_is_scheduled_no_more_needs_no_lease(lab: KubeproxyLab) -> None:
    lab.client.patch("Service", "web", {"metadata": {"annotations": {wiring.SCHEDULER: None}}}, "default")
    lab.settle()
    assert open_connection(lab, 7201) in PODS
    end = time.monotonic() + LEASE + 5
    while leases(lab) and time.monotonic() < end:
        pass
    assert leases(lab) == 0
