"""Bench (b): pods of a Deployment applied, scheduled, wired, running and ready; beside plain Mininet.

The lab counts from the Deployment's creation to the settled cluster (every pod Ready in the API, every
flow of it on its switch); Mininet from the construction of its hosts to the start of its switches.
"""

from __future__ import annotations

import time
from typing import Any

from tests.bench.boxed import boxed, say
from tests.bench.figures import Aim, Figure, number

NODES = 5
RATIO = 0.7


def measure(*, quick: bool) -> list[Figure]:
    sizes = ((20, 1),) if quick else ((200, 3), (1000, 2))
    return [_measure(count, rounds) for count, rounds in sizes]


def _measure(count: int, rounds: int) -> Figure:
    labs, plain = [], []
    for _ in range(rounds):
        labs.append(boxed("tests.bench.pods:ready", count=count, timeout=60 + count / 5))
        say(f"{count} pods ready in {number(labs[-1]['ready'], 's')}")
        plain.append(
            boxed("tests.bench.plain:build", hosts=count, switches=NODES, ping=False, timeout=60 + count)
        )
        say(f"{count} Mininet hosts in {number(plain[-1]['built'], 's')}")
    typical = sorted(labs, key=lambda lab: lab["ready"])[len(labs) // 2]
    return Figure(
        bench="b",
        name=f"{count:,} pods ready",
        unit="s",
        samples=[lab["ready"] for lab in labs],
        beside="Mininet's hosts",
        against=[run["built"] for run in plain],
        aims=[Aim(of="ratio", bound=RATIO)],
        parts=typical,
    )


def ready(*, count: int) -> dict[str, Any]:
    """In a sandbox: seconds from the Deployment to the settled cluster, and processor time by process."""
    from tests.bench.processes import cpu_seconds
    from topo.lab import ClusterConfig, Lab

    with Lab(ClusterConfig(nodes=NODES)) as lab:
        before = cpu_seconds()
        began = time.monotonic()
        lab.apply(deployment(count))
        lab.settle(timeout=30 + count / 5)
        seconds = time.monotonic() - began
        pods, _ = lab.client.list("Pod", "default")
        unready = [pod["metadata"]["name"] for pod in pods if not _is_ready(pod)]
        assert len(pods) == count, f"{len(pods)} pods"
        assert not unready, f"not ready: {unready[:5]}"
        after = cpu_seconds()
        cpu = {name: round(after[name] - before.get(name, 0), 2) for name in sorted(after)}
        return {"ready": seconds, "cpu": cpu}


def deployment(count: int) -> dict[str, Any]:
    """Echo pods, the lightest there are."""
    labels = {"app": "bench"}
    container = {"name": "echo", "image": "podwire/echo", "ports": [{"containerPort": 80}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bench"},
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
