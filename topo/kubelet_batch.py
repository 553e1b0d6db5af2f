"""Turns many small asks of many pods into few large ones, and counts what a batch of events set off.

Nothing here knows what is asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """What is submitted while ``handle`` works goes together into its next call; answers in order."""

    def __init__(self, handle: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, limit: int = 250) -> None:
        self._handle, self._limit = handle, limit
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._work())
        return await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # let everyone who is about to ask do so
        while self._waiting:
            batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            try:
                answers = await self._handle([item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


class Progress:
    """Up to which resourceVersion everything set off by events is complete.

    ``reached`` grows as work ends; ``changed`` is called when it does.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._seen: list[int] = []
        self._open: Counter[int] = Counter()
        self._latest = 0
        self.reached = 0

    def saw(self, version: int) -> None:
        """Every event up to ``version`` is here; work that they set off is begun before this call."""
        self._latest = max(self._latest, version)
        if not self._seen or self._seen[-1] < version:
            self._seen.append(version)
        self._advance()

    def begin(self, version: int) -> Callable[[], None]:
        """Work set off by the events of batch ``version``; call what is returned when it is complete."""
        self._open[version] += 1
        over = False

        def end() -> None:
            nonlocal over
            if over:
                return
            over = True
            self._open[version] -= 1
            if not self._open[version]:
                del self._open[version]
                self._advance()

        return end

    def _advance(self) -> None:
        barrier = min(self._open, default=self._latest + 1)
        done = [version for version in self._seen if version < barrier]
        if done:
            self.reached = done[-1]
            del self._seen[: len(done)]
            self._changed()
