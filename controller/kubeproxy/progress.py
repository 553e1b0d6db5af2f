"""Tells the API server how far each node's proxier is, on the side channel that ``settle`` listens to.

A thread of its own, because the server may be slow or down and nothing else may wait for it. Only the
newest figure of each node counts; while the server is away it is kept and told later.
"""

from __future__ import annotations

import logging
from typing import Protocol

from controller.api.errors import PodwireError
from controller.kubeproxy import hub

LOG = logging.getLogger("kubeproxy")


class SideChannel(Protocol):
    def progress(self, component: str, resource_version: int) -> object: ...


class Reporter:
    """``report`` from any thread; ``run`` is the thread that tells."""

    def __init__(self, client: SideChannel, *, longest_pause: float = 2.0) -> None:
        self._client, self._longest_pause = client, longest_pause
        self._inbox = hub.Queue()

    def report(self, node: str, version: int) -> None:
        self._inbox.put((node, version))

    def run(self) -> None:
        """For ever."""
        untold: dict[str, int] = {}
        pause = 0.0
        while True:
            untold.update([self._inbox.get()] if not untold else [])
            if pause:
                hub.sleep(pause)
            while not self._inbox.empty():
                untold.update([self._inbox.get()])
            try:
                for node in sorted(untold):
                    self._client.progress(f"kubeproxy/{node}", untold[node])
                    del untold[node]
                if pause:
                    LOG.info("the API server answers again")
                pause = 0.0
            except (OSError, PodwireError) as error:
                if not pause:
                    LOG.warning("cannot report progress (%s); flows stay, trying on", error)
                pause = min(self._longest_pause, max(0.05, 2 * pause))
