"""Read a captured frame into a value: addresses, ports, TTL, flags, and what no router changes.

The lessons read thousands of frames and must start at once, so this is a reader for exactly what
crosses the lab's wires (Ethernet, ARP, NDP, IPv4, IPv6, TCP, UDP, ICMP) and nothing else. It sends
nothing, builds nothing, and keeps no state; scapy does the sending, in ``scenarios/probes``.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_ORDER = ("SYN", "FIN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMP6"}
_ERRORS = {("ICMP", 3), ("ICMP", 4), ("ICMP", 5), ("ICMP", 11), ("ICMP", 12)} | {
    ("ICMP6", kind) for kind in (1, 2, 3, 4)
}
_ICMP_WORDS = {
    ("ICMP", 0, 0): "echo reply",
    ("ICMP", 8, 0): "echo request",
    ("ICMP", 3, 0): "net unreachable",
    ("ICMP", 3, 1): "host unreachable",
    ("ICMP", 3, 3): "port unreachable",
    ("ICMP", 3, 4): "fragmentation needed",
    ("ICMP", 11, 0): "TTL exceeded",
    ("ICMP6", 1, 0): "no route",
    ("ICMP6", 1, 3): "address unreachable",
    ("ICMP6", 1, 4): "port unreachable",
    ("ICMP6", 2, 0): "packet too big",
    ("ICMP6", 3, 0): "hop limit exceeded",
    ("ICMP6", 128, 0): "echo request",
    ("ICMP6", 129, 0): "echo reply",
}

_SOLICITATION, _ADVERTISEMENT = 135, 136
_NEIGHBOUR_WORDS = {
    130: ("MLD", "query"),
    131: ("MLD", "report"),
    132: ("MLD", "done"),
    133: ("NDP", "router solicitation"),
    134: ("NDP", "router advertisement"),
    _SOLICITATION: ("NDP", "who has"),
    _ADVERTISEMENT: ("NDP", "is at"),
    137: ("NDP", "redirect"),
    143: ("MLD", "report"),
}
"""What of ICMPv6 is between neighbours only: protocol and meaning, by type (RFC 4861, 2710, 3810)."""
_ON_ONE_LINK = ("ARP", "NDP", "MLD")


class Endpoint(NamedTuple):
    """An address and a port (0 where the protocol has none)."""

    address: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Tuple5(NamedTuple):
    """The directed five-tuple of a packet."""

    protocol: str
    src: Endpoint
    dst: Endpoint

    @property
    def reverse(self) -> Tuple5:
        return Tuple5(self.protocol, self.dst, self.src)

    def __str__(self) -> str:
        return f"{self.src} → {self.dst}"


class Place(NamedTuple):
    """Where a packet was seen: a link, and whether it was leaving the bridge or router there."""

    link: str
    outgoing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One frame as one link saw it. ``tuple5`` of an ICMP message carries its echo id as ports."""

    time_ns: int
    place: Place
    mac_src: str = ""
    mac_dst: str = ""
    tuple5: Tuple5
    ttl: int = 0
    flags: str = ""
    """``SYN,ACK`` for TCP, the meaning (``no route``) for ICMP, ``who has`` or ``is at`` for ARP and NDP."""
    seq: int = 0
    ack: int = 0
    payload: bytes = b""
    unchanged: Hashable = None
    """What no hop, no translation and no router changes: equal for sightings of one packet."""
    quoted: Tuple5 | None = None
    """The packet an ICMP error is about."""
    bad_checksums: tuple[str, ...] = field(default=())

    @property
    def link(self) -> str:
        return self.place.link

    @property
    def src(self) -> Endpoint:
        return self.tuple5.src

    @property
    def dst(self) -> Endpoint:
        return self.tuple5.dst

    @property
    def protocol(self) -> str:
        return self.tuple5.protocol

    @property
    def on_one_link(self) -> bool:
        """Said between neighbours and forwarded by nobody: ARP, NDP, MLD."""
        return self.protocol in _ON_ONE_LINK


def read(frame: bytes, *, time_ns: int = 0, link: str = "", outgoing: bool = False) -> Packet | None:
    """One Ethernet frame as a Packet; None for what is cut short or of no kind named above."""
    try:
        return _ethernet(frame, time_ns, Place(link, outgoing))
    except (struct.error, IndexError, ValueError):
        return None


