"""What the server counts, and the text Prometheus reads: the names are CoreDNS'. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

_SECONDS = tuple(0.00025 * 2**n for n in range(16))
_BYTES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
_PROGRAMMING = tuple(0.001 * 2**n for n in range(20))

_HELP = {
    "coredns_dns_requests_total": ("counter", "Counter of DNS requests made per zone, protocol and family."),
    "coredns_dns_responses_total": ("counter", "Counter of response status codes."),
    "coredns_dns_request_duration_seconds": ("histogram", "Time each request took."),
    "coredns_dns_request_size_bytes": ("histogram", "Size of the requests in bytes."),
    "coredns_dns_response_size_bytes": ("histogram", "Size of the responses in bytes."),
    "coredns_cache_hits_total": ("counter", "The count of cache hits."),
    "coredns_cache_misses_total": ("counter", "The count of cache misses."),
    "coredns_forward_max_concurrent_rejects_total": ("counter", "Queries refused: too many at once."),
    "coredns_kubernetes_dns_programming_duration_seconds": (
        "histogram",
        "Time from the change of an endpoint to its being answered.",
    ),
    "coredns_reload_failed_total": ("counter", "Counter of the number of failed reload attempts."),
    "coredns_panics_total": ("counter", "A metrics that counts the number of panics."),
}
Labels = tuple[tuple[str, str], ...]


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.total = bounds, 0.0
        self.counts = [0] * (len(bounds) + 1)

    def see(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """Counters and histograms by name and labels."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], int] = {
            ("coredns_panics_total", ()): 0,
            ("coredns_reload_failed_total", ()): 0,
        }
        self._histograms: dict[tuple[str, Labels], _Histogram] = {}

    def count(self, name: str, labels: Labels = ()) -> None:
        key = name, labels
        self._counters[key] = self._counters.get(key, 0) + 1

    def see(self, name: str, value: float, labels: Labels = ()) -> None:
        key = name, labels
        histogram = self._histograms.get(key)
        if histogram is None:
            bounds: tuple[float, ...] = _BYTES if name.endswith("_bytes") else _SECONDS
            bounds = _PROGRAMMING if "programming" in name else bounds
            histogram = self._histograms[key] = _Histogram(bounds)
        histogram.see(value)

    def text(self) -> str:
        """Prometheus' text format 0.0.4."""
        names = sorted({name for name, _ in (*self._counters, *self._histograms)})
        return "".join(line + "\n" for name in names for line in self._lines(name))

    def _lines(self, name: str) -> Iterator[str]:
        kind, text = _HELP[name]
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        for (held, labels), value in sorted(self._counters.items()):
            if held == name:
                yield f"{name}{_labels(labels)} {value}"
        for (held, labels), histogram in sorted(self._histograms.items(), key=lambda item: item[0]):
            if held != name:
                continue
            so_far = 0
            for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
                so_far += count
                le = bound if isinstance(bound, str) else f"{bound:g}"
                yield f"{name}_bucket{_labels((*labels, ('le', le)))} {so_far}"
            yield f"{name}_sum{_labels(labels)} {histogram.total:.9g}"
            yield f"{name}_count{_labels(labels)} {so_far}"


def _labels(labels: Labels) -> str:
    quoted = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{{{quoted}}}" if quoted else ""
