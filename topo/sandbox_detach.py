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
from typing import BinaryIO, NoReturn

from controller.api import errors
from topo.sandbox_outside import Message, run_attached

_LOOK = 50  # milliseconds between two looks at the log while the lab starts


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
    try:
        return _follow(messages)
    except KeyboardInterrupt:
        os.close(guard_out)
        guard_out = -1
        with suppress(KeyboardInterrupt):
            _follow(messages)
        return 128 + signal.SIGINT
    finally:
        if guard_out >= 0:
            os.close(guard_out)
        os.close(messages)


def _background(main: Callable[[], int], name: str | None, guard: int, messages: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

        def tell(message: Message) -> None:
            with suppress(BrokenPipeError):
                os.write(messages, json.dumps(message).encode() + b"\n")

        try:
            status = run_attached(main, name, log=True, guard=guard, tell=tell)
        except errors.PodwireError as error:
            status = error.exit_code  # told already
        tell({"exit": status})
    finally:
        os._exit(status)


def _follow(messages: int) -> int:
    """Copy the log to standard output until the lab is ready or over."""
    log: BinaryIO | None = None
    text = b""
    try:
        while True:
            if select.select([messages], [], [], _LOOK / 1000)[0]:
                got = os.read(messages, 4096)
                if not got:
                    return 128 + signal.SIGKILL
                text += got
            *lines, text = text.split(b"\n")
            for message in map(json.loads, lines):
                if message.get("log"):
                    with suppress(FileNotFoundError):
                        log = open(message["log"], "rb")  # noqa: SIM115 - kept: it is read after the lab is gone
                if "error" in message:
                    raise getattr(errors, message["error"])(message["text"])
                if message.get("ready") or "exit" in message:
                    _copy(log)
                    return int(message.get("exit", 0))
            _copy(log)
    finally:
        if log is not None:
            log.close()


def _copy(log: BinaryIO | None) -> None:
    if log is not None:
        sys.stdout.write(log.read().decode(errors="replace"))
        sys.stdout.flush()
