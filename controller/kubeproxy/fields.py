"""Packet, register and conntrack fields as data: their OXM headers, widths and how ovs-ofctl writes them.

Only what the pipeline uses. Values are plain integers; nothing here knows a table or a Kubernetes object.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET6, inet_ntop
from typing import NamedTuple

from controller.api.wiring import RANGES, Ranges

NXM_0, NXM_1, ERICOXM, OXM_BASIC = 0x0000, 0x0001, 0x1000, 0x8000


def _decimal(value: int) -> str:
    return str(value)


def _hexadecimal(value: int) -> str:
    return hex(value) if value else "0"


def _ipv4(value: int) -> str:
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def _ipv6(value: int) -> str:
    return inet_ntop(AF_INET6, value.to_bytes(16, "big"))


def address_text(address: IPv4Address | IPv6Address) -> str:
    """As ``str`` has it, in a third of the time: of every endpoint it is wanted several times."""
    return _ipv6(int(address)) if address.version == 6 else str(address)


def _mac(value: int) -> str:
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Field:
    """A field that a flow may match or an action may set. Compared by identity: each exists once.

    ``name`` is ovs-ofctl's in a match, ``set_name`` in ``set_field``, ``nxm`` in ``move`` and ``output``.
    """

    name: str
    oxm_class: int
    number: int
    bits: int
    show: Callable[[int], str] = _decimal
    set_name: str = ""
    nxm: str = ""
    bytes: int = field(init=False)
    all_ones: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", (self.bits + 7) // 8)
        object.__setattr__(self, "all_ones", (1 << self.bits) - 1)
        object.__setattr__(self, "set_name", self.set_name or self.name)

    def header(self, masked: bool = False) -> int:
        """The 32-bit OXM header: class, field, has-mask, length of what follows."""
        return self.oxm_class << 16 | self.number << 9 | masked << 8 | self.bytes * (2 if masked else 1)

    def __repr__(self) -> str:
        return self.name


class FieldMatch(NamedTuple):
    """``field`` under ``mask`` (None: exactly) equals ``value``."""

    field: Field
    value: int
    mask: int | None = None

    def __str__(self) -> str:
        if self.field is CT_STATE:
            return f"ct_state={_ct_state(self.value, self.mask or 0)}"
        if self.field is IP_FRAG:
            return f"nw_frag={_FRAGMENTS[self.value, self.mask]}"
        if self.field is XXREG3 and self.mask is None:  # in matches Open vSwitch names the four within
            words = self.value.to_bytes(16, "big")
            return ",".join(
                f"reg{12 + n}={_hexadecimal(int.from_bytes(words[4 * n : 4 * n + 4]))}" for n in range(4)
            )
        if self.mask is None:
            return f"{self.field.name}={self.field.show(self.value)}"
        if self.field.show in (_ipv4, _ipv6):
            return f"{self.field.name}={self.field.show(self.value)}/{self.mask.bit_count()}"
        show = _hexadecimal if self.field.show is _decimal else self.field.show
        return f"{self.field.name}={show(self.value)}/{show(self.mask)}"


class Part(NamedTuple):
    """Some bits of a register or of ct_mark, under the name of what they mean."""

    field: Field
    low: int
    bits: int
    name: str
    why: str

    @property
    def mask(self) -> int:
        return ((1 << self.bits) - 1) << self.low

    def __call__(self, value: int = 1) -> FieldMatch:
        """A match on (or, in ``SetField``, a write of) these bits only."""
        if self.bits == self.field.bits:
            return FieldMatch(self.field, value)
        return FieldMatch(self.field, value << self.low, self.mask)

    def __str__(self) -> str:
        if self.bits == self.field.bits:
            return f"{self.field.nxm}[]"
        if self.bits == 1:
            return f"{self.field.nxm}[{self.low}]"
        return f"{self.field.nxm}[{self.low}..{self.low + self.bits - 1}]"


def _oxm(
    name: str,
    number: int,
    bits: int,
    show: Callable[[int], str] = _decimal,
    *,
    nxm: str = "",
    set_name: str = "",
) -> Field:
    return Field(
        name=name, oxm_class=OXM_BASIC, number=number, bits=bits, show=show, nxm=nxm, set_name=set_name
    )


def _l4(protocol: str, number: int) -> tuple[Field, Field]:
    """Source and destination port of a protocol; matches write them alike for all protocols."""
    source = _oxm("tp_src", number, 16, set_name=f"{protocol}_src")
    nxm = "" if protocol == "sctp" else f"NXM_OF_{protocol.upper()}_DST"
    return source, _oxm("tp_dst", number + 1, 16, set_name=f"{protocol}_dst", nxm=nxm or "OXM_OF_SCTP_DST")


def _nxm1(name: str, number: int, bits: int, show: Callable[[int], str] = _hexadecimal) -> Field:
    return Field(
        name=name, oxm_class=NXM_1, number=number, bits=bits, show=show, nxm=f"NXM_NX_{name.upper()}"
    )


CT_STATE = _nxm1("ct_state", 105, 32)
CT_ZONE = _nxm1("ct_zone", 106, 16, _decimal)
CT_MARK = _nxm1("ct_mark", 107, 32)
REG0, REG1, REG2, REG3, REG4, REG5 = (_nxm1(f"reg{n}", n, 32) for n in range(6))
XXREG3 = _nxm1("xxreg3", 114, 128)
IN_PORT = _oxm("in_port", 0, 32)
WRITABLE_IN_PORT = Field(name="in_port", oxm_class=NXM_0, number=0, bits=16, nxm="NXM_OF_IN_PORT")
"""The same field for set_field: Open vSwitch lets only the old 16-bit form be written."""
ETH_SRC = _oxm("dl_src", 4, 48, _mac, nxm="NXM_OF_ETH_SRC", set_name="eth_src")
ETH_DST = _oxm("dl_dst", 3, 48, _mac, nxm="NXM_OF_ETH_DST", set_name="eth_dst")
ETH_TYPE = _oxm("dl_type", 5, 16, _hexadecimal)
ARP_SPA = _oxm("arp_spa", 22, 32, _ipv4, nxm="NXM_OF_ARP_SPA")
ARP_TPA = _oxm("arp_tpa", 23, 32, _ipv4, nxm="NXM_OF_ARP_TPA")
IPV4_SRC = _oxm("nw_src", 11, 32, _ipv4, nxm="NXM_OF_IP_SRC", set_name="ip_src")
IPV4_DST = _oxm("nw_dst", 12, 32, _ipv4, nxm="NXM_OF_IP_DST", set_name="ip_dst")
IPV6_SRC = _oxm("ipv6_src", 26, 128, _ipv6, nxm="NXM_NX_IPV6_SRC")
IPV6_DST = _oxm("ipv6_dst", 27, 128, _ipv6, nxm="NXM_NX_IPV6_DST")
IP_PROTO = _oxm("nw_proto", 10, 8)
ARP_OP = _oxm("arp_op", 21, 16, nxm="NXM_OF_ARP_OP")
ARP_SHA = _oxm("arp_sha", 24, 48, _mac, nxm="NXM_NX_ARP_SHA")
ARP_THA = _oxm("arp_tha", 25, 48, _mac, nxm="NXM_NX_ARP_THA")
IP_FRAG = _nxm1("nw_frag", 26, 8)
ICMP_TYPE = _oxm("icmp_type", 19, 8)
ICMPV6_TYPE = _oxm("icmp_type", 29, 8, set_name="icmpv6_type")
ND_TARGET = _oxm("nd_target", 31, 128, _ipv6)
ND_TLL = _oxm("nd_tll", 33, 48, _mac)
ND_RESERVED = Field(
    name="nd_reserved", oxm_class=ERICOXM, number=1, bits=32, nxm="ERICOXM_OF_ICMPV6_ND_RESERVED"
)
"""The first word of a neighbour message: for an advertisement its flags."""
ND_OPTIONS_TYPE = Field(
    name="nd_options_type",
    oxm_class=ERICOXM,
    number=2,
    bits=8,
    nxm="ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE",
)
CT_NW_PROTO = _nxm1("ct_nw_proto", 119, 8, _decimal)
CT_NW_SRC, CT_NW_DST = _nxm1("ct_nw_src", 120, 32, _ipv4), _nxm1("ct_nw_dst", 121, 32, _ipv4)
CT_IPV6_SRC, CT_IPV6_DST = _nxm1("ct_ipv6_src", 122, 128, _ipv6), _nxm1("ct_ipv6_dst", 123, 128, _ipv6)
CT_TP_SRC, CT_TP_DST = _nxm1("ct_tp_src", 124, 16, _decimal), _nxm1("ct_tp_dst", 125, 16, _decimal)
"""Of a connection's first packet, before any translation: the same for both ways."""
TCP_SRC, TCP_DST = _l4("tcp", 13)
UDP_SRC, UDP_DST = _l4("udp", 15)
SCTP_SRC, SCTP_DST = _l4("sctp", 17)

