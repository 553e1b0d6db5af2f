"""What kube-proxy tells of itself, as a scraper reads it."""

from __future__ import annotations

from datetime import UTC, datetime

from controller.kubeproxy.health import METRICS_PORT, Health
from controller.kubeproxy.metrics import Metrics

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def values(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


def test_durations_are_counted_in_every_bucket_that_holds_them_for_their_node_alone() -> None:
    metrics = Metrics()
    metrics.programmed("node1", 0.003, 0.010, at=100.5)
    metrics.programmed("node1", 0.0005, 20.0, at=101.5)
    found = values(metrics.text("node1"))
    name = "kubeproxy_sync_proxy_rules_duration_seconds"
    assert [found[f'{name}_bucket{{le="{end}"}}'] for end in ("0.001", "0.002", "0.004", "+Inf")] == [
        1,
        1,
        2,
        2,
    ]
    assert (found[f"{name}_count"], found[f"{name}_sum"]) == (2, 0.0035)
    name = "kubeproxy_network_programming_duration_seconds"
    assert found[f'{name}_bucket{{le="16.384"}}'] == 1
    assert found[f"{name}_count"] == 2
    assert found["kubeproxy_sync_proxy_rules_last_timestamp_seconds"] == 101.5
    assert values(metrics.text("node2"))[f"{name}_count"] == 0


def test_changes_of_services_and_slices_are_counted_and_no_others() -> None:
    metrics = Metrics()
    for kind, at in (("Service", 1.0), ("EndpointSlice", 2.0), ("EndpointSlice", 3.0), ("Pod", 4.0)):
        metrics.heard(kind, at)
    found = values(metrics.text("node1"))
    assert found["kubeproxy_sync_proxy_rules_service_changes_total"] == 1
    assert found["kubeproxy_sync_proxy_rules_endpoint_changes_total"] == 2
    assert found["kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"] == 3.0


def test_every_figure_has_its_help_and_type() -> None:
    lines = Metrics().text("node1").splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# HELP")}
    assert names == {line.split()[2] for line in lines if line.startswith("# TYPE")}
    suffixes = ("_bucket", "_sum", "_count")
    for name in values("\n".join(lines)):
        base = name.partition("{")[0]
        assert any(base == known or base in {known + suffix for suffix in suffixes} for known in names)


def test_the_metrics_port_answers_mode_metrics_and_its_own_health() -> None:
    health = Health()
    health.apply("ADDED", {"kind": "Node", "metadata": {"name": "node1"}})
    assert ("node1", METRICS_PORT) in health.listeners()
    answers = {
        p: health.answer("node1", METRICS_PORT, p, NOW) for p in ("/proxyMode", "/healthz", "/metrics", "/x")
    }
    assert {path: answer.code for path, answer in answers.items()} == {
        "/proxyMode": 200,
        "/healthz": 200,
        "/metrics": 200,
        "/x": 404,
    }
    assert answers["/proxyMode"].body == "openflow"
    assert answers["/metrics"].headers["Content-Type"].startswith("text/plain; version=0.0.4")
