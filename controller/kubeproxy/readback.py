"""What a switch says it holds, gathered from the parts of two multipart replies.

A flow is known by table, priority and cookie, and the cookie has a hash of the flow's text: enough to
compare with what is wanted. ``contents`` tells, besides, whether a flow was altered under its cookie
(``ovs-ofctl mod-flows``): match and instructions as the switch describes them, which stay the same bytes
from one read to the next. Comparing and sending are ``switch``'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct

from controller.kubeproxy import openflow
from controller.kubeproxy.channel import Described
from controller.kubeproxy.diff import Have
from controller.kubeproxy.flow import Category, Flow, FlowKey
from controller.kubeproxy.leftover import ways_left
from controller.kubeproxy.node import Node
from controller.kubeproxy.openflow_packets import Connection, decode_connections
from controller.kubeproxy.stale import Stale

_ENTRY = Struct("!HxxBxHHHHHQ")  # length, table, priority, idle, hard, flags, importance, cookie
_TLV = Struct("!HH")
HEADER = 16  # of a multipart message


@dataclass(kw_only=True)
class ReadBack:
    """``flows`` and ``groups`` are the xids of the two requests; ``began`` when they were sent."""

    flows: int
    groups: int
    began: float
    _parts: dict[int, list[bytes]] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def requests(self) -> list[tuple[int, bytes]]:
        """(xid, message) of what is to be sent."""
        return [
            (self.flows, openflow.flow_stats_request(self.flows)),
            (self.groups, openflow.group_desc_request(self.groups)),
        ]

    def take(self, heard: Described) -> bool:
        """One part; True when all is there."""
        if heard.xid in (self.flows, self.groups):
            self._parts.setdefault(heard.xid, []).append(heard.message)
            if not heard.more:
                self._done.add(heard.xid)
        return len(self._done) == 2

    def have(self, contents: Iterable[FlowKey]) -> Have:
        """``contents``: as the method of that name found it."""
        groups = [group for part in self._parts[self.groups] for group in openflow.decode_group_desc(part)]
        return Have(flows=set(contents), groups=dict(groups))

    def connections(self) -> list[tuple[int, Connection]]:
        """(cookie, connection) of all that the switch has a flow for."""
        return [one for part in self._parts[self.flows] for one in decode_connections(part)]

    def ways(self, nodes: Sequence[Node]) -> frozenset[Stale]:
        """In which ways UDP clients have been led somewhere by what the switch holds."""
        return ways_left(self._parts[self.flows], self._parts[self.groups], nodes)

    def contents(self, wanted: Mapping[FlowKey, Flow]) -> dict[FlowKey, int]:
        """A hash of match and instructions of each flow that is an object's, good within this process.

        The keys of what is wanted are its own keys: there are a hundred thousand.
        """
        found = (pair for part in self._parts[self.flows] for pair in _contents(part) if not learned(pair[0]))
        return {wanted[key].key if key in wanted else key: value for key, value in found}


def learned(key: FlowKey) -> bool:
    """Whether the flow comes and goes by itself: no object's, but a client's, a connection's, a lease."""
    return key.cookie >> 56 in (Category.AFFINITY, Category.CONNECTION, Category.LEASE)


def _contents(message: bytes) -> Iterator[tuple[FlowKey, int]]:
    offset = HEADER
    while offset < len(message):
        length, table, priority, _, _, _, _, cookie = _ENTRY.unpack_from(message, offset)
        match = offset + _ENTRY.size
        statistics = match + _padded(_TLV.unpack_from(message, match)[1])
        instructions = statistics + _padded(_TLV.unpack_from(message, statistics)[1])
        end = offset + length
        yield FlowKey(table, priority, cookie), hash(message[match:statistics] + message[instructions:end])
        offset = end


def _padded(length: int) -> int:
    return (length + 7) // 8 * 8
