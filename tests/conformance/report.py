"""The results as a table by group, the score, and what has regressed since the baseline. Pure.

``baseline.txt`` names the cases that are recorded as passing; a run in which one of them does not pass
fails. A case that passes and is not recorded is named, so that somebody records it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.conformance.run import Result

BASELINE = Path(__file__).with_name("baseline.txt")
IN_VM = Path(__file__).with_name("vm.txt")
"""Cases that pass where the kernel has what they need; ``tests/vm.sh conformance`` tries them."""
SIG_NODE = "sig-node"
WORDS = {"passed": "passed", "failed": "NOT PASSED"}


@dataclass(frozen=True, kw_only=True)
class Count:
    passed: int
    total: int

    def __str__(self) -> str:
        return f"{self.passed}/{self.total}"

    @classmethod
    def of(cls, results: Iterable[Result]) -> Count:
        outcomes = [result.outcome for result in results]
        return cls(passed=outcomes.count("passed"), total=len(outcomes))


def table(results: Sequence[Result]) -> str:
    """Every case by group, as upstream orders them."""
    lines = []
    for group, members in groupby(results, key=lambda result: result.group):
        found = list(members)
        lines.append(f"\n{group}  {Count.of(found)}")
        lines += [line(result) for result in found]
    return "\n".join(lines)


def line(result: Result) -> str:
    """One case; its reason when it is not passed."""
    word = WORDS[result.outcome]
    mark = ("C" if result.conformance else " ") + ("*" if result.unnamed else " ")
    text = f"  {word:<11}{mark} {result.name}"
    return f"{text}\n                 {result.reason}" if result.reason else text


def score(results: Sequence[Result], in_vm: Iterable[str] = ()) -> str:
    """The figures in a few lines. ``in_vm``: what passes in the virtual machine."""
    network = [one for one in results if one.conformance and one.group != SIG_NODE]
    node = [one for one in results if one.conformance and one.group == SIG_NODE]
    others = [one for one in results if not one.conformance]
    recorded = set(in_vm)
    there = [one for one in results if one.waits and _name(one) in recorded]
    waiting = [one for one in results if one.waits]
    unnamed = [one for one in results if one.unnamed]
    lines = [f"conformance {Count.of(network)}, others {Count.of(others)}"]
    if node:
        lines[0] += f", sig-node conformance {Count.of(node)}"
    if waiting:
        lines.append(f"not passed for want of one thing that the lab does not have yet: {len(waiting)}")
    if there:
        with_them = sum(one.outcome == "passed" for one in others) + sum(not one.conformance for one in there)
        lines.append(
            f"of these {len(there)} pass in the virtual machine, whose kernel has SCTP (tests/vm.sh): "
            f"with them others {with_them}/{len(others)}"
        )
    if unnamed:
        lines.append(
            f"* {len(unnamed)} passed by address; upstream asks by name too, and there is no DNS yet"
        )
    return "\n".join(lines)


def regressed(results: Sequence[Result], baseline: Iterable[str], in_vm: Iterable[str] = ()) -> list[Result]:
    """Recorded as passing, tried now, and not passed. One of ``in_vm`` may lack what it needs."""
    recorded, there = set(baseline), set(in_vm)
    failed = [one for one in results if one.outcome != "passed"]
    return [one for one in failed if _name(one) in recorded or (_name(one) in there and not one.waits)]


def unrecorded(results: Sequence[Result], baseline: Iterable[str]) -> list[Result]:
    """Passed, and not recorded."""
    recorded = set(baseline)
    return [one for one in results if one.outcome == "passed" and _name(one) not in recorded]


def read_baseline(file: Path = BASELINE) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [one for one in lines if one and not one.startswith("#")]


def baseline_text(results: Sequence[Result]) -> str:
    """What a file of these results would say."""
    names = [_name(one) for one in results if one.outcome == "passed"]
    head = "# Cases that pass; ./lab conformance exits 1 when one of them no longer does."
    return "\n".join([head, *names, ""])


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    groups = {
        group: {"passed": count.passed, "total": count.total}
        for group, members in groupby(results, key=lambda result: result.group)
        for count in [Count.of(list(members))]
    }
    return {
        "conformance": _figures(one for one in results if one.conformance and one.group != SIG_NODE),
        "conformanceOfSigNode": _figures(one for one in results if one.conformance and one.group == SIG_NODE),
        "others": _figures(one for one in results if not one.conformance),
        "groups": groups,
        "cases": [one.to_json() for one in results],
    }


def _figures(results: Iterable[Result]) -> dict[str, int]:
    count = Count.of(results)
    return {"passed": count.passed, "total": count.total}


def _name(result: Result) -> str:
    return f"{result.group}: {result.name}"