ORDER = {
    field: place
    for place, field in enumerate(
        (
            CT_STATE,
            CT_ZONE,
            CT_MARK,
            CT_NW_SRC,
            CT_NW_DST,
            CT_IPV6_SRC,
            CT_IPV6_DST,
            CT_NW_PROTO,
            CT_TP_SRC,
            CT_TP_DST,
            ETH_TYPE,
            IP_PROTO,
            REG0,
            REG1,
            REG3,
            REG4,
            REG5,
            XXREG3,
            IN_PORT,
            ETH_SRC,
            ETH_DST,
            ARP_SPA,
            ARP_TPA,
            IPV4_SRC,
            IPV4_DST,
            IPV6_SRC,
            IPV6_DST,
            ARP_OP,
            ARP_SHA,
            ARP_THA,
            IP_FRAG,
            ICMP_TYPE,
            ICMPV6_TYPE,
            ND_TARGET,
            TCP_SRC,
            UDP_SRC,
            SCTP_SRC,
            TCP_DST,
            UDP_DST,
            SCTP_DST,
        )
    )
}
"""Every field a match may hold, in the order of ovs-ofctl's canonical text."""

CT_BITS = {
    "new": 0x01,
    "est": 0x02,
    "rel": 0x04,
    "rpl": 0x08,
    "inv": 0x10,
    "trk": 0x20,
    "snat": 0x40,
    "dnat": 0x80,
}