def _ethernet(frame: bytes, time_ns: int, place: Place) -> Packet | None:
    offset, kind = 14, int.from_bytes(frame[12:14])
    if kind == 0x8100:
        offset, kind = 18, int.from_bytes(frame[16:18])
    macs = frame[6:12].hex(":"), frame[0:6].hex(":")
    body = frame[offset:]
    if kind == 0x0806:
        return _arp(body, time_ns, place, macs)
    if kind == 0x0800:
        return _ipv4(body, time_ns, place, macs)
    if kind == 0x86DD:
        return _ipv6(body, time_ns, place, macs)
    return None


def _arp(body: bytes, time_ns: int, place: Place, macs: tuple[str, str]) -> Packet:
    operation = int.from_bytes(body[6:8])
    sender, target = _address(body[14:18]), _address(body[24:28])
    return Packet(
        time_ns=time_ns,
        place=place,
        mac_src=macs[0],
        mac_dst=macs[1],
        tuple5=Tuple5("ARP", Endpoint(sender, 0), Endpoint(target, 0)),
        flags="who has" if operation == 1 else "is at",
        unchanged=("ARP", body[:28]),
    )


def _ipv4(body: bytes, time_ns: int, place: Place, macs: tuple[str, str]) -> Packet:
    header = (body[0] & 0xF) * 4
    total, identification, fragment = struct.unpack_from("!HHH", body, 2)
    ttl, protocol = body[8], body[9]
    if len(body) < total or header < 20:
        raise ValueError("cut short")
    wrong = () if _sum(body[:header]) == 0 else ("IPv4",)
    pseudo = body[12:20] + bytes((0, protocol)) + (total - header).to_bytes(2)
    return _transport(
        body[header:total],
        addresses=(_address(body[12:16]), _address(body[16:20])),
        protocol=_PROTOCOLS.get(protocol, str(protocol)),
        ttl=ttl,
        identification=(identification, fragment & 0x3FFF),
        fragment=bool(fragment & 0x3FFF),
        pseudo=pseudo,
        wrong=wrong,
        frame=(time_ns, place, macs),
    )


def _ipv6(body: bytes, time_ns: int, place: Place, macs: tuple[str, str]) -> Packet:
    length, following, hops = struct.unpack_from("!HBB", body, 4)
    rest = body[40 : 40 + length]
    if len(rest) < length:
        raise ValueError("cut short")
    identification: tuple[int, int] = (0, 0)
    fragment = False
    while following in (0, 43, 44, 60):
        if following == 44:
            offset, number = struct.unpack_from("!HI", rest, 2)
            identification, fragment, size = (number, offset), True, 8
        else:
            size = 8 + rest[1] * 8
        following, rest = rest[0], rest[size:]
    pseudo = body[8:40] + len(rest).to_bytes(4) + following.to_bytes(4)
    if following == 58 and not fragment and rest[0] in _NEIGHBOUR_WORDS:
        return _neighbourly(body, rest, time_ns, place, macs, pseudo)
    return _transport(
        rest,
        addresses=(_address(body[8:24]), _address(body[24:40])),
        protocol=_PROTOCOLS.get(following, str(following)),
        ttl=hops,
        identification=identification,
        fragment=fragment,
        pseudo=pseudo,
        wrong=(),
        frame=(time_ns, place, macs),
    )


def _neighbourly(
    body: bytes, message: bytes, time_ns: int, place: Place, macs: tuple[str, str], pseudo: bytes
) -> Packet:
    """As for ARP: who asks for whom, or who is there and to whom that is said."""
    protocol, words = _NEIGHBOUR_WORDS[message[0]]
    src, dst = _address(body[8:24]), _address(body[24:40])
    if message[0] == _SOLICITATION:
        dst = _address(message[8:24])
    elif message[0] == _ADVERTISEMENT:
        src = _address(message[8:24])
    return Packet(
        time_ns=time_ns,
        place=place,
        mac_src=macs[0],
        mac_dst=macs[1],
        tuple5=Tuple5(protocol, Endpoint(src, 0), Endpoint(dst, 0)),
        ttl=body[7],
        flags=words,
        unchanged=(protocol, body[8:40], message),
        bad_checksums=_wrong_checksum("ICMP6", message, pseudo),
    )


