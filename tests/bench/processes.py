"""Processor time by component, inside a sandbox: where the time of a bench goes."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from tests.bench.boxed import BenchError

_TICKS = os.sysconf("SC_CLK_TCK")
_NAMES = ("controller.api.server", "controller.kubeproxy.app", "topo.runtime", "ovs-vswitchd", "ovsdb-server")


def cpu_seconds() -> dict[str, float]:
    """Seconds used so far, the sandbox's processes taken together by what they are; ended children too."""
    used: defaultdict[str, float] = defaultdict(float)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = next((name for name in _NAMES if name in command), "lab (with kubelet)")
        used[name] += sum(map(int, fields[11:15])) / _TICKS
    return {name: round(seconds, 2) for name, seconds in used.items()}


def peak_megabytes(name: str) -> float:
    """The most resident memory (VmHWM) that the process with this in its command line has had."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            status = (entry / "status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name in command:
            line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) / 1000
    raise BenchError(f"no process {name} runs")
