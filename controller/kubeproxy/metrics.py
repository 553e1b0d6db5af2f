"""What kube-proxy tells of itself on 127.0.0.1:10249, in Prometheus' words and under kube-proxy's names.

Only figures that are measured here; what upstream counts of iptables has no place. One process serves all
nodes, so what was heard of objects is the same on each; what was programmed is each node's own.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MODE = "openflow"
"""What /proxyMode says, where upstream says iptables, ipvs or nftables."""
BUCKETS = tuple(0.001 * 2**exponent for exponent in range(15))
"""Upstream's of kubeproxy_sync_proxy_rules_duration_seconds."""
_NAME = "kubeproxy_sync_proxy_rules"


@dataclass(slots=True)
class _Histogram:
    held: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def count(self, seconds: float) -> None:
        self.held[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, help: str) -> Iterator[str]:
        yield from _head(name, "histogram", help)
        so_far = 0
        for end, many in zip((*(f"{bucket:g}" for bucket in BUCKETS), "+Inf"), self.held, strict=True):
            so_far += many
            yield f'{name}_bucket{{le="{end}"}} {so_far}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {so_far}"


@dataclass(slots=True)
class _Node:
    sync: _Histogram = field(default_factory=_Histogram)
    programming: _Histogram = field(default_factory=_Histogram)
    last: float = 0.0


class Metrics:
    """Fed by the worker and the informer, read by the health servers' thread. Times are arguments."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._changes = {"Service": 0, "EndpointSlice": 0}
        self._queued = 0.0

    def heard(self, kind: str, at: float) -> None:
        """An event of an object, at Unix time ``at``."""
        with self._lock:
            if kind in self._changes:
                self._changes[kind] += 1
                self._queued = at

    def programmed(self, node: str, sync: float, since_heard: float, at: float) -> None:
        """A change is in the node's switch: seconds from the first byte sent to the barrier, and from when
        its cause was heard of."""
        with self._lock:
            found = self._nodes.setdefault(node, _Node())
            found.sync.count(sync)
            found.programming.count(since_heard)
            found.last = at

    def text(self, node: str) -> str:
        with self._lock:
            return "\n".join([*self._lines(self._nodes.get(node) or _Node()), ""])

    def _lines(self, node: _Node) -> Iterator[str]:
        yield from node.programming.lines(
            "kubeproxy_network_programming_duration_seconds",
            "From when a change of objects was heard of until it is in the switch.",
        )
        yield from node.sync.lines(f"{_NAME}_duration_seconds", "From the first message until the barrier.")
        for kind, word in (("EndpointSlice", "endpoint"), ("Service", "service")):
            name = f"{_NAME}_{word}_changes_total"
            yield from _head(name, "counter", f"Events of {kind}s heard of.")
            yield f"{name} {self._changes[kind]}"
        for word, value in (("last_queued_timestamp", self._queued), ("last_timestamp", node.last)):
            name = f"{_NAME}_{word}_seconds"
            what = "a change was heard of" if "queued" in word else "flows were changed"
            yield from _head(name, "gauge", f"When {what} the last time.")
            yield f"{name} {value:.3f}"


def _head(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