def _transport(
    data: bytes,
    *,
    addresses: tuple[str, str],
    protocol: str,
    ttl: int,
    identification: tuple[int, int],
    fragment: bool,
    pseudo: bytes,
    wrong: tuple[str, ...],
    frame: tuple[int, Place, tuple[str, str]],
) -> Packet:
    ports, flags, seq, ack, payload, quoted = (0, 0), "", 0, 0, data, None
    unchanged: Hashable = (protocol, identification, data)
    if not fragment:
        wrong += _wrong_checksum(protocol, data, pseudo)
        if protocol == "TCP":
            ports = struct.unpack_from("!HH", data)
            seq, ack, offset, bits, window = struct.unpack_from("!IIBBH", data, 4)
            header = (offset >> 4) * 4
            flags, payload = _flag_words(bits), data[header:]
            unchanged = (protocol, identification, seq, ack, bits, window, data[20:header], payload)
        elif protocol == "UDP":
            ports = struct.unpack_from("!HH", data)
            payload = data[8:]
            unchanged = (protocol, identification, payload)
        elif protocol in ("ICMP", "ICMP6"):
            kind, code = data[0], data[1]
            flags = _ICMP_WORDS.get((protocol, kind, code), f"type {kind} code {code}")
            if (protocol, kind) in _ERRORS:
                quoted, kept = _quoted(data[8:])
                unchanged = (protocol, identification, kind, code, kept)
            else:
                number, seq = struct.unpack_from("!HH", data, 4)
                ports, payload = (number, number), data[8:]
                unchanged = (protocol, identification, kind, code, seq, payload)
    time_ns, place, macs = frame
    return Packet(
        time_ns=time_ns,
        place=place,
        mac_src=macs[0],
        mac_dst=macs[1],
        tuple5=Tuple5(protocol, Endpoint(addresses[0], ports[0]), Endpoint(addresses[1], ports[1])),
        ttl=ttl,
        flags=flags,
        seq=seq,
        ack=ack,
        payload=payload,
        unchanged=unchanged,
        quoted=quoted,
        bad_checksums=wrong,
    )


def _quoted(data: bytes) -> tuple[Tuple5 | None, Hashable]:
    """The tuple of the packet inside an ICMP error (RFC 792), and what translation leaves of it."""
    if not data:
        return None, None
    if data[0] >> 4 == 4:
        header, protocol = (data[0] & 0xF) * 4, _PROTOCOLS.get(data[9], str(data[9]))
        addresses, number = (_address(data[12:16]), _address(data[16:20])), data[4:6]
    else:
        header, protocol = 40, _PROTOCOLS.get(data[6], str(data[6]))
        addresses, number = (_address(data[8:24]), _address(data[24:40])), b""
    rest = data[header:]
    ports = struct.unpack_from("!HH", rest) if protocol in ("TCP", "UDP") else (0, 0)
    kept = (protocol, number, rest[4:8] if protocol == "TCP" else rest[4:6])
    return Tuple5(protocol, Endpoint(addresses[0], ports[0]), Endpoint(addresses[1], ports[1])), kept


def _wrong_checksum(protocol: str, data: bytes, pseudo: bytes) -> tuple[str, ...]:
    if protocol == "ICMP":
        return () if _sum(data) == 0 else (protocol,)
    if protocol == "UDP" and data[6:8] == b"\0\0":
        return ()
    if protocol in ("TCP", "UDP", "ICMP6"):
        return () if _sum(pseudo + data) == 0 else (protocol,)
    return ()


def _sum(data: bytes) -> int:
    """The Internet checksum of RFC 1071: 0 over data that carries its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _flag_words(bits: int) -> str:
    names = {name for place, name in enumerate(_FLAGS) if bits >> place & 1}
    return ",".join(name for name in _ORDER if name in names)


def _address(raw: bytes) -> str:
    if len(raw) == 4:
        return ".".join(map(str, raw))
    return str(ip_address(raw))
