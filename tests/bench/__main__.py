"""``./lab bench``: runs measurements one after the other, each in sandboxes of its own; table and JSON.

The measurements know what is measured; here stand the words, the order and the output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from controller.api.errors import UsageError
from scenarios.cli_parsers import Parser
from tests import command
from tests.bench.figures import Figure, table
from topo import sandbox

BENCHES = {
    "a": ("start", "start of the lab to the first answer by NodePort, beside plain Mininet"),
    "b": ("pods", "200 and 1,000 pods ready, beside plain Mininet with as many hosts"),
    "c": ("throughput", "TCP throughput by VIP, beside the pod's own address"),
    "d": ("connections", "new connections a second by VIP, beside the pod's own address"),
    "e": ("change", "an EndpointSlice's change to barrier and datapath, with 10 and 1,000 Services"),
    "f": ("many", "10,000 Services: first packets, programming, one change, memory"),
    "g": ("api", "the API server: get, list, creates, watches, memory; kubectl apply"),
    "h": ("names", "DNS by VIP, beside the server asked directly and beside dnsmasq; a change to its answer"),
}


def parser() -> Parser:
    lines = "\n".join(f"  {letter}  {text}" for letter, (_, text) in BENCHES.items())
    made = Parser(
        prog="./lab bench",
        description="Measure the lab, each figure beside another one of the same run.",
        epilog=f"benches:\n{lines}\n\nLet the machine do nothing else meanwhile; all take ten minutes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("benches", nargs="*", metavar="BENCH", help="which of a to h (all)")
    made.add_argument("--json", metavar="FILE", help="write the figures there too (-: standard output)")
    made.add_argument("--quick", action="store_true", help="small sizes, to see that everything works")
    return made


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; 0 whatever the figures are."""
    options = parser().parse_args(argv)
    chosen = sorted(set(options.benches)) or list(BENCHES)
    for word in chosen:
        if word not in BENCHES:
            raise UsageError(f"there is no bench `{word}`; there are {', '.join(BENCHES)}")
    sandbox.need_root()
    out = command.json_file(options.json)
    before = machine()
    figures: list[Figure] = []
    for letter in chosen:
        module, text = BENCHES[letter]
        print(f"{letter}: {text}", file=sys.stderr, flush=True)
        began = time.monotonic()
        figures += importlib.import_module(f"tests.bench.{module}").measure(quick=options.quick)
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    report = {
        "quick": options.quick,
        "machine": before,
        "loadAfter": os.getloadavg(),
        "figures": [figure.to_json() for figure in figures],
    }
    if out is not sys.stdout:
        print(table(figures))
        print(f"load of the machine before: {before['load'][0]:.1f}, processors: {before['processors']}")
    if out is not None:
        json.dump(report, out, indent=2)
        out.write("\n")
        out.flush()
    if options.json not in (None, "-"):
        sandbox.own_by_user(options.json)
    return 0


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {"processors": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}


if __name__ == "__main__":
    command.end(main)
