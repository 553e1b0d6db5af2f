"""Which sightings on several links are one packet, and what was translated between them.

A packet crosses links, and on the way its addresses, ports, TTL and MACs change. What no hop
changes identifies it: IP id, TCP sequence and acknowledgement numbers, window, options, payload
(:attr:`Packet.unchanged`). Sightings that agree in all of it are one packet, unless a place saw
it twice: then it was sent again, or somebody else sent the same. These are told apart by

1. the connection: five-tuples once linked by a packet that was unmistakable (or by a conntrack
   entry handed in as ``known``) stay linked;
2. the order: a link delivers one connection's packets in the order in which they came, so a match
   is certain when every order-keeping assignment agrees on it;
3. parsimony: of two possible origins the one that needs the smaller rewrite.

What remains open is reported (:attr:`Journey.doubts`), never guessed. Two things are relied upon: the
TTL goes down at every box but the one whose own packet it is, and a link's sighting says whether the
packet was entering the box there or leaving it (:attr:`Place.outgoing`).

Pure: packets in, values out. Names of pods and Services belong to ``scenarios.names``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from scenarios.kinship import PATIENCE_NS, Group, certain_pairs, origins
from scenarios.packet import Endpoint, Packet, Tuple5


class Rewrite(NamedTuple):
    """One address and port replaced by another between two sightings of a packet."""

    what: str
    """DNAT or SNAT towards the server, un-DNAT or un-SNAT on the way back."""
    before: Endpoint
    after: Endpoint


@dataclass(frozen=True, kw_only=True)
class Journey:
    """One packet with all its sightings, the first one first."""

    hops: tuple[Packet, ...]
    reply: bool = False
    """True when it goes from the server to the client."""
    again: bool = False
    """True when the same data was sent before: a retransmission."""
    doubts: tuple[Packet, ...] = ()
    """First sightings of the packets this one may also be the continuation of."""

    def rewrites(self) -> list[list[Rewrite]]:
        """For every step from one hop to the next, what was translated in it."""
        return [self._between(one, other) for one, other in pairwise(self.hops)]

    def _between(self, one: Packet, other: Packet) -> list[Rewrite]:
        src, dst = ("un-DNAT", "un-SNAT") if self.reply else ("SNAT", "DNAT")
        pairs = ((dst, one.dst, other.dst), (src, one.src, other.src))
        return [Rewrite(what, before, after) for what, before, after in pairs if before != after]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """All packets of one connection in both directions, in the order in which they were sent."""

    journeys: tuple[Journey, ...]

    @property
    def opening(self) -> Journey:
        """The client's first packet."""
        return next(journey for journey in self.journeys if not journey.reply)

    @property
    def asked(self) -> Tuple5:
        """The tuple as the client sent it."""
        return self.opening.hops[0].tuple5

    @property
    def served(self) -> Tuple5:
        """The tuple as it was where the opening packet was seen last: what the server sees."""
        return self.opening.hops[-1].tuple5

    def replies(self) -> list[Journey]:
        return [journey for journey in self.journeys if journey.reply]

    @property
    def reply(self) -> Journey:
        """The first answer; LookupError when none was seen."""
        for journey in self.journeys:
            if journey.reply:
                return journey
        raise LookupError(f"no answer to {self.asked} was seen on any link")


class _Key(NamedTuple):
    """A five-tuple in one of its lives: a TCP port pair may be used again by a later connection."""

    line: Tuple5
    life: int

    @property
    def reverse(self) -> _Key:
        return _Key(self.line.reverse, self.life)


class _Aliases:
    """Union-find over keys: two are joined when translation turns one into the other."""

    def __init__(self) -> None:
        self._parent: dict[_Key, _Key] = {}

    def root(self, key: _Key) -> _Key:
        path = []
        while (parent := self._parent.get(key, key)) != key:
            path.append(key)
            key = parent
        for passed in path:
            self._parent[passed] = key
        return key

    def join(self, one: _Key, other: _Key) -> None:
        for a, b in ((one, other), (one.reverse, other.reverse)):
            self._parent[self.root(a)] = self.root(b)


_Sighting = tuple[Packet, _Key]
_Bucket = list[_Sighting]


def connections(packets: Iterable[Packet], known: Iterable[tuple[Tuple5, Tuple5]] = ()) -> list[Connection]:
    """Everything that was seen, as connections in the order of their first packet.

    ``known`` are translations from a conntrack table: the tuple before, the tuple after, both in
    the client's direction.
    """
    found, aliases = _journeys(packets, known)
    by_root: dict[frozenset[_Key], list[tuple[Journey, _Key]]] = defaultdict(list)
    for journey, key in found:
        root = aliases.root(key)
        by_root[frozenset((root, aliases.root(key.reverse)))].append((journey, root))
    return [_connection(members) for members in by_root.values()]


def _connection(members: list[tuple[Journey, _Key]]) -> Connection:
    members.sort(key=lambda member: member[0].hops[0].time_ns)
    opening = next((key for journey, key in members if journey.hops[0].flags == "SYN"), members[0][1])
    sent: set[Hashable] = set()
    ordered = []
    for journey, key in members:
        first, reply = journey.hops[0], key != opening
        again = False
        if first.protocol == "TCP" and (first.payload or {"SYN", "FIN"} & set(first.flags.split(","))):
            mark = (reply, first.seq, len(first.payload), first.flags)
            again = mark in sent and not journey.doubts
            sent.add(mark)
        ordered.append(replace(journey, reply=reply, again=again))
    return Connection(journeys=tuple(ordered))


