"""When a pod's status is written: not twice the same, and one writing at a time.

What a status says is ``kubelet_status``; how it reaches the API is the kubelet's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from controller.api.objects import Obj


class StatusWriter:
    """``read`` gives the status as it is now, ``write`` brings it to the API, ``spawn`` begins a task."""

    def __init__(
        self,
        read: Callable[[], Obj],
        write: Callable[[Obj], Awaitable[None]],
        spawn: Callable[[Any], asyncio.Task[None]],
    ) -> None:
        self._read, self._write, self._spawn = read, write, spawn
        self._task: asyncio.Task[None] | None = None
        self._dirty = False
        self.written: Obj = {}
        """The status that was written last; empty before the first."""

    def sync(self) -> None:
        """Write the status, if it differs from what was written; changes meanwhile go into one more."""
        self._dirty = True
        if self._task is None or self._task.done():
            self._task = self._spawn(self._work())

    async def flushed(self) -> None:
        """Return when what was to be written is."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._dirty:
            self._dirty = False
            status = self._read()
            if status != self.written:
                self.written = status
                await self._write(status)
