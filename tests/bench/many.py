"""Bench (f): 10,000 Services with 10 endpoints each.

What a new connection's first packet costs with 10, 1,000 and 10,000 Services; what it takes to program all
of them into an empty switch, beside ``ovs-ofctl --bundle`` with the same flows and groups; what one changed
endpoint costs in that state; how much memory kubeproxy needs.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.boxed import boxed, say
from tests.bench.figures import Aim, Figure, number
from tests.bench.objects import endpoint_slice, pod, service
from tests.bench.prober import first_packets
from tests.bench.processes import peak_megabytes

SIZES = (10, 1_000, 10_000)
ENDPOINTS = 10
PORT = 8081
NAME = "asked"
MILLISECONDS, MEGABYTES, FLAT, PROGRAM = 20.0, 500.0, 1.05, 0.7
PROBES = 40
"""First packets of one turn: some by the ClusterIP, as many to the pod itself, one after the other."""


def measure(*, quick: bool) -> list[Figure]:
    sizes, turns = ((2, 5, 20), 1) if quick else (SIZES, 9)
    found = boxed("tests.bench.many:grow", sizes=sizes, turns=turns, timeout=900)
    few, *more = (str(size) for size in sizes)
    figures = [
        Figure(
            bench="f",
            name=f"first packet by ClusterIP, {int(size):,} Services",
            unit="x pod's",
            samples=found["first"][size],
            beside=f"{few} Services",
            against=found["first"][few],
            paired=False,
            aims=[Aim(of="ratio", bound=FLAT)],
            parts={"milliseconds": {each: found["milliseconds"][each] for each in (few, size)}},
        )
        for size in more
    ]
    cold, changes = found["cold"], found["change"]
    programmed = [[one[key] for one in cold] for key in ("program", "start", "ofctl")]
    words = f"{int(sizes[-1]):,} Services x {ENDPOINTS} endpoints"
    return [
        *figures,
        Figure(
            bench="f", name=f"{words}: known to barrier", unit="s", samples=programmed[0],
            beside="ovs-ofctl --bundle", against=programmed[2], aims=[Aim(of="ratio", bound=PROGRAM)],
            parts={"switch": found["switch"], "cold": cold},
        ),
        Figure(
            bench="f", name=f"{words}: kubeproxy's start to barrier", unit="s", samples=programmed[1],
            beside="ovs-ofctl --bundle", against=programmed[2],
        ),
        Figure(
            bench="f", name=f"one endpoint changed, {int(sizes[-1]):,} Services", unit="ms",
            samples=changes[str(sizes[-1])], beside=f"{few} Services", against=changes[few], paired=False,
            aims=[Aim(of="value", bound=MILLISECONDS)],
        ),
        Figure(
            bench="f", name=f"kubeproxy's memory, {int(sizes[-1]):,} Services", unit="MB",
            samples=[found["megabytes"][str(sizes[-1])]], beside=f"{few} Services",
            against=[found["megabytes"][few]], aims=[Aim(of="value", bound=MEGABYTES)],
        ),
    ]  # fmt: skip


def grow(*, sizes: list[int], turns: int) -> dict[str, Any]:
    """In a sandbox: everything, with ever more Services."""
    from topo.lab import ClusterConfig, Lab
    from topo.lab_state import LOGS

    found: dict[str, Any] = {"first": {}, "milliseconds": {}, "change": {}, "megabytes": {}}
    with Lab(ClusterConfig(nodes=1)) as lab:
        lab.apply(pod("client", "node1"), _server())
        lab.settle()
        place = (str(lab.pod("server").ip), "node1")
        lab.apply(service(NAME, PORT, selector=False, protocol="UDP"))
        lab.apply(endpoint_slice(NAME, [place], PORT, "UDP"))
        address = lab.client.get("Service", NAME, "default")["spec"]["clusterIP"]
        timing = lab.run_dir / LOGS / "kubeproxy-timing.jsonl"
        have = 1
        for size in sizes:
            began = time.monotonic()
            have = _grow(lab, have, size)
            say(f"{size:,} Services are there after {time.monotonic() - began:.0f} s more")
            found["first"][str(size)], found["milliseconds"][str(size)] = _first(
                lab, address, place[0], turns
            )
            found["change"][str(size)] = [_change(lab, timing, turn) for turn in range(2 * turns)]
            found["megabytes"][str(size)] = peak_megabytes("controller.kubeproxy.app")
            said = f"a change {number(median(found['change'][str(size)]), 'ms')}"
            say(f"{size:,} Services: first packets {found['milliseconds'][str(size)]}, {said}")
        found["switch"] = {
            what: _ofctl_lines(lab, f"dump-{what}", "br-node1") for what in ("flows", "groups")
        }
        found["cold"] = [_cold(lab, timing) for _ in range(min(turns, 3))]
    return found


def _first(lab: Any, vip: str, direct: str, turns: int) -> tuple[list[float], dict[str, float]]:
    """For each turn the median first packet by VIP over the median one to the pod; and both in ms."""
    ratios, seen = [], {"vip": [], "pod": []}  # type: ignore[var-annotated]
    for _ in range(turns):
        by_vip, by_pod = first_packets(
            lab.pod("client").netns,
            [(vip, PORT), (direct, PORT)],
            PROBES,
            lambda: lab.ovs.appctl("dpctl/del-flows"),
        )
        ratios.append(median(by_vip) / median(by_pod))
        seen["vip"] += by_vip
        seen["pod"] += by_pod
    return ratios, {key: round(1000 * median(values), 3) for key, values in seen.items()}


def _change(lab: Any, timing: Path, turn: int) -> float:
    """Milliseconds from kubeproxy's hearing of a Service's new endpoint to the barrier."""
    seen = timing.stat().st_size
    lab.client.apply(_filling(0, spare=1 - turn % 2))
    lab.client.settle(["kubeproxy/node1"])
    records = [json.loads(line) for line in timing.read_bytes()[seen:].splitlines()]
    return float(max(record["milliseconds"] for record in records))


def _cold(lab: Any, timing: Path) -> dict[str, float]:
    """Seconds until an empty switch holds everything: by ``ovs-ofctl``, then by a kubeproxy just started."""
    lab.kill("kubeproxy")
    files = {}
    for what in ("groups", "flows"):
        files[what] = lab.run_dir / f"bench-{what}"
        files[what].write_text("".join(f"{line}\n" for line in _ofctl_dump(lab, f"dump-{what}", "br-node1")))
    with _empty(lab):
        began = time.monotonic()
        for what in ("groups", "flows"):
            lab.ovs.ofctl("--bundle", f"add-{what}", "br-node1", str(files[what]))
        by_ofctl = time.monotonic() - began
    with _empty(lab):
        seen = timing.stat().st_size
        began, clock = time.monotonic(), time.time()
        lab.restart("kubeproxy")
        lab.client.settle(["kubeproxy/node1"], 120)  # not DNS: it, too, has lost its way to the API server
        started = time.monotonic() - began
        records = [json.loads(line) for line in timing.read_bytes()[seen:].splitlines()]
        largest = max(records, key=lambda record: record["messages"])
    found = {
        "ofctl": by_ofctl,
        "program": largest["programMilliseconds"] / 1000,
        "start": largest["barrierAt"] - clock,
        "settled": started,
        "build": (largest["sendMilliseconds"] - largest["programMilliseconds"]) / 1000,
        "messages": largest["messages"],
    }
    say(", ".join(f"{key} {number(value, '')}" for key, value in found.items()))
    return found


@contextlib.contextmanager
def _empty(lab: Any) -> Iterator[None]:
    lab.ovs.ofctl("del-flows", "br-node1")
    lab.ovs.ofctl("del-groups", "br-node1")
    yield


def _ofctl_dump(lab: Any, *command: str) -> list[str]:
    text = lab.ovs.ofctl("--no-stats", *command)
    return [line.strip() for line in text.splitlines() if "actions=" in line]


def _ofctl_lines(lab: Any, *command: str) -> int:
    return len(_ofctl_dump(lab, *command))


def _server() -> dict[str, Any]:
    made = pod("server", "node1", image="registry.k8s.io/e2e-test-images/agnhost:2.47")
    container = made["spec"]["containers"][0]
    container["args"] = ["netexec", f"--udp-port={PORT}"]
    container["ports"] = [{"containerPort": PORT, "protocol": "UDP"}]
    return made


def _filling(index: int, *, spare: int = 0) -> dict[str, Any]:
    """A slice of ten endpoints that no other Service has; ``spare`` makes one of them another."""
    first = ENDPOINTS * index
    places = [
        (f"10.244.{100 + spare * (place == first)}.{2 + place % 250}", "node1")
        for place in range(first, first + ENDPOINTS)
    ]
    return endpoint_slice(f"fill-{index}", places, 10_000 + first // 250, "TCP")


def _grow(lab: Any, have: int, want: int) -> int:
    for index in range(have - 1, want - 1):
        lab.client.create(service(f"fill-{index}", 80, selector=False))
        lab.client.create(_filling(index))
    lab.settle(timeout=300)
    return want
