"""The queue between changes and control loops: what is dirty, what rests, what waits for a time.

A key is looked at once for any number of changes that came before. One that is costly (a Service of
1,000 pods whose pods become ready one by one) rests after each look, four times as long as the look
took, so that no storm of changes makes the loops fall behind. Pure data; the clock is an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from controller.api.objects import Obj
from controller.managers.loops import LOOPS, Loop
from controller.managers.view import Ref, View

REST = 4.0
CHEAP = 0.0005
"""Seconds: looks shorter than this need no rest."""
_BACK_OFF = (0.01, 5.0)


class Task(NamedTuple):
    loop: Loop
    ref: Ref


_Id = tuple[str, Ref]


class Work:
    """Times are seconds of one monotonic clock."""

    def __init__(self, loops: Sequence[Loop] = LOOPS) -> None:
        self._by_kind: dict[str, tuple[Loop, ...]] = {}
        self._loops = tuple(loops)
        self._dirty: dict[_Id, Task] = {}
        self._resting: dict[_Id, Task] = {}
        self._rested: dict[_Id, float] = {}
        self._wakes: dict[_Id, float] = {}
        self._failures: dict[_Id, int] = {}
        self._timers: list[tuple[float, int, Task]] = []
        self._order = count()

    def changed(self, view: View, old: Obj | None, new: Obj | None) -> None:
        """Mark what a change concerns; the view has the change in it already."""
        obj = new or old
        if obj is None:
            return
        for loop in self._watching(obj["kind"]):
            self.mark(loop, loop.refs(view, old, new))

    def _watching(self, kind: str) -> tuple[Loop, ...]:
        found = self._by_kind.get(kind)
        if found is None:
            found = tuple(loop for loop in self._loops if not loop.kinds or kind in loop.kinds)
            self._by_kind[kind] = found
        return found

    def mark(self, loop: Loop, refs: Iterable[Ref]) -> None:
        for ref in refs:
            at = (loop.name, ref)
            if at not in self._resting:
                self._dirty.setdefault(at, Task(loop, ref))

    def take(self, now: float) -> Task | None:
        """The next task that may run now."""
        self._ring(now)
        while self._dirty:
            at = next(iter(self._dirty))
            task = self._dirty.pop(at)
            until = self._rested.get(at, 0.0)
            if until <= now:
                self._rested.pop(at, None)
                return task
            self._resting[at] = task
            heapq.heappush(self._timers, (until, next(self._order), task))
        return None

    def _ring(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            task = heapq.heappop(self._timers)[2]
            at = (task.loop.name, task.ref)
            self._resting.pop(at, None)
            self._wakes.pop(at, None)
            self._dirty.setdefault(at, task)

    def done(self, task: Task, now: float, took: float) -> None:
        at = (task.loop.name, task.ref)
        self._failures.pop(at, None)
        if took > CHEAP:
            self._rested[at] = now + took * REST

    def again(self, task: Task) -> None:
        """Somebody else was faster: look at the newer state."""
        self.mark(task.loop, [task.ref])

    def failed(self, task: Task, now: float) -> None:
        """Refused for good, as far as we can tell: try later, and let nobody wait for it."""
        at = (task.loop.name, task.ref)
        failures = self._failures[at] = self._failures.get(at, 0) + 1
        delay = min(_BACK_OFF[0] * 2**failures, _BACK_OFF[1])
        self.wake(task, now + delay)

    def wake(self, task: Task, at: float) -> None:
        """Look at it at that time; the earliest of several such wishes counts, it will wish again."""
        who = (task.loop.name, task.ref)
        if self._wakes.get(who, at + 1) <= at:
            return
        self._wakes[who] = at
        heapq.heappush(self._timers, (at, next(self._order), task))

    def next_time(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    @property
    def idle(self) -> bool:
        """Nothing that changed is unhandled (what merely waits for a time does not count)."""
        return not self._dirty and not self._resting
