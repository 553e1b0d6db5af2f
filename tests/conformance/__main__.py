"""``./lab conformance``: upstream's cases on a lab of their own; the table, the score, the exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from controller.api.errors import UsageError
from tests import command
from tests.conformance import report
from tests.conformance.run import BUDGET, CASE_SECONDS, CLUSTER, Result, choose, run
from tests.conformance.upstream import Upstream
from topo import sandbox
from topo.config import IP_FAMILIES


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="./lab conformance",
        description="Kubernetes' own end-to-end cases for Services, tried on a lab. "
        "Exit status 1 when a case that is recorded as passing (tests/conformance/baseline.txt) does not.",
        epilog="examples:\n"
        "  ./lab conformance                          all of them\n"
        "  ./lab conformance nodeport 'udp cycles'    names with the word; names with both words\n"
        "  ./lab conformance --list                   only their names\n"
        "  ./lab conformance --json score.json        the results for a machine too",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("patterns", nargs="*", metavar="PATTERN", help="words of a group or a name (all cases)")
    made.add_argument("--list", action="store_true", help="only name the cases")
    made.add_argument("--json", metavar="FILE", help="write the results there too")
    made.add_argument("--traces", action="store_true", help="where each case that is not passed stopped")
    made.add_argument("--record", action="store_true", help="write baseline.txt anew from a full run")
    made.add_argument("--slow", action="store_true", help="try the cases that take minutes too")
    made.add_argument(
        "--ip-family", choices=IP_FAMILIES, default=CLUSTER.ip_family, help="of the lab (%(default)s)"
    )
    made.add_argument(
        "--case-seconds", type=int, default=CASE_SECONDS, help=f"end a case after so long ({CASE_SECONDS})"
    )
    made.add_argument(
        "--seconds", type=float, default=BUDGET, help=f"begin no case after so long ({BUDGET:.0f})"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Run what was asked for."""
    options = parser().parse_args(argv)
    chosen = choose(options.patterns)
    if not chosen:
        raise UsageError(f"no case has {' or '.join(map(repr, options.patterns))} in its name")
    if options.record and options.patterns:
        raise UsageError("--record needs a full run: leave the patterns out")
    if options.list:
        show(chosen)
        return 0
    sandbox.need_root()
    out = command.json_file(options.json)
    return sandbox.enter(lambda: inside(chosen, options, out), name=f"conformance-{os.getpid()}")


def show(chosen: Sequence[Upstream]) -> None:
    group = ""
    for case in chosen:
        if case.group != group:
            group = case.group
            print(f"\n{group}")
        print(f"  {'C' if case.conformance else ' '} {case.name}")


def inside(chosen: Sequence[Upstream], options: argparse.Namespace, out: Any) -> int:
    """In the sandbox: the lab, the cases, the words."""
    total, done = len(chosen), 0

    def tell(result: Result) -> None:
        nonlocal done
        done += 1
        word = report.WORDS[result.outcome]
        line = f"[{done:3}/{total}] {result.seconds:5.1f} s  {word:<10}  {result.name}"
        print(line, file=sys.stderr, flush=True)

    slow = options.slow or bool(options.patterns)
    results = run(
        chosen,
        budget=options.seconds,
        slow=slow,
        case_seconds=options.case_seconds,
        cluster=replace(CLUSTER, ip_family=options.ip_family),
        tell=tell,
    )
    baseline, in_vm = report.read_baseline(), report.read_baseline(report.IN_VM)
    print(report.table(results))
    print()
    if options.traces:
        for result in results:
            if result.trace:
                print(f"{result.group}: {result.name}\n{result.trace}")
    print(report.score(results, in_vm))
    if out is not None:
        json.dump(report.as_json(results), out, indent=2)
        out.write("\n")
        out.close()
        sandbox.own_by_user(options.json)
    if options.record:
        report.BASELINE.write_text(report.baseline_text(results), encoding="utf-8")
        return 0
    new = report.unrecorded(results, [*baseline, *in_vm])
    if new:
        print(f"passed and not recorded in baseline.txt: {len(new)} (--record)")
    bad = report.regressed(results, baseline, in_vm)
    for result in bad:
        print(f"REGRESSED  {result.group}: {result.name}: {result.reason}")
    return 1 if bad else 0


if __name__ == "__main__":
    command.end(main)
