"""Commands of a lesson that go on while it looks: a forward, a tunnel, ended with their block."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from controller.api.errors import NotSettled

if TYPE_CHECKING:
    from scenarios.lesson import Host


class Terminal:
    """The ``Host`` on which ``./lab`` is typed."""

    name = "host"

    def run(self, command: Any, *, timeout: float = 30, input: str | None = None) -> Any:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=input)

    @staticmethod
    def start(command: list[str], **options: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "scenarios", *command[1:]]
        root = Path(__file__).resolve().parents[1]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=root, **options)


class Beside:
    """A ``Host`` whose command goes on when ``run`` returns, which is once it has said ``words``.

    The ``with`` block ends it, as Ctrl-C would.
    """

    def __init__(self, host: Host, start: Any, words: str) -> None:
        self.name, self._start, self._words = host.name, start, words
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, command: str | Sequence[str], *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        self._process = self._start(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        assert self._process.stdout
        said = _until(self._process.stdout, self._words, time.monotonic() + timeout)
        return subprocess.CompletedProcess(self._process.args, self._process.poll() or 0, said, "")

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            assert self._process.stdout
            self._process.stdout.close()


def _until(stream: IO[str], words: str, deadline: float) -> str:
    """What a command says, up to the line with ``words`` (or to its end)."""
    said = b""
    while words.encode() not in said or not said.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise NotSettled(f"a command did not say `{words}` in time, but: {said.decode()}")
        more = os.read(stream.fileno(), 65536)
        if not more:
            break
        said += more
    return said.decode()
