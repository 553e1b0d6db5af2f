"""How a group spreads connections evenly over n endpoints: selection method and bucket weights.

Open vSwitch fills a dp_hash group's table of slots by the buckets' weights. Its size is the power of two
that covers total weight / smallest weight, between 16 and 256, so three equal buckets get 6:5:5 of 16. A
bucket of weight 1 in a total of 256 makes it use all 256 slots; an endpoint then owns 256/n of them, give
or take one. ``hash`` scores every bucket for every connection instead: even for any n, but each new
connection is an upcall.

Measured figures: README.md of this folder, by ``python -m tests.ovs.evenness``.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

SLOTS = 256
MOST_ENDPOINTS = 1000
"""In one group. Open vSwitch 3.1 describes a larger one (above 65,535 bytes) with a wrapped length, so that
it cannot be read back; endpoints that sort after these get no connections."""
DP_HASH_MOST = 32
"""Above this the give or take of one slot is more than an eighth: ``hash`` takes over."""


class Share(NamedTuple):
    """A bucket: which endpoint (by place in the sorted list) and what weight."""

    place: int
    weight: int


@cache
def shares(n: int, *, each_asks: bool = False) -> tuple[str, tuple[Share, ...]]:
    """(selection method, buckets) for ``n`` endpoints of equal right.

    ``each_asks``: every new connection is to be an upcall, whatever n.
    """
    if each_asks:
        return "hash", tuple(Share(i, 100) for i in range(n))
    if n & (n - 1) == 0 and n <= SLOTS // 4:
        return "dp_hash", tuple(Share(i, 100) for i in range(n))
    if n > DP_HASH_MOST:
        return "hash", tuple(Share(i, 100) for i in range(n))
    each, more = divmod(SLOTS, n)
    weights = [each + (i < more) for i in range(n)]
    return "dp_hash", (Share(0, weights[0] - 1), Share(0, 1), *(Share(i, weights[i]) for i in range(1, n)))