def _journeys(
    packets: Iterable[Packet], known: Iterable[tuple[Tuple5, Tuple5]]
) -> tuple[list[tuple[Journey, _Key]], _Aliases]:
    sightings = _with_lives(sorted(packets, key=lambda packet: packet.time_ns))
    buckets: dict[Hashable, _Bucket] = defaultdict(list)
    latest: dict[Tuple5, _Key] = {}
    for packet, key in sightings:
        buckets[packet.unchanged].append((packet, key))
        latest[key.line] = key
    aliases = _Aliases()
    for before, after in known:
        if before in latest and after in latest:
            aliases.join(latest[before], latest[after])
    _learn(list(buckets.values()), aliases)
    found = []
    for bucket in buckets.values():
        groups = _groups(bucket, aliases)
        held = [Group(members) for members in groups.values()]
        maybe = origins(held) if len(held) > 1 else [[]]
        for root, group, numbers in zip(groups, held, maybe, strict=True):
            doubts = tuple(held[number].packets[0] for number in numbers)
            found += [(journey, root) for journey in _matched(group.packets, doubts)]
    return found, aliases


def _with_lives(packets: Sequence[Packet]) -> list[_Sighting]:
    """Give every packet its connection key; a SYN with a new sequence number begins a new life."""
    syn: dict[frozenset[Hashable], set[int]] = defaultdict(set)
    result = []
    for packet in packets:
        line = packet.quoted.reverse if packet.quoted else packet.tuple5
        if line.protocol in ("TCP", "UDP") and not line.src.port and isinstance(packet.unchanged, tuple):
            line = line._replace(protocol=f"{line.protocol} fragment {packet.unchanged[1]}")
        lives = syn[frozenset((line, line.reverse))]
        if packet.flags == "SYN":
            lives.add(packet.seq)
        result.append((packet, _Key(line, len(lives))))
    return result


def _groups(bucket: _Bucket, aliases: _Aliases) -> dict[_Key, list[Packet]]:
    groups: dict[_Key, list[Packet]] = defaultdict(list)
    for packet, key in bucket:
        groups[aliases.root(key)].append(packet)
    return groups


def _learn(buckets: list[_Bucket], aliases: _Aliases) -> None:
    """Join keys wherever one group of equal packets can only be the continuation of one other.

    What one packet settles may settle another one, so go on until a round teaches nothing.
    """
    open_buckets = buckets
    learned = True
    while learned:
        learned = False
        still_open = []
        for bucket in open_buckets:
            while len(groups := _groups(bucket, aliases)) > 1:
                keys = list(groups)
                pairs = certain_pairs([Group(members) for members in groups.values()])
                for origin, continuation in pairs:
                    aliases.join(keys[origin], keys[continuation])
                    learned = True
                if not pairs:
                    still_open.append(bucket)
                    break
        open_buckets = still_open


def _matched(members: Sequence[Packet], outside: tuple[Packet, ...]) -> list[Journey]:
    """Split sightings of one connection with equal contents into packets, station by station.

    ``outside``: packets of other connections that all of these may be continuations of.
    """
    stations: dict[Hashable, list[Packet]] = defaultdict(list)
    for packet in members:
        stations[packet.place, packet.tuple5, packet.ttl].append(packet)
    in_order = sorted(stations.values(), key=lambda station: (-station[0].ttl, station[0].time_ns))
    levels: list[list[list[Packet]]] = []  # the journeys whose last sighting is at that station
    doubts: dict[int, tuple[Packet, ...]] = {}
    for station in in_order:
        waiting = list(station)
        arrived: list[list[Packet]] = []
        for level in reversed(levels):
            certain, unsure = _assign(level, waiting)
            for journey, packet in certain:
                level.remove(journey)
                arrived.append([*journey, packet])
                doubts[id(packet)] = doubts.get(id(journey[-1]), ())
            for packet, candidates in unsure:
                arrived.append([packet])
                doubts[id(packet)] = tuple(journey[0] for journey in candidates)
            settled = {id(packet) for _, packet in certain} | {id(packet) for packet, _ in unsure}
            waiting = [packet for packet in waiting if id(packet) not in settled]
        arrived += [[packet] for packet in waiting]
        levels.append(sorted(arrived, key=lambda journey: journey[-1].time_ns))
    return [
        Journey(hops=tuple(journey), doubts=doubts.get(id(journey[-1]), ()) or outside)
        for level in levels
        for journey in level
    ]


def _assign(
    journeys: list[list[Packet]], packets: list[Packet]
) -> tuple[list[tuple[list[Packet], Packet]], list[tuple[Packet, list[list[Packet]]]]]:
    """Order-keeping assignment of packets to earlier sightings: what is certain, what is not.

    The leftmost and the rightmost assignment bound all others, so where they agree all agree.
    """

    def fits(journey: list[Packet], packet: Packet) -> bool:
        late = packet.time_ns - journey[-1].time_ns
        return 0 <= late <= PATIENCE_NS and all(hop.place != packet.place for hop in journey)

    left: dict[int, int] = {}
    at = 0
    for number, packet in enumerate(packets):
        found = next((i for i in range(at, len(journeys)) if fits(journeys[i], packet)), None)
        if found is not None:
            left[number], at = found, found + 1
    right: dict[int, int] = {}
    at = len(journeys)
    for number in sorted(left, reverse=True):
        found = next((i for i in range(at - 1, -1, -1) if fits(journeys[i], packets[number])), None)
        if found is not None:
            right[number], at = found, found
    certain, unsure = [], []
    for number, low in left.items():
        high = right.get(number, low)
        if low == high:
            certain.append((journeys[low], packets[number]))
        else:
            between = [journeys[i] for i in range(min(low, high), max(low, high) + 1)]
            unsure.append((packets[number], [j for j in between if fits(j, packets[number])]))
    return certain, unsure
