"""The tunnel of a cluster without a cloud, as minikube has it; and a cloud that comes later."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.test_cloud import POOL, balanced, fabric, ingress, vip
from tests.net.test_lab import WEB
from topo.lab import ClusterConfig, Lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(WEB, balanced("all"))
        lab.settle()
        yield lab


def test_without_a_cloud_an_address_is_pending_and_a_tunnel_lends_the_cluster_ip(lab: Lab) -> None:
    assert ingress(lab, "all") == "<pending>"
    address = lab.client.get("Service", "all")["spec"]["clusterIP"]
    client, ask = lab.outside(), ["curl", "-sS", "-m", "3", f"http://{address}/hostname"]
    assert client.run(ask).returncode == 7
    with lab.tunnel():
        assert ingress(lab, "all") == address
        assert client.run(ask).stdout in {pod.name for pod in lab.pods("app=web")}
        assert f"10.96.0.0/12 via 169.254.1.1 dev {lab.plan.nodes[0].name}" in fabric("ip route")
        lab.apply(balanced("later"))
        lab.settle()
        assert ingress(lab, "later") == lab.client.get("Service", "later")["spec"]["clusterIP"]
        lab.client.patch("Service", "later", {"spec": {"type": "ClusterIP"}})
        lab.settle()
        assert ingress(lab, "later") == "<pending>"
    assert ingress(lab, "all") == "<pending>"
    assert "10.96.0.0/12" not in fabric("ip route") + client.run(["ip", "route"]).stdout
    assert client.run(ask).returncode == 7


def test_lab_tunnel_says_what_it_does_and_undoes_it_at_ctrl_c(lab: Lab) -> None:
    address = lab.client.get("Service", "all")["spec"]["clusterIP"]
    with subprocess.Popen(
        [sys.executable, "-m", "scenarios", "tunnel"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as tunnel:
        assert tunnel.stdout is not None
        said = list(itertools.takewhile(lambda line: "default/all" not in line, tunnel.stdout))
        assert said[0] == "Status:\n"
        assert f"\troute: 10.96.0.0/12 -> {lab.node(1).ip}\n" in said
        assert ingress(lab, "all") == address
        tunnel.send_signal(signal.SIGINT)
        assert "the tunnel is closed" in tunnel.communicate(timeout=20)[0]
    assert tunnel.returncode == 0
    assert ingress(lab, "all") == "<pending>"
    assert "10.96.0.0/12" not in fabric("ip route")


def test_a_cloud_may_come_later_and_a_tunnel_leaves_its_addresses_alone(lab: Lab) -> None:
    assert ingress(lab, "all") == "<pending>"
    lab.start_cloud()
    lab.settle()
    given = vip(lab, "all")
    assert given in POOL
    with lab.tunnel():
        assert vip(lab, "all") == given
    assert vip(lab, "all") == given
