"""A change under way to one switch, and what brought it about. Pure; for ``switch``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.kubeproxy.diff import Message

MOST_CAUSES = 100  # of one change, in the log of timings; a switch that is away gathers no more


class Causes:
    """Why the next change will be sent, and since when it is due."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}
        self._since: float | None = None

    def add(self, cause: str, at: float) -> None:
        if len(self._told) < MOST_CAUSES:
            self._told[cause] = None
        if self._since is None:
            self._since = at

    def take(self, now: float) -> tuple[list[str], float]:
        """All of them, and when the first was heard; from then on new ones gather."""
        told, since = list(self._told), now if self._since is None else self._since
        self._told, self._since = {}, None
        return told, since


@dataclass(kw_only=True)
class Change:
    """What is under way: sent, and not yet answered by the barrier."""

    barrier: int
    sent: list[Message]
    version: int | None
    began: float
    causes: Sequence[str]
    received: float
    built: float = field(default_factory=time.monotonic)
    """When it was known what to send, for the log of timings alone."""
    errors: int = 0
    flushes: bool = False
    """Connections are being forgotten: what the switch says to that changes nothing else."""

    def timing(self, node: str, now: float) -> dict[str, Any]:
        """A line of the log of timings; ``now`` is when the barrier was answered."""
        return {
            "node": node,
            "receivedAt": time.time() - (time.monotonic() - self.received),
            "barrierAt": time.time() - (time.monotonic() - now),
            "milliseconds": round(1000 * (now - self.received), 3),
            "sendMilliseconds": round(1000 * (now - self.began), 3),
            "programMilliseconds": round(1000 * (time.monotonic() - self.built), 3),
            "messages": len(self.sent),
            "resourceVersion": self.version,
            "causes": list(self.causes),
        }
