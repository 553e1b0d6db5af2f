"""Bench (c): TCP throughput by ClusterIP, beside the pod's own address; within a node and between two.

One iperf3 server pod, one client pod, many short runs in turn. Both ways pass the same bridges and
conntrack; the ClusterIP's packets are translated in addition. Beside the rate stands what the switch paid
for it, which other load on the machine disturbs less.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench import listening
from tests.bench.boxed import BenchError, boxed, say
from tests.bench.figures import Aim, Figure, number
from tests.bench.objects import pod, service
from tests.bench.processes import cpu_seconds

RATIO = 0.95
PORT = 5201
SECONDS = 1
TRIES = 3


def measure(*, quick: bool) -> list[Figure]:
    rounds = 1 if quick else 15
    figures = []
    for title, client_node in (("within a node", "node1"), ("between nodes", "node2")):
        runs = boxed(
            "tests.bench.throughput:alternate",
            client_node=client_node,
            rounds=rounds,
            timeout=60 + 6 * rounds,
        )
        figures.append(
            Figure(
                bench="c",
                name=f"TCP by ClusterIP, {title}",
                unit="Mbit/s",
                samples=runs["vip"],
                beside="by the pod's address",
                against=runs["pod"],
                aims=[Aim(of="ratio", bound=RATIO, at_least=True)],
                parts={key: runs[key] for key in ("retransmits", "failures", "switch", "switchRatio")},
            )
        )
    return figures


def alternate(*, client_node: str, rounds: int) -> dict[str, Any]:
    """In a sandbox: Mbit/s of each run, by VIP and by pod address in turn.

    ``switch`` is Mbit for each processor second of ovs-vswitchd, ``switchRatio`` the median of the pairs.
    """
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
        found: dict[str, Any] = {
            "vip": [], "pod": [], "retransmits": {"vip": 0, "pod": 0}, "switch": {"vip": [], "pod": []},
            "failures": 0,
        }  # fmt: skip
        for number_of_run in range(rounds):
            # who goes first alternates too
            for way in sorted(targets, reverse=bool(number_of_run % 2)):
                before = cpu_seconds()["ovs-vswitchd"]
                rate, retransmits, failures = _iperf3(client, targets[way])
                paid = cpu_seconds()["ovs-vswitchd"] - before
                found["switch"][way].append(rate * SECONDS / paid)
                found[way].append(rate)
                found["retransmits"][way] += retransmits
                found["failures"] += failures
            said = (f"{way} {number(found[way][-1], 'Mbit/s')}" for way in targets)
            say(f"{client_node} to node1: {', '.join(said)}")
        pairs = zip(found["switch"]["vip"], found["switch"]["pod"], strict=True)
        found["switchRatio"] = median(vip / pod for vip, pod in pairs)
        say(f"{client_node} to node1: for the switch's processor time {found['switchRatio']:.2f}")
        return found


def _iperf3(client: Any, address: str) -> tuple[float, int, int]:
    """Mbit/s received, retransmits, and how often iperf3 itself had to be started again."""
    command: Sequence[str] = [
        "iperf3", "--client", address, "--port", str(PORT), "--time", str(SECONDS), "--json",
    ]  # fmt: skip
    for failures in range(TRIES):
        done = client.run(command, timeout=SECONDS + 20)
        report = json.loads(done.stdout)
        sums = report.get("end", {})
        if "sum_received" in sums:
            return sums["sum_received"]["bits_per_second"] / 1e6, sums["sum_sent"]["retransmits"], failures
        say(f"iperf3 to {address} reports no result, error: {report.get('error')}")
    raise BenchError(f"iperf3 to {address} reported no result {TRIES} times in a row")
