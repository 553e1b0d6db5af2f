"""What the API server counts about itself, in Prometheus' text format: ``/metrics``.

The names and labels are kube-apiserver's. Kept in memory only; podwire itself reads nothing of it back.
"""

from __future__ import annotations

import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

from controller.api import routes
from controller.api.errors import ApiError

CONTENT_TYPE = "text/plain; version=0.0.4"
BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, in seconds."""
_VERBS = {"HEAD": "GET", "POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE"}
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Fed with every request when it is answered. Watches are counted, their time is not."""

    def __init__(self) -> None:
        self.requests: Counter[Labels] = Counter()
        self.seconds: dict[Labels, float] = {}
        self.buckets: dict[Labels, list[int]] = {}

    def count(self, method: str, path: str, query: Mapping[str, str], code: int, seconds: float) -> None:
        labels = labels_of(method, path, query)
        self.requests[(*labels, ("code", str(code)))] += 1
        if labels[0][1] == "WATCH":
            return
        self.seconds[labels] = self.seconds.get(labels, 0.0) + seconds
        held = self.buckets.setdefault(labels, [0] * (len(BUCKETS) + 1))
        held[bisect_left(BUCKETS, seconds)] += 1

    def text(self, stored: Mapping[str, int]) -> str:
        """``stored``: how many objects there are, by resource."""
        return "\n".join([*self._lines(stored), ""])

    def _lines(self, stored: Mapping[str, int]) -> Iterator[str]:
        name = "apiserver_request_total"
        yield from _head(name, "counter", "Requests answered, by verb, resource and HTTP status.")
        for labels, many in sorted(self.requests.items()):
            yield f"{name}{_braces(labels)} {many}"
        name = "apiserver_request_duration_seconds"
        yield from _head(name, "histogram", "How long the answers took; watches left out.")
        for labels, held in sorted(self.buckets.items()):
            so_far = 0
            for end, many in zip((*BUCKETS, "+Inf"), held, strict=True):
                so_far += many
                yield f"{name}_bucket{_braces((*labels, ('le', str(end))))} {so_far}"
            yield f"{name}_sum{_braces(labels)} {self.seconds[labels]:.6f}"
            yield f"{name}_count{_braces(labels)} {so_far}"
        name = "apiserver_storage_objects"
        yield from _head(name, "gauge", "Objects in the store, by resource.")
        for plural, many in sorted(stored.items()):
            yield f"{name}{_braces((('resource', plural),))} {many}"
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield from _head("process_cpu_seconds_total", "counter", "User and system time of this process.")
        yield f"process_cpu_seconds_total {used.ru_utime + used.ru_stime:.2f}"
        yield from _head("process_max_resident_memory_bytes", "gauge", "The most memory this process had.")
        yield f"process_max_resident_memory_bytes {used.ru_maxrss * 1024}"


def labels_of(method: str, path: str, query: Mapping[str, str]) -> Labels:
    """Verb and resource, in kube-apiserver's labels; paths of no resource have only the verb."""
    verb = _VERBS.get(method, "GET")
    try:
        target = routes.parse_path(path)
    except ApiError:
        return (("verb", verb), ("group", ""), ("version", ""), ("resource", ""), ("subresource", ""))
    if verb == "GET" and query.get("watch") in ("1", "true"):
        verb = "WATCH"
    elif not target.name:
        verb = {"GET": "LIST", "DELETE": "DELETECOLLECTION"}.get(verb, verb)
    kind = target.kind
    return (("verb", verb), ("group", kind.group), ("version", kind.version), ("resource", kind.plural),
            ("subresource", target.subresource))  # fmt: skip


def clock() -> float:
    return time.perf_counter()


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{word}="{value}"' for word, value in labels) + "}"