FRAGMENT, FIRST_FRAGMENT, LATER_FRAGMENT = (
    FieldMatch(IP_FRAG, value, mask) for value, mask in ((1, 1), (1, 3), (2, 2))
)
"""Any fragment; the one that begins with the ports; one that has none."""
_FRAGMENTS: dict[tuple[int, int | None], str] = {(1, 1): "yes", (1, 3): "first", (2, 2): "later"}


def ct_state(text: str) -> FieldMatch:
    """``+new-rpl+trk`` as a match."""
    value = mask = 0
    for sign, name in re.findall(r"([+-])(\w+)", text):
        mask |= CT_BITS[name]
        value |= CT_BITS[name] if sign == "+" else 0
    return FieldMatch(CT_STATE, value, mask)


def _ct_state(value: int, mask: int) -> str:
    return "".join(("+" if value & bit else "-") + name for name, bit in CT_BITS.items() if mask & bit)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Family:
    """An address family: which fields carry what, and whose addresses are whose. Flow builders take one as
    a parameter (with their ``Node``)."""

    name: str
    eth_type: int
    word: str
    src: Field
    dst: Field
    icmp: int
    icmp_type: Field
    unreachable: int
    words: dict[int, str]
    address: type[IPv4Address] | type[IPv6Address]
    ranges: Ranges

    def __str__(self) -> str:
        return self.name

    @property
    def ip(self) -> FieldMatch:
        return FieldMatch(ETH_TYPE, self.eth_type)


TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
IPV4 = Family(
    name="IPv4",
    eth_type=0x0800,
    word="ip",
    src=IPV4_SRC,
    dst=IPV4_DST,
    icmp=ICMP,
    icmp_type=ICMP_TYPE,
    unreachable=3,
    words={TCP: "tcp", UDP: "udp", ICMP: "icmp", SCTP: "sctp"},
    address=IPv4Address,
    ranges=RANGES["IPv4"],
)
IPV6 = Family(
    name="IPv6",
    eth_type=0x86DD,
    word="ipv6",
    src=IPV6_SRC,
    dst=IPV6_DST,
    icmp=ICMPV6,
    icmp_type=ICMPV6_TYPE,
    unreachable=1,
    words={TCP: "tcp6", UDP: "udp6", ICMPV6: "icmp6", SCTP: "sctp6"},
    address=IPv6Address,
    ranges=RANGES["IPv6"],
)
FAMILIES = {family.eth_type: family for family in (IPV4, IPV6)}
"""By Ethernet type; the primary one first."""
ARP = FieldMatch(ETH_TYPE, 0x0806)

PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
SRC_PORT = {TCP: TCP_SRC, UDP: UDP_SRC, SCTP: SCTP_SRC}
DST_PORT = {TCP: TCP_DST, UDP: UDP_DST, SCTP: SCTP_DST}


@cache
def proto(number: int) -> FieldMatch:
    return FieldMatch(IP_PROTO, number)


def mac(text: str) -> int:
    """``0a:58:0a:f4:01:05`` as an integer."""
    return int(text.replace(":", ""), 16)
