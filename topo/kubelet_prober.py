"""The probes of one running container: startup first, then liveness and readiness beside each other.

Sets ``ready`` and ``started`` of the container's record and says when they changed. How one question
is asked is ``probes``; what a restart involves is the pod's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from topo.kubelet_stand_in import unasked
from topo.kubelet_status import ContainerRecord
from topo.probes import Probe, Target, watch


class Prober:
    """``unhealthy`` gets the text of each failure; ``kill(which, grace)`` is asked for once."""

    def __init__(
        self,
        record: ContainerRecord,
        target: Target,
        *,
        changed: Callable[[], None],
        unhealthy: Callable[[str], None],
        kill: Callable[[str, float | None], object],
    ) -> None:
        self._record, self._target = record, target
        self._changed, self._unhealthy, self._kill = changed, unhealthy, kill
        self._tasks: dict[str, asyncio.Task[None]] = {}
        startup = self._probe("startup")
        if startup is None:
            self._started()
        else:
            self._watch(startup, self._started_later, lambda: self._kill_once(startup))

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def only_readiness(self) -> None:
        """The pod is ending: nothing restarts it any more, but it may still become unready."""
        for kind, task in self._tasks.items():
            if kind != "readiness":
                task.cancel()

    def _probe(self, kind: str) -> Probe | None:
        probe = Probe.of(kind, self._record.spec)
        return None if unasked(self._record.spec, kind) else probe

    def _watch(self, probe: Probe, passed: Callable[[], None], failed: Callable[[], None]) -> None:
        def trouble(text: str) -> None:
            self._unhealthy(f"{probe.kind.capitalize()} probe failed: {text}")

        self._tasks[probe.kind] = asyncio.ensure_future(
            watch(probe, self._target, passed=passed, failed=lambda _: failed(), trouble=trouble)
        )

    def _started_later(self) -> None:
        self._tasks["startup"].cancel()
        self._started()
        self._changed()

    def _started(self) -> None:
        self._record.started = True
        liveness, readiness = self._probe("liveness"), self._probe("readiness")
        if liveness is not None:
            self._watch(liveness, lambda: None, lambda: self._kill_once(liveness))
        if readiness is None:
            self._record.ready = True
        else:
            self._watch(readiness, lambda: self._set_ready(True), lambda: self._set_ready(False))

    def _set_ready(self, ready: bool) -> None:
        if self._record.ready != ready:
            self._record.ready = ready
            self._changed()

    def _kill_once(self, probe: Probe) -> None:
        self._tasks[probe.kind].cancel()
        self._kill(probe.kind, probe.grace)
