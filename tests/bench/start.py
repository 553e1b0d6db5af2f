"""Bench (a): from the start of the lab's process to the first answer through the NodePort.

Beside it plain Mininet, from the start of its process to the first answered ping, with as many hosts
and switches. The lab has more to do: an API server, managers, kubelets, kubeproxy, and programs in pods.
Then the same in dual stack, beside the lab of one family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scenarios.lesson import MANIFESTS
from tests.bench.boxed import boxed, say, since_start
from tests.bench.figures import Aim, Figure, number

SECONDS = 3.0
NODES = 3
HEALTH = b"GET /_stcore/health HTTP/1.0\r\n\r\n"
"""The frontend's own answer: its page would first ask a nameserver, which there is none of yet."""


def measure(*, quick: bool) -> list[Figure]:
    labs, plain, dual = [], [], []
    for _ in range(1 if quick else 5):
        labs.append(boxed("tests.bench.start:lab", timeout=60))
        hosts = int(labs[-1].pop("hosts"))
        plain.append(boxed("tests.bench.plain:build", hosts=hosts, switches=NODES, timeout=60))
        dual.append(boxed("tests.bench.start:lab", ip_family="dual", timeout=60))
        dual[-1].pop("hosts")
        say(f"the lab {number(labs[-1]['answer'], 's')}, Mininet {number(plain[-1]['answer'], 's')}")
        say(f"the lab in dual stack {number(dual[-1]['answer'], 's')}")
    return [
        Figure(
            bench="a",
            name=f"start to the first answer by NodePort ({hosts} hosts)",
            unit="s",
            samples=[lab["answer"] for lab in labs],
            beside="Mininet to the first ping",
            against=[run["answer"] for run in plain],
            aims=[Aim(of="value", bound=SECONDS)],
            parts=_typical(labs),
        ),
        Figure(
            bench="a",
            name="the same in dual stack",
            unit="s",
            samples=[lab["answer"] for lab in dual],
            beside="of one family",
            against=[lab["answer"] for lab in labs],
            aims=[Aim(of="value", bound=SECONDS)],
            parts=_typical(dual),
        ),
    ]


def _typical(labs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return sorted(labs, key=lambda lab: float(lab["answer"]))[len(labs) // 2]


def lab(ip_family: str = "ipv4") -> dict[str, Any]:
    """In a sandbox: seconds since the process began, at each stage."""
    stages = {"sandbox": since_start()}
    from topo.lab import ClusterConfig, Lab

    stages["imports"] = since_start()
    with Lab(ClusterConfig(nodes=NODES, ip_family=ip_family)) as lab:
        stages["cluster"] = since_start()
        lab.apply(*sorted(MANIFESTS.glob("services_*.yaml")))
        stages["applied"] = since_start()
        lab.settle()
        stages["settled"] = since_start()
        with lab.outside().socket() as asking:
            asking.settimeout(5)
            asking.connect((str(lab.node(1).ip), 30000))
            asking.sendall(HEALTH)
            answer = asking.recv(4096)
        stages["answer"] = since_start()
        assert b" 200 " in answer.split(b"\r\n")[0], f"not an answer: {answer[:100]!r}"
        return {**stages, "hosts": len(lab.net.hosts)}


__all__ = ["lab", "measure"]
