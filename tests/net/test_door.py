"""``./lab`` itself, before Python: what it says while it cannot go on."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "lab"


def test_one_that_waits_for_another_s_installation_says_so(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [str(LAB), "setup"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PODWIRE_HOME": str(tmp_path)},
            process_group=0,
        ) as waiting:
            try:
                assert waiting.stderr
                assert waiting.stderr.readline() == "podwire: another ./lab is setting up; waiting for it\n"
            finally:
                os.killpg(waiting.pid, signal.SIGKILL)  # before the lock is free: it must install nothing
