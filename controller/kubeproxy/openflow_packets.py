"""OpenFlow 1.5 for single packets and connections: packet-in, packet-out, flow-removed, flows with an end.

The other half of ``openflow``, for ``dispatch``: what comes unasked, and what is sent for one connection.
The flows here have timeouts and are no object's, so they are no ``Flow``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from controller.kubeproxy.actions import Action
from controller.kubeproxy.fields import (
    CT_IPV6_DST,
    CT_IPV6_SRC,
    CT_NW_DST,
    CT_NW_PROTO,
    CT_NW_SRC,
    CT_TP_DST,
    CT_TP_SRC,
    IN_PORT,
    IPV4,
    IPV6,
    TCP,
    Field,
    FieldMatch,
    Part,
    ct_state,
    proto,
)
from controller.kubeproxy.flow import Category, FlowKey
from controller.kubeproxy.openflow import ANY, NO_BUFFER, OFPFC_ADD, OFPT_FLOW_MOD, VERSION
from controller.kubeproxy.openflow_actions import NX_VENDOR, encode_actions, oxm
from controller.kubeproxy.pipeline import CONNECTIONS, HIGH, NORMAL, SCHEDULER
from controller.kubeproxy.services import Address

OFPT_PACKET_IN, OFPT_FLOW_REMOVED, OFPT_PACKET_OUT = 10, 11, 13
OFPP_CONTROLLER, WHOLE_PACKET = 0xFFFFFFFD, 0xFFFF
OFPFF_SEND_FLOW_REM = 1
NXAST_FIN_TIMEOUT = 19
PACKET_REGS = 0x8001
"""The OXM class of registers in OpenFlow 1.5: each holds two of ours."""

_HEADER = Struct("!BBHI")
_FLOW_MOD = Struct("!QQBBHHHIIIHH")
_TLV = Struct("!HH")
_OUTPUT = Struct("!HHIH6x")
_FIN_TIMEOUT = Struct("!HHIHHH2x")
_INSTRUCTION = Struct("!HH4x")
_PACKET_IN = Struct("!IHBBQ")  # buffer, length, reason, table, cookie
_PACKET_OUT = Struct("!IH2x")
_FLOW_REMOVED = Struct("!BBHHHQ")  # table, reason, priority, idle, hard, cookie
_FLOW_DESC = Struct("!HxxBxHHHHHQ")  # length, table, priority, idle, hard, flags, importance, cookie


class Connection(NamedTuple):
    """Who asked whom, before any translation."""

    protocol: int
    client: Address
    client_port: int
    asked: Address
    port: int


class PacketIn(NamedTuple):
    """A packet the pipeline sent to us, where it came in, and what it had written into registers."""

    in_port: int
    registers: dict[int, int]
    data: bytes

    def value(self, part: Part) -> int:
        """What stands in some bits of a register."""
        number = int(part.field.name.removeprefix("reg"))
        return self.registers.get(number, 0) >> part.low & (1 << part.bits) - 1


class Opening(NamedTuple):
    """The first packet of a connection; ``sequence`` tells a TCP SYN from one sent again (else 0)."""

    connection: Connection
    sequence: int


def decode_packet_in(message: bytes) -> PacketIn:
    match = 8 + _PACKET_IN.size
    length = _TLV.unpack_from(message, match)[1]
    registers: dict[int, int] = {}
    in_port = 0
    for kind, number, value in _oxms(message, match):
        if kind == PACKET_REGS:
            both = int.from_bytes(value[:8], "big")
            registers[2 * number], registers[2 * number + 1] = both >> 32, both & 0xFFFFFFFF
        elif (kind, number) == (IN_PORT.oxm_class, IN_PORT.number):
            in_port = int.from_bytes(value, "big")
    return PacketIn(in_port, registers, message[match + _padded(length) + 2 :])


def decode_flow_removed(message: bytes) -> tuple[int, Connection | None]:
    """(cookie, the connection it was for, if it was for one)."""
    cookie = _FLOW_REMOVED.unpack_from(message, 8)[5]
    return cookie, _connection(message, 8 + _FLOW_REMOVED.size)


def decode_connections(message: bytes) -> Iterator[tuple[int, Connection]]:
    """(cookie, connection) of those flows in one part of a flow description that are for connections."""
    offset = 16
    while offset < len(message):
        length, _, _, _, _, _, _, cookie = _FLOW_DESC.unpack_from(message, offset)
        if cookie >> 56 == Category.CONNECTION:
            connection = _connection(message, offset + _FLOW_DESC.size)
            if connection is not None:
                yield cookie, connection
        offset += length


def read_opening(data: bytes) -> Opening | None:
    """The connection a frame opens; None when it shows no ports (a later fragment)."""
    kind, ip = int.from_bytes(data[12:14], "big"), data[14:]
    if kind == IPV4.eth_type and len(ip) >= 20:
        protocol, rest = ip[9], ip[4 * (ip[0] & 15) :]
        addresses: tuple[Address, Address] = IPv4Address(ip[12:16]), IPv4Address(ip[16:20])
        whole = int.from_bytes(ip[6:8], "big") & 0x1FFF == 0
    elif kind == IPV6.eth_type and len(ip) >= 40:
        protocol, rest, whole = ip[6], ip[40:], True
        addresses = IPv6Address(ip[8:24]), IPv6Address(ip[24:40])
    else:
        return None
    if not whole or len(rest) < 8:
        return None
    ports = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
    sequence = int.from_bytes(rest[4:8], "big") if protocol == TCP else 0
    return Opening(Connection(protocol, addresses[0], ports[0], addresses[1], ports[1]), sequence)


def packet_out(in_port: int, actions: Iterable[Action], data: bytes, xid: int) -> bytes:
    """Have the switch do this with a packet, as if it had come in by ``in_port``."""
    encoded = encode_actions(actions)
    match = _match([FieldMatch(IN_PORT, in_port)])
    return _message(OFPT_PACKET_OUT, xid, _PACKET_OUT.pack(NO_BUFFER, len(encoded)) + match + encoded + data)


def lease_flow(seconds: int, xid: int) -> bytes:
    """For so long the switch asks us; sent again it begins anew."""
    to_us = _OUTPUT.pack(0, 16, OFPP_CONTROLLER, WHOLE_PACKET)
    cookie = Category.LEASE << 56
    return _add(FlowKey(SCHEDULER.id, HIGH, cookie), (), to_us, xid, hard=seconds)


def connection_flow(connection: Connection, cookie: int, idle: int, xid: int) -> bytes:
    """A flow that lives while the connection does, and tells when it ends.

    It matches packets both ways. After a FIN or RST a second of silence is enough.
    """
    family = IPV4 if connection.client.version == 4 else IPV6
    src, dst = (CT_NW_SRC, CT_NW_DST) if family is IPV4 else (CT_IPV6_SRC, CT_IPV6_DST)
    match = [
        family.ip,
        ct_state("-inv+trk"),
        FieldMatch(CT_NW_PROTO, connection.protocol),
        FieldMatch(src, int(connection.client)),
        FieldMatch(dst, int(connection.asked)),
        FieldMatch(CT_TP_SRC, connection.client_port),
        FieldMatch(CT_TP_DST, connection.port),
    ]
    actions = b""
    if connection.protocol == TCP:
        match.insert(1, proto(TCP))
        actions = _FIN_TIMEOUT.pack(0xFFFF, 16, NX_VENDOR, NXAST_FIN_TIMEOUT, min(1, idle), 0)
    key = FlowKey(CONNECTIONS.id, NORMAL, cookie)
    return _add(key, match, actions, xid, idle=idle, flags=OFPFF_SEND_FLOW_REM)


def _add(
    key: FlowKey,
    match: Iterable[FieldMatch],
    actions: bytes,
    xid: int,
    *,
    idle: int = 0,
    hard: int = 0,
    flags: int = 0,
) -> bytes:
    head = _FLOW_MOD.pack(
        key.cookie, 0, key.table, OFPFC_ADD, idle, hard, key.priority, NO_BUFFER, ANY, ANY, flags, 0
    )
    instructions = _INSTRUCTION.pack(4, 8 + len(actions)) + actions if actions else b""
    return _message(OFPT_FLOW_MOD, xid, head + _match(match) + instructions)


def _match(fields: Iterable[FieldMatch]) -> bytes:
    encoded = b"".join(map(oxm, fields))
    length = 4 + len(encoded)
    return _TLV.pack(1, length) + encoded + bytes(-length % 8)


def _message(type: int, xid: int, body: bytes) -> bytes:
    return _HEADER.pack(VERSION, type, 8 + len(body), xid) + body


def _padded(length: int) -> int:
    return (length + 7) // 8 * 8


def _oxms(message: bytes, match: int) -> Iterator[tuple[int, int, bytes]]:
    """(class, number, value with its mask) of each field of the match that begins at ``match``."""
    end = match + _TLV.unpack_from(message, match)[1]
    place = match + 4
    while place + 4 <= end:
        kind, number, size = (
            int.from_bytes(message[place : place + 2], "big"),
            *message[place + 2 : place + 4],
        )
        yield kind, number >> 1, message[place + 4 : place + 4 + size]
        place += 4 + size


def _connection(message: bytes, match: int) -> Connection | None:
    found = {(kind, number): value for kind, number, value in _oxms(message, match)}

    def value(field: Field) -> bytes:
        return found.get((field.oxm_class, field.number), b"")

    client, asked = value(CT_NW_SRC) or value(CT_IPV6_SRC), value(CT_NW_DST) or value(CT_IPV6_DST)
    if not client or not asked:
        return None
    address = IPv4Address if len(client) == 4 else IPv6Address
    numbers = [int.from_bytes(value(field), "big") for field in (CT_NW_PROTO, CT_TP_SRC, CT_TP_DST)]
    return Connection(numbers[0], address(client), numbers[1], address(asked), numbers[2])
