"""A lab in the background: the foreground waits until it is ready, showing its log.

The foreground forks a process in a session of its own that plays the process outside (see
sandbox_outside.py). Until the lab is ready, the end of the foreground ends the lab as well.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from controller.api import errors
from topo.sandbox_join import stop
from topo.sandbox_outside import Message, run_attached

_LOOK = 0.05  # seconds between two looks at the log while the lab starts


def run_detached(main: Callable[[], int], name: str | None) -> int:
    """Start ``main`` in a sandbox in the background; 0 once it is ready, else its exit status."""
    guard, guard_out = os.pipe2(os.O_CLOEXEC)
    messages, messages_out = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(guard_out)
        os.close(messages)
        _background(main, name, guard, messages_out)
    os.close(guard)
    os.close(messages_out)
    front = _Foreground(messages)
    try:
        return front.follow()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(guard_out)  # ends a lab that is not ready yet
        guard_out = -1
        front.follow()
        if front.ready:
            stop(front.name)
        return 128 + signal.SIGINT
    finally:
        if guard_out >= 0:
            os.close(guard_out)
        front.close()


def _background(main: Callable[[], int], name: str | None, guard: int, messages: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

        def tell(message: Message) -> None:
            with suppress(OSError):  # the foreground is gone, or has heard all it wants to know
                os.write(messages, json.dumps(message).encode() + b"\n")
                if message.get("ready"):
                    os.dup2(null, messages)

        try:
            status = run_attached(main, name, log=True, guard=guard, tell=tell)
        except errors.PodwireError as error:
            status = error.exit_code  # told already
        tell({"exit": status})
    finally:
        os._exit(status)


class _Foreground:
    """What the user sees until the lab is ready. ``follow`` may be called again after an interrupt."""

    def __init__(self, messages: int) -> None:
        self.name = ""
        self.ready = False
        self._messages = messages
        self._unread = b""
        self._log: BinaryIO | None = None

    def follow(self) -> int:
        """Copy the log to standard output until the lab is ready (0) or over (its exit status)."""
        while not self.ready:
            if select.select([self._messages], [], [], _LOOK)[0]:
                got = os.read(self._messages, 4096)
                if not got:
                    return 128 + signal.SIGKILL
                self._unread += got
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                status = self._heed(json.loads(line))
                if status is not None:
                    self._show_log()
                    return status
            self._show_log()
        return 0

    def close(self) -> None:
        """Let go of the lab; it lives on when it is ready."""
        os.close(self._messages)
        if self._log is not None:
            self._log.close()

    def _heed(self, message: dict[str, Any]) -> int | None:
        if "error" in message:
            raise getattr(errors, message["error"])(message["text"])
        if "taken" in message:
            self.name = message["taken"]
            with suppress(FileNotFoundError):
                self._log = Path(message["log"]).open("rb")  # noqa: SIM115 (closed by close)
        if message.get("ready"):
            self.ready = True
            return 0
        return message.get("exit")

    def _show_log(self) -> None:
        if self._log is not None:
            sys.stdout.write(self._log.read().decode(errors="replace"))
            sys.stdout.flush()
