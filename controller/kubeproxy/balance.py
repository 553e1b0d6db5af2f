"""How a group spreads connections evenly over n endpoints: selection method and bucket weights.

Open vSwitch fills a dp_hash group's table of slots by the buckets' weights. Its size is the power of two
that covers total weight / smallest weight, between 16 and 256, so three equal buckets get 6:5:5 of 16. A
bucket of weight 1 in a total of 256 makes it use all 256 slots; an endpoint then owns 256/n of them, give
or take one. ``hash`` scores every bucket for every connection instead: even for any n, but each new
connection is an upcall.

Measured figures: README.md of this folder, by ``python -m tests.ovs.evenness``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

SLOTS = 256
MOST_BUCKETS = 10_000
"""For one Service port; when weights want more, all are divided."""
DP_HASH_MOST = 32
"""Above this the give or take of one slot is more than an eighth: ``hash`` takes over."""


class Share(NamedTuple):
    """A bucket: which endpoint (by place in the sorted list), what weight, and which of its buckets."""

    place: int
    weight: int
    turn: int = 0


@cache
def shares(n: int) -> tuple[str, tuple[Share, ...]]:
    """(selection method, buckets) for ``n`` endpoints of equal right."""
    if n & (n - 1) == 0 and n <= SLOTS // 4:
        return "dp_hash", tuple(Share(i, 100) for i in range(n))
    if n > DP_HASH_MOST:
        return by_weight((1,) * n)
    each, more = divmod(SLOTS, n)
    weights = [each + (i < more) for i in range(n)]
    return "dp_hash", (Share(0, weights[0] - 1), Share(0, 1, 1), *(Share(i, weights[i]) for i in range(1, n)))


def by_weight(weights: Sequence[int]) -> tuple[str, tuple[Share, ...]]:
    """(selection method, buckets), as many buckets for each as it weighs: every new connection is an upcall.

    Repeated because buckets of weight 2 and 1 get 75:25. A bucket depends on its own endpoint alone, so one
    that goes moves only its own share; not so beyond MOST_BUCKETS, where all weights are divided.
    """
    divisor = -(-sum(weights) // MOST_BUCKETS) or 1
    counts = (-(-weight // divisor) for weight in weights)
    return "hash", tuple(Share(place, 100, turn) for place, n in enumerate(counts) for turn in range(n))
