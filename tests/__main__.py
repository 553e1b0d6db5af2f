"""``./lab test``: every check of the house, one after the other or side by side, one summary.

With arguments it is pytest with these arguments. Without: the switch tier beside ruff, mypy, the layers
and the unit tests, then the net tier in two sandboxes side by side, because it mostly waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_BIN = Path(sys.executable).parent
_CACHE = Path(os.environ.get("PODWIRE_HOME", "/var/lib/podwire")) / "cache"
_PYTEST = (sys.executable, "-m", "pytest")


@dataclass(frozen=True)
class Check:
    """One command of the run; ``quiet`` output is shown when the command has ended."""

    name: str
    argv: tuple[str, ...]
    quiet: bool = True


STATIC = (
    Check("ruff", (str(_BIN / "ruff"), "check", "--quiet", ".")),
    # From nothing each time: an old cache does not see a module that is new in its package.
    Check("mypy", (str(_BIN / "mypy"), "--no-incremental", "--cache-dir", os.devnull)),
    Check("layers", (str(_BIN / "lint-imports"), "--cache-dir", str(_CACHE / "layers"))),
)
UNIT = Check("unit", (*_PYTEST, "tests/unit"))
OVS = Check("ovs", (*_PYTEST, "tests/ovs"), quiet=False)
_COMMANDS = tuple(
    f"tests/net/test_{name}.py"
    for name in ("sandbox", "sandbox_join", "lab_ends", "scenarios", "microservices", "door")
)
"""The half of the net tier that starts whole commands; every other file of it is in the other half."""
NET = Check("net, labs", (*_PYTEST, "tests/net", *(f"--ignore={file}" for file in _COMMANDS)), quiet=False)
NET_COMMANDS = Check("net, commands", (*_PYTEST, *_COMMANDS))


def main(arguments: list[str]) -> int:
    """Run everything, or pytest with arguments; returns the exit status."""
    if arguments:
        return subprocess.call((*_PYTEST, *arguments))
    outcome = [*_side_by_side(OVS, [*STATIC, UNIT]), *_side_by_side(NET, [NET_COMMANDS])]
    print()
    for name, status, seconds in outcome:
        print(f"{'passed' if status == 0 else 'FAILED'}  {name:14}{seconds:6.1f}s")
    return 1 if any(status for _, status, _ in outcome) else 0


def _side_by_side(shown: Check, quiet: Sequence[Check]) -> list[tuple[str, int, float]]:
    """One check as it goes, and the quiet ones one after the other beside it, told when it has ended."""
    with ThreadPoolExecutor(1) as beside:
        waiting = [(check, beside.submit(_run, check)) for check in quiet]
        outcome = [(shown.name, *_run(shown)[:2])]
        for check, future in waiting:
            status, seconds, text = future.result()
            outcome.append((check.name, status, seconds))
            print(f"\n{check.name}: {'passed' if status == 0 else 'FAILED'} in {seconds:.1f}s")
            if status or check not in STATIC:
                print(text)
    sys.stdout.flush()
    return outcome


def _run(check: Check) -> tuple[int, float, str]:
    start = time.monotonic()
    try:
        done = subprocess.run(
            check.argv,
            text=True,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if check.quiet else {}),
        )
    except FileNotFoundError:
        return 127, 0.0, f"{check.argv[0]} is missing: ./lab test installs it"
    return done.returncode, time.monotonic() - start, done.stdout or ""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
