"""Answers kept for those who ask the same again, each until something changes that it depends on.

What an answer depends on is its topics (``index``). Neither packets nor objects are known here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from controller.dns.index import Topic

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, kw_only=True)
class Ready:
    """Responses to one question, without their ids, in several orders; ``wanted`` of them in the end.

    ``serial`` is that of the SOA at ``serial_at`` in each of them (0: there is none).
    """

    topics: frozenset[Topic]
    zone: str
    wanted: int = 1
    serial: int = 0
    serial_at: int = 0
    responses: list[bytes] = field(default_factory=list)

    def at(self, serial: int) -> list[bytes]:
        """The responses with the serial of now: the one thing in them that every change changes."""
        if self.serial_at and serial != self.serial:
            at, new = self.serial_at, serial.to_bytes(4, "big")
            self.responses = [old[:at] + new + old[at + 4 :] for old in self.responses]
            self.serial = serial
        return self.responses


class Kept(Generic[Key]):
    """At most ``most`` answers; one more, and all are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ready: dict[Key, Ready] = {}
        self._by_topic: dict[Topic, set[Key]] = {}
        self.get = self._ready.get

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def topics(self) -> int:
        """How many topics something that is kept depends on."""
        return len(self._by_topic)

    def put(self, key: Key, ready: Ready) -> None:
        """Keep an answer that is not kept yet."""
        if len(self._ready) >= self._most:
            self.clear()
        self._ready[key] = ready
        for topic in ready.topics:
            self._by_topic.setdefault(topic, set()).add(key)

    def forget(self, topics: Iterable[Topic]) -> None:
        """What depends on any of the topics."""
        for topic in topics:
            for key in self._by_topic.pop(topic, ()):
                for other in self._ready.pop(key).topics:
                    self._leave(other, key)

    def _leave(self, topic: Topic, key: Key) -> None:
        keys = self._by_topic.get(topic)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._by_topic[topic]

    def clear(self) -> None:
        self._ready.clear()
        self._by_topic.clear()
