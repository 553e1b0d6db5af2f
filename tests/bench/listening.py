"""Waiting until a program in a namespace listens, without connecting to it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.bench.boxed import BenchError
from topo.netns import Netns

_LISTEN = "0A"  # the kernel's TCP_LISTEN


def wait(netns: Netns, port: int, *, timeout: float = 10) -> None:
    """Until some socket in there listens on the TCP port; BenchError when none does in time."""
    pause, end = threading.Event(), time.monotonic() + timeout
    while not netns.call(lambda: _listens(port)):
        if time.monotonic() > end:
            raise BenchError(f"nobody listens on port {port} of {netns.name} after {timeout:g} s")
        pause.wait(0.01)


def _listens(port: int) -> bool:
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/thread-self/net", table).read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                return True
    return False
