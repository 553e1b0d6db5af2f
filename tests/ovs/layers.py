"""Packets of either family as the ovs tier needs them: what IPv4 and IPv6 write differently, once.

The family is that of the addresses; ``ip`` is an IP layer with what it carries, without Ethernet.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet import IPerror as InnerIP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPerror6,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
    in6_chksum,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

LINK = 1500
LOOPBACK = "00:00:00:00:00:00"
ICMP_NUMBERS = (1, 58)
Complaint = Literal["port", "route", "size"]
"""What an ICMP error may say: nobody at that port, no route there, too big for the next link."""
_fragment4, _fragment6, _chksum6 = cast(Any, fragment), cast(Any, fragment6), cast(Any, in6_chksum)
_SAYS: dict[Complaint, tuple[int, int, type[Packet], int]] = {
    "port": (3, 3, ICMPv6DestUnreach, 4),
    "route": (3, 0, ICMPv6DestUnreach, 0),
    "size": (3, 4, ICMPv6PacketTooBig, 0),
}


def ip_of(packet: Packet) -> Any:
    """The IP layer of a frame."""
    return packet[IPv6] if IPv6 in packet else packet[IP]


def framed(ip: Any) -> Any:
    """An IP packet as it appears inside a host. Without addresses of its own on the frame scapy would ask the
    machine's own network for them."""
    return Ether(src=LOOPBACK, dst=LOOPBACK) / ip


def header(src: str, dst: str, number: int = 0) -> Any:
    """An IP header; ``number`` tells the fragments of one packet from another's."""
    if ":" not in dst:
        return IP(src=src, dst=dst, id=number)
    return IPv6(src=src, dst=dst, fl=number)


def protocol_of(ip: Any) -> int:
    if ip.version == 4:
        return int(ip.proto)
    return int(ip.payload.nh if is_fragment(ip) else ip.nh)


def hops_of(ip: Any) -> int:
    return int(ip.ttl if ip.version == 4 else ip.hlim)


def one_hop_less(ip: Any) -> Any:
    """The packet as a router sends it on."""
    ip = ip.copy()
    if ip.version == 6:
        ip.hlim -= 1
    else:
        ip.ttl -= 1
        del ip.chksum
    return ip


# Checksums.


def verify(ip: Any) -> None:
    """Every checksum is right; those inside a fragment are looked at when it is whole."""
    if ip.version == 4:
        copy = ip.copy()
        del copy.chksum
        assert ip.chksum == IP(bytes(copy)).chksum, f"wrong IP checksum: {ip.summary()}"
    if is_fragment(ip):
        return
    if ip.version == 6:
        assert _chksum6(ip.nh, ip, bytes(ip.payload)) == 0, f"wrong checksum: {ip.summary()}"
        return
    for layer in (TCP, UDP, ICMP):
        if layer in ip:
            fresh = IP(bytes(ip))
            del fresh[layer].chksum
            right = IP(bytes(fresh))[layer].chksum
            assert ip[layer].chksum == right, f"wrong checksum in {layer.__name__}: {ip.summary()}"


# Fragments.


def is_fragment(ip: Any) -> bool:
    # Not "in ip": the packet that an error quotes may be one.
    return bool(isinstance(ip.payload, IPv6ExtHdrFragment) if ip.version == 6 else ip.flags.MF or ip.frag)


def offset_of(ip: Any) -> int:
    """Where in its datagram a fragment belongs, in bytes."""
    return 8 * int(ip.payload.offset if ip.version == 6 else ip.frag)


def number_of(ip: Any) -> int:
    """What the fragments of one datagram have in common."""
    return int(ip.payload.id if ip.version == 6 else ip.id)


def fragments(ip: Any) -> list[Any]:
    """A packet as it goes over a link of 1,500 bytes."""
    if len(ip) <= LINK:
        return [ip]
    if ip.version == 4:
        return [IP(bytes(piece)) for piece in _fragment4(ip, fragsize=LINK - 20)]
    head = IPv6(src=ip.src, dst=ip.dst, hlim=ip.hlim) / IPv6ExtHdrFragment(id=ip.fl)
    return [IPv6(bytes(piece)) for piece in _fragment6(head / IPv6(bytes(ip)).payload, LINK)]


def defragmented(pieces: list[Any]) -> Any | None:
    """The packet of these fragments, if they are all there."""
    data = b""
    for piece in sorted(pieces, key=offset_of):
        if offset_of(piece) != len(data):
            return None
        data += bytes(piece.payload.payload if piece.version == 6 else piece.payload)
        more = piece.payload.m if piece.version == 6 else piece.flags.MF
    if more:
        return None
    head = pieces[0]
    whole = header(head.src, head.dst, number_of(head))
    setattr(whole, "nh" if head.version == 6 else "proto", protocol_of(head))
    return ip_of(Ether(bytes(framed(whole / Raw(data)))))


# ICMP.


def ping(src: str, dst: str, number: int) -> Any:
    if ":" in dst:
        return header(src, dst) / ICMPv6EchoRequest(id=number, seq=1, data=b"ping")
    return header(src, dst) / ICMP(id=number, seq=1) / Raw(b"ping")


def pong(ip: Any) -> Any | None:
    """The answer to an echo request; None if it is none."""
    if ICMPv6EchoRequest in ip:
        asked = ip[ICMPv6EchoRequest]
        return header(ip.dst, ip.src) / ICMPv6EchoReply(id=asked.id, seq=asked.seq, data=asked.data)
    if ICMP in ip and ip[ICMP].type == 8:
        asked = ip[ICMP]
        return header(ip.dst, ip.src) / ICMP(type=0, id=asked.id, seq=asked.seq) / Raw(bytes(asked.payload))
    return None


def ponged(packet: Any) -> int | None:
    """The number of the ping that this answers."""
    if ICMPv6EchoReply in packet:
        return int(packet[ICMPv6EchoReply].id)
    return int(packet[ICMP].id) if ICMP in packet and packet[ICMP].type == 0 else None


def error(says: Complaint, about: Any, src: str, mtu: int = 0) -> Any:
    """An ICMP error to the sender of a packet."""
    type4, code4, layer6, code6 = _SAYS[says]
    if about.version == 4:
        body = ICMP(type=type4, code=code4, nexthopmtu=mtu) if mtu else ICMP(type=type4, code=code4)
        return header(src, about.src) / body / Raw(bytes(about)[:576])
    body6 = layer6(mtu=mtu) if says == "size" else layer6(code=code6)
    return header(src, about.src) / body6 / Raw(bytes(about)[:1200])


def complaint(packet: Any) -> Complaint | None:
    """What an ICMP error says; None if it is none."""
    for says, (type4, code4, layer6, code6) in _SAYS.items():
        if ICMP in packet and (packet[ICMP].type, packet[ICMP].code) == (type4, code4):
            return says
        if layer6 in packet and packet[layer6].code == code6:
            return says
    return None


def inner(packet: Any) -> Any:
    """The packet an ICMP error quotes, or None."""
    if complaint(packet) is None:
        return None
    return packet[IPerror6] if IPerror6 in packet else packet[InnerIP]
