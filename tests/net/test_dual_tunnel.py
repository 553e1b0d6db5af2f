"""A dual-stack lab without a cloud: the tunnel lends both ClusterIPs; what a second terminal is told."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.test_cloud import balanced, fabric
from tests.net.test_lab import WEB
from topo.config import ClusterConfig
from topo.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "scenarios"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2, ip_family="dual")) as lab:
        lab.apply(WEB, balanced("all", ipFamilyPolicy="PreferDualStack"))
        lab.settle()
        yield lab


def ingress(lab: Lab) -> list[str]:
    entries = lab.client.get("Service", "all")["status"]["loadBalancer"].get("ingress") or ()
    return [entry["ip"] for entry in entries]


def said(*words: str) -> str:
    return subprocess.run([*LAB, *words], capture_output=True, text=True, timeout=60, cwd=ROOT).stdout


def test_lab_tunnel_lends_a_cluster_ip_of_each_family_and_takes_both_back(lab: Lab) -> None:
    addresses = lab.client.get("Service", "all")["spec"]["clusterIPs"]
    ask = ["curl", "-sS", "-m", "3", f"http://[{addresses[1]}]/hostname"]
    assert ingress(lab) == []
    assert lab.outside().run(ask).returncode == 7
    with subprocess.Popen([*LAB, "tunnel"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as tunnel:
        assert tunnel.stdout is not None
        lines = list(itertools.takewhile(lambda line: "default/all" not in line, tunnel.stdout))
        assert "\troute: 10.96.0.0/12 -> 192.168.49.2\n" in lines
        assert "\troute: fd00:10:96::/112 -> fd00:49::2\n" in lines
        assert ingress(lab) == addresses
        assert lab.outside().run(ask).stdout in {pod.name for pod in lab.pods("app=web")}
        tunnel.send_signal(signal.SIGINT)
        assert "the tunnel is closed" in tunnel.communicate(timeout=20)[0]
    assert ingress(lab) == []
    assert "fd00:10:96" not in fabric("ip -6 route") + lab.outside().run("ip -6 route").stdout


def test_the_probes_follow_a_packet_in_ipv6(lab: Lab) -> None:
    port = lab.client.get("Service", "all")["spec"]["ports"][0]["nodePort"]
    shown = said(
        "exec", "client1", "--", "python", "-m", "scenarios.probes.translate", f"[fd00:49::3]:{port}"
    )
    assert f"DNAT [fd00:49::3]:{port} ⇒ [fd00:10:244:" in shown
    assert "un-DNAT" in shown
    target = f"http://[fd00:49::2]:{port}/"
    shown = said("exec", "client1", "--", "python", "-m", "scenarios.probes.balance", target)
    assert "600 connections" in shown
    assert "600 answered" in shown
    assert shown.count("  pod web-") == 2
    assert "not even" not in shown


def test_a_second_terminal_sees_and_records_ipv6(lab: Lab) -> None:
    port = lab.client.get("Service", "all")["spec"]["ports"][0]["nodePort"]
    assert said("url", "all").split() == [f"http://192.168.49.2:{port}", f"http://[fd00:49::2]:{port}"]
    asking = lab.outside().popen("while ping -6 -c 1 -W 1 fd00:49::2; do :; done", stdout=subprocess.DEVNULL)
    try:
        shown = said("capture", "client1", "-c", "4")
    finally:
        asking.kill()
        asking.wait()
    assert "ICMP6 echo request TTL 64  client1 → node1" in shown
