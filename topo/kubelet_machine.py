"""What the kubelet lends each of its pods: runtime, wires, API, events, pace. Values, no behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from controller.api.objects import Obj
from topo.kubelet_events import EventRecorder
from topo.kubelet_link import RuntimeLink
from topo.kubelet_status import ContainerRecord
from topo.wires import PodPlug

if TYPE_CHECKING:
    from topo.kubelet_pod import PodWorker


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long the kubelet waits, in seconds."""

    back_off: float = 10
    back_off_max: float = 300
    steady: float = 600
    """A container that ran so long has its back-off forgotten."""
    retry: float = 2
    """Between two attempts to wire a pod or to make its environment."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a worker uses. ``write``, ``delete`` and ``credentials`` keep trying while the API server is
    away."""

    link: RuntimeLink
    events: EventRecorder
    plug: Callable[[PodPlug], Awaitable[None]]
    unplug: Callable[[str], Awaitable[None]]
    write: Callable[[Obj, Obj], Awaitable[None]]
    delete: Callable[[Obj], Awaitable[None]]
    fetch: Callable[[str, str, str], Awaitable[Mapping[str, str] | None]]
    credentials: Callable[[Obj], Awaitable[Mapping[str, str]]]
    services: Callable[[], Sequence[Obj]]
    new_id: Callable[[PodWorker, ContainerRecord], str]
    pace: Pace

    def now(self) -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
