"""What containers write, with its times, into files of a bounded size: the runtime's end of ``kubectl logs``.

The format is ``controller.api.cri``'s. A log that has grown too long begins anew, as a kubelet's does at
containerLogMaxSize; what a full file system does not take is lost. Neither holds up the runtime or a pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from controller.api import cri

MOST = 10 << 20
"""Bytes of one log, by default a kubelet's containerLogMaxSize."""
_TOGETHER = 128 << 20
"""Bytes of all of them: they lie in memory. More of them than this has room for are shorter each."""
_LEAST = 1 << 16
_PIECE = 1 << 14
_RATE = 16 << 20
"""Bytes a second, of a log, at which a container that writes without end is read."""
_PIECES_AT_END = 64


class Budget:
    """What the logs of one process of ours share."""

    def __init__(self, *, most: int = MOST, together: int = _TOGETHER) -> None:
        self.files = 0
        self._most, self._together = most, together

    def share(self) -> int:
        """How long each of them may become."""
        return max(_LEAST, min(self._most, self._together // max(1, self.files)))


class LogFile:
    """One container's. Not kept open: a thousand pods have a thousand of them."""

    def __init__(self, path: str, budget: Budget) -> None:
        self._path, self._budget = path, budget
        budget.files += 1

    def close(self) -> None:
        self._budget.files -= 1

    def add(self, data: bytes, stream: bytes = cri.STDOUT) -> int:
        """Write what a container has written now; the size of its records."""
        records = cri.encode(data, stream, cri.stamp(time.time_ns()))
        self._write(records)
        return len(records)

    def add_lines(self, lines: Sequence[tuple[int, str]]) -> None:
        """Each with its time, in nanoseconds."""
        records = [cri.encode(f"{line}\n".encode(), cri.STDOUT, cri.stamp(when)) for when, line in lines]
        self._write(b"".join(records))

    def _write(self, records: bytes) -> None:
        with contextlib.suppress(OSError):  # no room: lost
            self._append(records)

    def _append(self, records: bytes) -> None:
        """OSError when there is no room; there are only whole records in the file then, too."""
        fd = self._open(self._path, os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            if size == 0 or size + len(records) <= self._budget.share():
                if os.write(fd, records) < len(records):
                    os.ftruncate(fd, size)
                return
        finally:
            os.close(fd)
        self._begin_anew(records)

    def _begin_anew(self, records: bytes) -> None:
        """Another file takes this one's place; whoever follows has it open, and reads it to its end."""
        beside = f"{self._path}.new"
        fd = self._open(beside, os.O_TRUNC)
        try:
            written = os.write(fd, records)
            if written < len(records):
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)
        Path(beside).replace(self._path)

    @staticmethod
    def _open(path: str, flags: int) -> int:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)


class Source:
    """From a non-blocking descriptor into a log. A writer without end is held up: others live here too."""

    def __init__(self, fd: int, log: LogFile | None, stream: bytes = cri.STDOUT) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd, self._log, self._stream = fd, log, stream
        self._rest: asyncio.TimerHandle | None = None
        self._over = False
        self._listen()

    def close(self) -> None:
        """Nobody writes any more: take what is left. The descriptor stays the caller's."""
        for _ in range(_PIECES_AT_END):
            if self._over or self._take() is None:
                break
        self._end()

    def _listen(self) -> None:
        self._rest = None
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        taken = self._take()
        if taken and not self._over:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(taken / _RATE, self._listen)

    def _take(self) -> int | None:
        """One piece; None when there is nothing now, else, if there is probably more, what it cost."""
        try:
            data = os.read(self._fd, _PIECE)
        except BlockingIOError:
            return None
        except OSError:  # EIO: no process has the terminal open
            data = b""
        if not data:
            self._end()
            return None
        cost = self._log.add(data, self._stream) if self._log is not None else len(data)
        return cost if len(data) == _PIECE else 0

    def _end(self) -> None:
        self._over = True
        self._loop.remove_reader(self._fd)
        if self._rest is not None:
            self._rest.cancel()


class Outputs:
    """Standard output and error of a process, each on a pipe that its user may open again as /dev/stdout."""

    def __init__(self, log: LogFile | None, user: int) -> None:
        self._ours: list[int] = []
        self._theirs: list[int] = []
        self._sources: Sequence[Source] = ()
        for _ in (cri.STDOUT, cri.STDERR):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            os.fchown(writer, user, user)
            self._ours.append(reader)
            self._theirs.append(writer)
        streams = zip(self._ours, (cri.STDOUT, cri.STDERR), strict=True)
        self._sources = [Source(fd, log, stream) for fd, stream in streams]

    def fds(self) -> tuple[int, int]:
        """For the process; ``close_theirs`` when it has them."""
        return self._theirs[0], self._theirs[1]

    def close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        """The process has ended."""
        self.close_theirs()
        for source in self._sources:
            source.close()
        while self._ours:
            os.close(self._ours.pop())
