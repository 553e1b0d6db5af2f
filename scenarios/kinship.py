"""Of groups of equal packets, which one is which one's continuation behind a translation.

A group holds sightings that agree in everything no hop changes and belong to one connection; another
group with the same contents is the same packets after a rewrite, or somebody else's. Pure; what a
connection is, and what is concluded from a certain pair, is ``evidence``'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from scenarios.packet import Endpoint, Packet

PATIENCE_NS = 1_000_000_000
"""A packet is on its way for a second at most; the first TCP retransmission comes after 0.2 s."""


class Group:
    """Sightings in the order of time, and where they begin and end."""

    def __init__(self, packets: Sequence[Packet]) -> None:
        self.packets = packets

    @cached_property
    def places(self) -> frozenset[object]:
        return frozenset(packet.place for packet in self.packets)

    @cached_property
    def first(self) -> Packet:
        """The one furthest upstream."""
        return max(self.packets, key=lambda packet: (packet.ttl, -packet.time_ns))

    @cached_property
    def last(self) -> Packet:
        """One that was furthest downstream."""
        return min(self.packets, key=lambda packet: (packet.ttl, -packet.time_ns))


def continues(before: Group, after: Group) -> bool:
    """Whether the packets of one may have become those of the other."""
    return (
        _through_a_box(before.last, after.first)
        and not before.places & after.places
        and any(0 <= b.time_ns - a.time_ns <= PATIENCE_NS for a in before.packets for b in after.packets)
    )


def origins(groups: Sequence[Group]) -> list[list[int]]:
    """For every group, by number: those it may be the continuation of, nearest with the smallest rewrite."""
    index = _Index(group.last for group in groups)
    found = []
    for number, group in enumerate(groups):

        def possible(others: Iterable[int], after: Group = group, own: int = number) -> list[int]:
            return [other for other in others if other != own and continues(groups[other], after)]

        near = possible(index.near(group.first)) or possible(range(len(groups)))
        found.append(_best([(_rank(groups[other], group), other) for other in near]))
    return found


def certain_pairs(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """(origin, continuation) wherever either can only be the other's. They all hold together."""
    index = _Index(group.first for group in groups)
    pairs = []
    for number, found in enumerate(origins(groups)):
        if len(found) != 1:
            continue
        origin = groups[found[0]]

        def possible(others: Iterable[int], before: Group = origin, own: int = found[0]) -> list[int]:
            return [other for other in others if other != own and continues(before, groups[other])]

        near = possible(index.near(origin.last)) or possible(range(len(groups)))
        if _best([(_rank(origin, groups[other]), other) for other in near]) == [number]:
            pairs.append((found[0], number))
    return pairs


class _Index:
    """Packets by the addresses that a translation may have left alone."""

    def __init__(self, packets: Iterable[Packet]) -> None:
        self._src: dict[Endpoint, list[int]] = defaultdict(list)
        self._dst: dict[Endpoint, list[int]] = defaultdict(list)
        for number, packet in enumerate(packets):
            self._src[packet.src].append(number)
            self._dst[packet.dst].append(number)

    def near(self, packet: Packet) -> list[int]:
        """Those with the same source or the same destination: they win over all others."""
        return sorted({*self._src.get(packet.src, ()), *self._dst.get(packet.dst, ())})


def _through_a_box(before: Packet, after: Packet) -> bool:
    """Whether a box may have turned one into the other."""
    if before.ttl == after.ttl:
        return after.place.outgoing and not before.place.outgoing
    return before.ttl > after.ttl


def _rank(before: Group, after: Group) -> tuple[int, int]:
    """The more of the addresses is kept and the nearer, the likelier."""
    one, other = before.last, after.first
    return (one.src == other.src) + (one.dst == other.dst), other.ttl - one.ttl


def _best(ranked: Sequence[tuple[tuple[int, int], int]]) -> list[int]:
    top = max((rank for rank, _ in ranked), default=None)
    return [number for rank, number in ranked if rank == top]
