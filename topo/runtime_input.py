"""The standard input of a container that wants one: a pipe or, with ``tty``, a terminal.

A terminal's output goes into the container's log, as every other container's does, and is shown from there.
Who may type is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios

from topo.runtime_log import LogFile, Source

_END = b"\x04"


class Input:
    """``theirs`` is what the process gets; ``close_theirs`` when it has it."""

    def __init__(self, *, tty: bool, log: LogFile | None, user: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._tty = tty
        if tty:
            self._ours, self.theirs = pty.openpty()
        else:
            self.theirs, self._ours = os.pipe2(os.O_CLOEXEC)
        os.fchown(self.theirs, user, user)
        os.set_blocking(self._ours, False)
        self._open = self._theirs_open = True
        self._shown = Source(self._ours, log) if tty else None

    def close_theirs(self) -> None:
        if self._theirs_open:
            self._theirs_open = False
            os.close(self.theirs)

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
        self._open = False
        if self._shown:
            self._shown.close()
        self._loop.remove_writer(self._ours)
        os.close(self._ours)
