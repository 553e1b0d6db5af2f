"""Bench (c): TCP throughput by ClusterIP, beside the pod's own address; within a node and between two.

One iperf3 server pod, one client pod, runs in turn. Both ways pass the same bridges and conntrack; the
ClusterIP's packets are translated in addition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.bench import listening
from tests.bench.boxed import boxed, say
from tests.bench.figures import Aim, Figure, number
from tests.bench.objects import pod, service

RATIO = 0.95
PORT = 5201
WARM_UP = 1
"""Seconds of each run that are not counted: TCP's slow start."""


def measure(*, quick: bool) -> list[Figure]:
    rounds, seconds = (1, 1) if quick else (7, 3)
    figures = []
    for title, client_node in (("within a node", "node1"), ("between nodes", "node2")):
        runs = boxed(
            "tests.bench.throughput:alternate",
            client_node=client_node, rounds=rounds, seconds=seconds,
            timeout=60 + 2 * rounds * (seconds + WARM_UP + 2),
        )  # fmt: skip
        figures.append(
            Figure(
                bench="c",
                name=f"TCP by ClusterIP, {title}",
                unit="Mbit/s",
                samples=runs["vip"],
                beside="by the pod's address",
                against=runs["pod"],
                aims=[Aim(of="ratio", bound=RATIO, at_least=True)],
                parts={"retransmits": runs["retransmits"]},
            )
        )
    return figures


def alternate(*, client_node: str, rounds: int, seconds: int) -> dict[str, Any]:
    """In a sandbox: Mbit/s of each run, by VIP and by pod address in turn."""
    from topo.lab import ClusterConfig, Lab

    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(
            pod("server", "node1", ["iperf3", "--server"]),
            pod("client", client_node),
            service("server", PORT),
        )
        lab.settle()
        server, client = lab.pod("server"), lab.pod("client")
        listening.wait(server.netns, PORT)
        vip = lab.client.get("Service", "server", "default")["spec"]["clusterIP"]
        targets = {"vip": vip, "pod": str(server.ip)}
        found: dict[str, Any] = {"vip": [], "pod": [], "retransmits": {"vip": 0, "pod": 0}}
        for number_of_run in range(rounds):
            # who goes first alternates too
            for way in sorted(targets, reverse=bool(number_of_run % 2)):
                rate, retransmits = _iperf3(client, targets[way], seconds)
                found[way].append(rate)
                found["retransmits"][way] += retransmits
            said = (f"{way} {number(found[way][-1], 'Mbit/s')}" for way in targets)
            say(f"{client_node} to node1: {', '.join(said)}")
        return found


def _iperf3(client: Any, address: str, seconds: int) -> tuple[float, int]:
    command: Sequence[str] = [
        "iperf3", "--client", address, "--port", str(PORT), "--time", str(seconds), "--omit", str(WARM_UP),
        "--json",
    ]  # fmt: skip
    done = client.run(command, timeout=seconds + WARM_UP + 20)
    report = json.loads(done.stdout)
    assert done.returncode == 0, f"iperf3 to {address}: {report.get('error')}"
    sums = report["end"]
    return sums["sum_received"]["bits_per_second"] / 1e6, sums["sum_sent"]["retransmits"]
