"""What an earlier kubeproxy offered to UDP clients, read from the flows and groups it has left behind.

What vanished while no kubeproxy ran is in no event. But the switch still has it: a flow of ServiceLB says
what could be asked for, its group which endpoints there were. What of that is no longer wanted must be
forgotten by conntrack too, or a client that keeps its port goes on asking an endpoint that is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from struct import Struct

from controller.kubeproxy.fields import IP_PROTO, REG4, UDP, UDP_DST, Field
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import ENDPOINT_IP, ENDPOINT_IP6, SERVICE_LB, TO_NODE_PORT
from controller.kubeproxy.services import Address
from controller.kubeproxy.stale import Stale

Endpoint = tuple[Address, int]
PACKET_REGS = 0x8001
"""The OXM class in which OpenFlow 1.5 shows registers in a match: each field is two of ours."""
OFPAT_GROUP, OFPAT_SET_FIELD, OFPIT_APPLY_ACTIONS = 22, 25, 4
HEADER = 16  # of a multipart message

_FLOW = Struct("!HxxB19xHH")  # length, table; then type and length of the match
_MATCH = 24  # where the match of a flow description begins
_TLV = Struct("!HH")
_GROUP = Struct("!HBxIH")
_BUCKET = Struct("!HHI")


def ways_left(flows: Iterable[bytes], groups: Iterable[bytes], nodes: Sequence[Node]) -> frozenset[Stale]:
    """The ways of ``stale.ways`` that are in these parts of a flow and a group description."""
    endpoints = {number: found for part in groups for number, found in _groups(part)}
    ways = set()
    for part in flows:
        for match, group in _udp(part):
            for node in nodes:
                for asked in _asked(match, node):
                    port = int.from_bytes(match[_key(UDP_DST)], "big")
                    ways.add(Stale(node.dnat_zone, asked, port))
                    for address, number in endpoints.get(group, ()):
                        if address.version == asked.version:
                            ways.add(Stale(node.dnat_zone, asked, port, address, number))
    return frozenset(ways)


def _asked(match: dict[tuple[int, int], bytes], node: Node) -> Iterator[Address]:
    """The addresses for which a flow is, as far as they are of this node and family."""
    family = node.family
    if int.from_bytes(match.get((0x8000, 5), b""), "big") != family.eth_type:
        return
    value = match.get(_key(family.dst))
    if value is not None and len(value) == family.dst.bytes:  # not masked: an address, not a network
        yield ip_address(value)
    elif value is None and match.get((PACKET_REGS, REG4.number // 2)) is not None:
        both = match[PACKET_REGS, REG4.number // 2]  # reg4 and reg5, then their masks
        if int.from_bytes(both[:4], "big") & TO_NODE_PORT.mask:
            yield from (node.address, family.ranges.node_port_virtual)


def _udp(part: bytes) -> Iterator[tuple[dict[tuple[int, int], bytes], int]]:
    """(match, group or 0) of each flow of ServiceLB for one UDP port."""
    offset = HEADER
    while offset < len(part):
        length, table, _, size = _FLOW.unpack_from(part, offset)
        if table == SERVICE_LB.id:
            begin = offset + _MATCH
            match = dict(_oxms(part[begin + 4 : begin + size]))
            port = match.get(_key(UDP_DST), b"")
            if match.get(_key(IP_PROTO)) == bytes([UDP]) and len(port) == UDP_DST.bytes:
                statistics = begin + _padded(size)
                instructions = statistics + _padded(_TLV.unpack_from(part, statistics)[1])
                yield match, _group_in(part[instructions : offset + length])
        offset += length


def _group_in(instructions: bytes) -> int:
    for kind, body in _tlvs(instructions):
        if kind == OFPIT_APPLY_ACTIONS:
            for action, data in _tlvs(body[4:]):
                if action == OFPAT_GROUP:
                    return int.from_bytes(data[:4], "big")
    return 0


def _groups(part: bytes) -> Iterator[tuple[int, list[Endpoint]]]:
    offset = HEADER
    while offset < len(part):
        length, _, number, buckets = _GROUP.unpack_from(part, offset)
        found = []
        place = offset + 16
        while place < offset + 16 + buckets:
            size, actions, _ = _BUCKET.unpack_from(part, place)
            endpoint = _endpoint(part[place + _BUCKET.size : place + _BUCKET.size + actions])
            found += [endpoint] if endpoint else []
            place += size
        yield number, found
        offset += length


def _endpoint(actions: bytes) -> Endpoint | None:
    """What a bucket writes into the registers."""
    written = {
        key: value for kind, body in _tlvs(actions) if kind == OFPAT_SET_FIELD for key, value in _oxms(body)
    }
    port = written.get(_key(REG4))
    for field in (ENDPOINT_IP.field, ENDPOINT_IP6.field):
        value = written.get(_key(field))
        if value is not None and port is not None:
            return ip_address(value[: field.bytes]), int.from_bytes(port[:4], "big") & 0xFFFF
    return None


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(data):
        kind, length = _TLV.unpack_from(data, place)
        yield kind, data[place + 4 : place + length]
        place += max(length, 8)


def _oxms(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """((class, number), value and mask) of each field; an all-zero rest is padding."""
    place = 0
    while place + 4 <= len(data) and data[place : place + 4] != bytes(4):
        kind, number, size = (
            int.from_bytes(data[place : place + 2], "big"),
            data[place + 2] >> 1,
            data[place + 3],
        )
        yield (kind, number), data[place + 4 : place + 4 + size]
        place += 4 + size


def _key(field: Field) -> tuple[int, int]:
    return field.oxm_class, field.number


def _padded(length: int) -> int:
    return (length + 7) // 8 * 8
