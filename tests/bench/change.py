"""Bench (e): from a changed EndpointSlice to the barriers of all nodes and to the packets, with 10 and
1,000 Services.

A Service's only endpoint moves to and fro between two pods. Counted from the moment the write is sent:
until the last node's barrier is answered (kubeproxy's own record), and until the first datagram after
which none meets the old pod any more (``prober``).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.boxed import BenchError, boxed, say
from tests.bench.figures import Aim, Figure, number
from tests.bench.objects import endpoint_slice, pod, service
from tests.bench.prober import Prober

MILLISECONDS = 20.0
RATIO = 1.2
FEW, MANY = 10, 1000
PORT = 8081
NAME = "moving"
CAUSE = f"EndpointSlice default/{NAME}-1"
CALM = 60
"""Probes in a row that must all meet the new pod: more than a revalidator's round (100 ms) of them."""


def measure(*, quick: bool) -> list[Figure]:
    many, rounds = (20, 2) if quick else (MANY, 30)
    found = boxed("tests.bench.change:alternate", few=FEW, many=many, rounds=rounds, timeout=420)
    aims = [Aim(of="value", bound=MILLISECONDS), Aim(of="ratio", bound=RATIO)]
    return [
        Figure(
            bench="e",
            name=f"slice changed to {word}, {many:,} Services",
            unit="ms",
            samples=found["many"][key],
            beside=f"{FEW} Services",
            against=found["few"][key],
            paired=False,
            aims=aims if key == "barrier" else [],
            parts={
                size: {
                    stage: {"median": median(found[size][stage]), "worst": max(found[size][stage])}
                    for stage in ("written", "received", key)
                }
                for size in ("few", "many")
            },
        )
        for key, word in (("barrier", "barrier"), ("datapath", "datapath"))
    ]


def alternate(*, few: int, many: int, rounds: int) -> dict[str, Any]:
    """In a sandbox: milliseconds of each change with few, many, and few Services again."""
    from topo.lab import ClusterConfig, Lab
    from topo.lab_state import LOGS

    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(pod("client", "node1"), *(_server(f"server-{n}", f"node{n}") for n in (1, 2)))
        lab.settle()
        places = [(str(lab.pod(f"server-{n}").ip), f"node{n}") for n in (1, 2)]
        lab.apply(service(NAME, PORT, selector=False, protocol="UDP"))
        lab.apply(_slice(places[0]))
        count = 1
        address = lab.client.get("Service", NAME, "default")["spec"]["clusterIP"]
        timing = lab.run_dir / LOGS / "kubeproxy-timing.jsonl"
        found: dict[str, dict[str, list[float]]] = {"few": {}, "many": {}}
        with Prober(lab.pod("client").netns, address, PORT) as prober:
            prober.until_calm("server-1", CALM)
            sizes = (("few", few, rounds), ("many", many, 2 * rounds), ("few", few, rounds))
            for size, wanted, changes in sizes:
                count = _grow(lab, count, wanted, places)
                for turn in range(changes):
                    for stage, value in _move(lab, prober, places, turn, timing).items():
                        found[size].setdefault(stage, []).append(value)
                said = (f"{stage} {number(median(values), 'ms')}" for stage, values in found[size].items())
                say(f"{count} Services: {', '.join(said)}")
        return found


def _move(
    lab: Any, prober: Prober, places: list[tuple[str, str]], turn: int, timing: Path
) -> dict[str, float]:
    """To server-2 in turn 0, back in turn 1, and so on; milliseconds to each stage."""
    to = 1 - turn % 2
    with prober.quiet:
        lab.ovs.appctl("dpctl/flush-conntrack")  # what it knows of a port goes on to the old pod, rightly
    seen = timing.stat().st_size
    began, clock = time.monotonic(), time.time()
    lab.client.apply(_slice(places[to]))
    written = time.monotonic() - began
    lab.client.settle([f"kubeproxy/{node}" for _, node in places])
    moved = prober.until_calm(f"server-{to + 1}", CALM)
    records = [json.loads(line) for line in timing.read_bytes()[seen:].splitlines()]
    ours = [record for record in records if CAUSE in record["causes"]]
    if {record["node"] for record in ours} != {node for _, node in places}:
        raise BenchError(f"kubeproxy recorded {len(ours)} barriers for one change on {len(places)} nodes")
    return {
        "written": 1000 * written,
        "received": 1000 * (max(record["receivedAt"] for record in ours) - clock),
        "barrier": 1000 * (max(record["barrierAt"] for record in ours) - clock),
        "datapath": 1000 * (moved - began),
    }


def _server(name: str, node: str) -> dict[str, Any]:
    made = pod(name, node, image="registry.k8s.io/e2e-test-images/agnhost:2.47")
    container = made["spec"]["containers"][0]
    container["args"] = ["netexec", f"--udp-port={PORT}"]
    container["ports"] = [{"containerPort": PORT, "protocol": "UDP"}]
    return made


def _slice(place: tuple[str, str]) -> dict[str, Any]:
    return endpoint_slice(NAME, [place], PORT, "UDP")


def _grow(lab: Any, have: int, want: int, places: list[tuple[str, str]]) -> int:
    """Services beside the one that is measured, each with an endpoint; or fewer of them again."""
    for number_of_one in range(have, want):
        name = f"fill-{number_of_one}"
        lab.client.apply(service(name, PORT, selector=False, protocol="UDP"))
        lab.client.apply(endpoint_slice(name, [places[number_of_one % 2]], PORT, "UDP"))
    for number_of_one in range(want, have):
        lab.client.delete("Service", f"fill-{number_of_one}", "default")
        lab.client.delete("EndpointSlice", f"fill-{number_of_one}-1", "default")
    lab.settle(timeout=120)
    return want
