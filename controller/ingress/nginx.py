"""The nginx beside us: try a configuration, start with it, reload it, and know when it is in force.

Only the program and its files; what is in the configuration is ``render``'s. ``in force`` means that no
worker with an older configuration takes a new connection any more.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 10.0
_PACE = 0.01
_LEAVING = "shutting down"


class NginxError(Exception):
    """What nginx says against a configuration, or that it does not follow."""


class Nginx:
    """One nginx, whose files are all in ``directory``."""

    def __init__(self, directory: Path, program: str = "nginx") -> None:
        self.directory, self._program = directory, program
        self._child: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def use(self, text: str) -> None:
        """Have this configuration in force. NginxError: it is not one, and what was in force still is."""
        file = self.directory / "nginx.conf"
        self.test(text).replace(file)
        if self._child is None:
            self._child = subprocess.Popen(self._argv(file))
            self._until(lambda: any(self._workers()))
            return
        old = {pid for pid, _ in self._workers()}
        self._child.send_signal(signal.SIGHUP)
        self._until(lambda: _taken_over(old, dict(self._workers())))

    def test(self, text: str) -> Path:
        """The file that holds a configuration which nginx would take. NginxError when it would not."""
        file = self.directory / "nginx.conf.new"
        file.write_text(text, encoding="utf-8")
        done = subprocess.run(self._argv(file, "-q", "-t"), capture_output=True, text=True, check=False)
        if done.returncode:
            raise NginxError(_said(done.stderr) or f"nginx -t ends with {done.returncode}")
        return file

    def ended(self) -> int | None:
        """Its exit status when it was started and runs no more."""
        return self._child.poll() if self._child is not None else None

    def stop(self) -> None:
        """Let the requests under way end, at most for as long as the configuration says."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGQUIT)
            try:
                self._child.wait(PATIENCE + 5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def _argv(self, file: Path, *options: str) -> list[str]:
        return [self._program, "-p", str(self.directory), "-e", "stderr", "-c", str(file), *options]

    def _workers(self) -> Iterator[tuple[int, str]]:
        """Pid and title of each worker."""
        assert self._child is not None
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                    if int(parent) == self._child.pid:
                        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        if "worker" in title:
                            yield int(entry.name), title
                except (OSError, IndexError):
                    continue

    def _until(self, condition: Callable[[], bool]) -> None:
        assert self._child is not None
        end = time.monotonic() + PATIENCE
        while not condition():
            if self._child.poll() is not None:
                raise NginxError(f"nginx has ended with {self._child.returncode}")
            if time.monotonic() > end:
                raise NginxError(f"nginx does not use its new configuration after {PATIENCE:g} s")
            time.sleep(_PACE)


def _said(text: str) -> str:
    """What nginx minds, without when, who and in which file: the same mistake has the same words."""
    lines = [line.partition("#")[2].partition(": ")[2] for line in text.splitlines() if "[emerg]" in line]
    return "; ".join(re.sub(r" in \S+:\d+$", "", line) for line in lines)


def _taken_over(old: set[int], now: dict[int, str]) -> bool:
    """A new worker is there, and the old ones listen no more."""
    return any(pid not in old for pid in now) and all(_LEAVING in now[pid] for pid in old & set(now))
