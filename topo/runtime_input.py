"""The standard input of a container that wants one: a pipe or, with ``tty``, a terminal.

A terminal's output goes into the container's log, as every other container's does, and is shown from there.
Who may type is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import termios

_CHUNK = 1 << 15
_END = b"\x04"


class Input:
    """``fds`` are what the process gets; ``close_theirs`` when it has them."""

    def __init__(self, *, tty: bool, log: str, user: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._tty = tty
        self._log: io.FileIO | None = None
        if tty:
            self._ours, self._theirs = pty.openpty()
            self._log = io.FileIO(log or os.devnull, "a")
        else:
            self._theirs, self._ours = os.pipe2(os.O_CLOEXEC)
        os.fchown(self._theirs, user, user)
        os.set_blocking(self._ours, False)
        self._open = self._theirs_open = True
        if tty:
            self._loop.add_reader(self._ours, self._show)

    def fds(self, output: int) -> tuple[int, int, int]:
        """``output`` is the log's, for a container without terminal."""
        return (self._theirs, self._theirs, self._theirs) if self._tty else (self._theirs, output, output)

    def close_theirs(self) -> None:
        if self._theirs_open:
            self._theirs_open = False
            os.close(self._theirs)

    async def write(self, data: bytes) -> None:
        """Returns when all of it was taken; what nobody reads any more is dropped."""
        left = memoryview(data)
        while left and self._open:
            try:
                left = left[os.write(self._ours, left) :]
            except BlockingIOError:
                writable = asyncio.Event()
                self._loop.add_writer(self._ours, writable.set)
                try:
                    await asyncio.wait_for(writable.wait(), 1)  # it may have been closed meanwhile
                except TimeoutError:
                    continue
                finally:
                    if self._open:
                        self._loop.remove_writer(self._ours)
            except OSError:
                return

    async def end(self) -> None:
        """No more input: a pipe is closed, at a terminal ^D is typed."""
        if self._tty:
            await self.write(_END)
        else:
            self.close()

    def resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(OSError, termios.error):
            if self._open and self._tty:
                termios.tcsetwinsize(self._ours, (rows, columns))

    def close(self) -> None:
        """The container has ended."""
        self.close_theirs()
        if not self._open:
            return
        if self._tty:
            self._show()
        self._open = False
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        os.close(self._ours)
        if self._log is not None:
            self._log.close()

    def _show(self) -> None:
        assert self._log is not None
        try:
            data = os.read(self._ours, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: no process has it open
            data = b""
        if data:
            self._log.write(data)
        else:
            self._loop.remove_reader(self._ours)
