"""Events of the kubelet: written in order by one thread, thinned out as a real kubelet thins them.

A real kubelet sends at most 50 a second (eventRecordQPS, burst 100) and drops the rest. Here Normal
events are dropped beyond that; Warnings never are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from controller.api.client import Client
from controller.api.errors import ApiError, PodwireError, Unreachable
from controller.api.objects import Obj

PER_SECOND = 50.0
BURST = 100.0


class EventRecorder:
    """Records Events on pods. Never blocks the caller; ``clock`` is in seconds."""

    def __init__(
        self, client: Client, *, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._log, self._clock = client, log, clock
        self._tokens, self._filled = BURST, clock()
        self._thread = ThreadPoolExecutor(1, "kubelet-events")

    def record(self, pod: Obj, reason: str, message: str, *, type: str = "Normal") -> None:
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_SECOND)
        self._filled = now
        if type == "Normal":
            if self._tokens < 1:
                return
            self._tokens -= 1
        self._thread.submit(self._write, pod, reason, message, type)

    def after_events(self, call: Callable[[], None]) -> None:
        """Run ``call`` on the same thread, when everything recorded before is written."""
        self._thread.submit(call)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _write(self, pod: Obj, reason: str, message: str, type: str) -> None:
        try:
            self._client.event(pod, reason, message, type=type, component="kubelet")
        except (ApiError, Unreachable):
            pass  # its namespace is going away, or the server is, which its supervisor tells
        except PodwireError as error:
            self._log(f"kubelet: event {reason} is lost: {error}")
