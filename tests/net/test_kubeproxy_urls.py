"""What a node's kube-proxy answers about itself, asked from where an administrator or a balancer asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.packets import pod, service
from topo.config import ClusterConfig
from topo.lab import Lab

CHECK = 32123


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    local: dict[str, Any] = {"externalTrafficPolicy": "Local", "healthCheckNodePort": CHECK}
    with Lab(ClusterConfig(nodes=2, clients=1)) as lab:
        lab.apply(
            pod("web-0", "node1", "web"),
            service("web", "10.96.0.50", 30080, balancer="203.0.113.50", **local),
        )
        lab.settle()
        yield lab


def get(host: Any, url: str) -> tuple[int, str]:
    """(HTTP status, 0 when nobody answers; body)."""
    done = host.run(["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", url])
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def figure(lab: Lab, name: str) -> float:
    code, text = get(lab.node(1), "http://127.0.0.1:10249/metrics")
    assert code == 200
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_the_metrics_count_what_was_programmed(lab: Lab) -> None:
    name = "kubeproxy_sync_proxy_rules_duration_seconds"
    count, total = figure(lab, f"{name}_count"), figure(lab, f"{name}_sum")
    heard = figure(lab, "kubeproxy_sync_proxy_rules_service_changes_total")
    lab.apply(service("more", "10.96.0.51", app="web"))
    lab.settle()
    assert figure(lab, f"{name}_count") > count
    assert 0 < figure(lab, f"{name}_sum") - total < 5
    assert figure(lab, "kubeproxy_sync_proxy_rules_service_changes_total") == heard + 1


def test_mode_and_metrics_are_for_the_node_alone(lab: Lab) -> None:
    assert get(lab.node(2), "http://localhost:10249/proxyMode") == (200, "openflow")
    for asker in (lab.outside(), lab.node(1)):
        assert get(asker, f"http://{lab.node(2).ip}:10249/proxyMode")[0] == 0


@pytest.mark.parametrize("asker", ["node1", "node2", "client1", "pod/web-0"])
def test_a_service_s_health_check_answers_everyone_and_the_node_itself(lab: Lab, asker: str) -> None:
    host = lab.pod("web-0") if asker.startswith("pod/") else lab.host(asker)
    for number, here in ((1, 1), (2, 0)):
        code, body = get(host, f"http://{lab.node(number).ip}:{CHECK}/")
        assert code == (200 if here else 503)
        assert json.loads(body)["localEndpoints"] == here


def test_a_node_asks_its_own_by_localhost(lab: Lab) -> None:
    assert get(lab.node(1), f"http://localhost:{CHECK}/")[0] == 200
