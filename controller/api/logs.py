"""The ``log`` subresource of Pods: what ``kubectl logs`` shows. asyncio only; the server writes the chunks.

The kubelet's runtime writes one file for each container beside this server's socket (``log/``), in the
CRI's format (``cri``); it is read where it lies. What a query may ask is ``log_query``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from controller.api import cri
from controller.api.log_query import LogRequest, is_another, is_over
from controller.api.log_query import log_request as log_request
from controller.api.objects import Obj

LOOK = 0.1
"""Seconds between two looks at a log that is followed."""
_CHUNK = 1 << 16


def previous(path: Path) -> Path:
    """Where the log of a container's life before lies."""
    return path.with_suffix(".previous.log")


async def lines(
    directory: Path, wanted: LogRequest, current: Callable[[], Obj | None], *, look: float = LOOK
) -> AsyncGenerator[bytes, None]:
    """The log in chunks; when it is followed, until its container has ended (``current`` is the pod now)."""
    left = wanted.most if wanted.most is not None else 1 << 62
    at_start = True
    async with contextlib.aclosing(entries(directory, wanted, current, look=look)) as batches:
        async for batch in batches:
            shown = bytearray()
            for when, stream, text in batch:
                if when < wanted.since or (wanted.stream and stream != wanted.stream):
                    continue
                if wanted.timestamps and at_start:
                    shown += when + b" "
                shown += text
                at_start = text.endswith(b"\n")
            if shown:
                yield bytes(shown[:left])
                left -= len(shown)
            if left <= 0:
                return
            await asyncio.sleep(0)  # others live here too


async def entries(
    directory: Path, wanted: LogRequest, current: Callable[[], Obj | None], *, look: float
) -> AsyncGenerator[list[cri.Entry], None]:
    """The records of one life of a container, from the tail that was asked for."""
    path = directory / wanted.file
    path = previous(path) if wanted.earlier else path
    tail = wanted.tail
    while not path.exists():  # it has not written anything yet
        tail = None
        if not wanted.follow or is_over(current(), wanted):
            return
        await asyncio.sleep(look)
    decode = _Plain().decode if wanted.plain else cri.decode
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        at = 0
        if tail is not None:
            text = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
            at = (_plain_tail if wanted.plain else cri.start_of_tail)(text, tail)
        while True:
            over = not wanted.follow or is_over(current(), wanted)  # before the last look
            while True:
                batch, used = decode(os.pread(file.fileno(), _CHUNK, at))
                if not used:
                    break
                at += used
                yield batch
            if wanted.follow and (after := _after(file, path)) is not file:
                if after is None or is_another(current(), wanted):
                    return
                stack.pop_all().close()
                file, at = stack.enter_context(after), 0
                continue
            if over:
                return
            await asyncio.sleep(look)


def _after(file: BinaryIO, path: Path) -> BinaryIO | None:
    """The file that goes on: the one that took this one's place when it had grown too long, or itself.
    None: the container's next life has begun, and this one's log was laid aside."""
    now = os.fstat(file.fileno())
    try:
        there = path.stat()
        if there.st_ino == now.st_ino:
            return file
        return path.open("rb") if now.st_nlink == 0 else None
    except FileNotFoundError:
        return file if now.st_nlink == 0 else None


class _Plain:
    """Logs of the lab's own processes. A line has the local time at its beginning, or that of
    the line before."""

    def __init__(self) -> None:
        self._time = cri.stamp(0)

    def decode(self, text: bytes) -> tuple[list[cri.Entry], int]:
        end = text.rfind(b"\n") + 1
        if not end and len(text) == _CHUNK:
            end = _CHUNK
        found = []
        for line in text[:end].splitlines(keepends=True):
            with contextlib.suppress(ValueError):
                day, clock, *_ = line[:23].decode(errors="replace").split(" ")
                local = datetime.fromisoformat(f"{day}T{clock.replace(',', '.')}").astimezone()
                self._time = cri.stamp_of(local.isoformat(timespec="milliseconds"))
            found.append(cri.Entry(self._time, cri.STDOUT, line))
        return found, end


def _plain_tail(text: bytes, count: int) -> int:
    at = len(text) - 1 if text.endswith(b"\n") else len(text)
    if count == 0:
        return len(text)
    while count and at >= 0:
        count, at = count - 1, text.rfind(b"\n", 0, at)
    return at + 1
