"""The recent past of the store: what watches replay. Bounded, in memory, one ring a kind.

A watch that asks for more than the ring still holds gets Expired (410) and lists again. Durability
is the store's business; after a restart the ring is empty and only the newest version resumes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.api.objects import Obj
from controller.api.status import expired

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
LIMIT = 4096
"""Events kept of each kind; the initial list of a big lab does not push out another kind's past."""


@dataclass(frozen=True)
class Event:
    """One change. ``obj`` is the object after it (of a deletion: as it last was, with the deletion's
    resourceVersion), ``old`` the object before it; both are shared and must not be changed."""

    type: str
    resource_version: int
    kind: str
    obj: Obj
    old: Obj | None = field(repr=False)
    body: bytes = field(repr=False)
    """``obj`` as JSON; made once, however many watches send it."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(value: object) -> bytes:
    """Compact JSON, the form on the wire and in the store."""
    return _ENCODER.encode(value).encode()


class History:
    """Rings of events by kind. Not thread-safe: the store guards it."""

    def __init__(self, newest: int, limit: int = LIMIT) -> None:
        self._start = newest
        self._limit = limit
        self._rings: dict[str, deque[Event]] = {}
        self._dropped: dict[str, int] = {}
        self.last: Event | None = None

    def add(self, event: Event) -> None:
        self.last = event
        ring = self._rings.setdefault(event.kind, deque())
        ring.append(event)
        if len(ring) > self._limit:
            self._dropped[event.kind] = ring.popleft().resource_version

    def oldest(self, kind: str) -> int:
        """The oldest resourceVersion from which a watch of that kind can still resume."""
        return self._dropped.get(kind, self._start)

    def since(self, kind: str, resource_version: int) -> list[Event]:
        """The events of a kind after a resourceVersion, in order; Expired when some are gone."""
        if resource_version < self.oldest(kind):
            raise expired(resource_version, self.oldest(kind))
        found: list[Event] = []
        for event in self._backwards(kind):
            if event.resource_version <= resource_version:
                break
            found.append(event)
        found.reverse()
        return found

    def _backwards(self, kind: str) -> Iterator[Event]:
        return reversed(self._rings.get(kind, deque()))
