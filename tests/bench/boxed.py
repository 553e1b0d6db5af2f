"""Runs a measurement in a sandbox of its own and brings back what it returns.

    boxed("tests.bench.plain:build", hosts=200)

runs ``build(hosts=200)`` in a new process, inside a new sandbox, and returns its JSON. What the
function prints is progress and goes to standard error. Nothing is measured here.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from controller.api.errors import PodwireError
from topo import sandbox

ROOT = Path(__file__).resolve().parents[2]
STARTED = "PODWIRE_BENCH_STARTED"
"""When the process was started, on the machine's monotonic clock."""
_RESULT = "PODWIRE_BENCH_RESULT"


class BenchError(PodwireError):
    """A measurement did not come to its end."""


def boxed(function: str, *, timeout: float, **arguments: Any) -> Any:
    """Call ``module:function`` with keyword arguments in a sandbox; BenchError when it fails or is late."""
    with tempfile.TemporaryFile() as result:
        descriptor = result.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.boxed", function, json.dumps(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            cwd=ROOT,
            pass_fds=[descriptor],
            env={**os.environ, STARTED: repr(time.monotonic()), _RESULT: str(descriptor)},
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{function} did not end within {timeout:g} s") from None
        finally:
            process.kill()  # its sandbox goes with it
            process.wait()
        result.seek(0)
        text = result.read()
    if status:
        raise BenchError(f"{function} failed with exit status {status}; its last words are above")
    return json.loads(text)


def since_start() -> float:
    """Seconds since this process was started, its interpreter and imports included."""
    return time.monotonic() - float(os.environ[STARTED])


def say(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main(function: str, arguments: str) -> int:
    """In the sandbox."""
    module, _, name = function.partition(":")
    returned = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    os.write(int(os.environ[_RESULT]), json.dumps(returned).encode())
    return 0


if __name__ == "__main__":
    try:
        sandbox.enter(lambda: main(*sys.argv[1:]), name=f"bench-{os.getpid()}")
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
