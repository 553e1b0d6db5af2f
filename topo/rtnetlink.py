"""The few rtnetlink requests that lab wires are made of, many in one datagram.

A pod's wires are ten requests; as processes of ip(8) they cost more than the pod. Only encoding and one
exchange with the kernel stand here: which links and routes a lab has is ``topo.wires``' matter.
Layouts: linux/rtnetlink.h, linux/if_link.h, linux/veth.h (man 7 rtnetlink).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 16, 17, 20, 21, 24, 25
RTM_DELNEIGH, RTM_NEWRULE, RTM_DELRULE = 29, 32, 33
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x100, 0x400
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO = 1, 3, 4, 18
IFLA_GROUP, IFLA_NET_NS_FD, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 27, 28, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 2
NDA_DST = 1
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
FRA_DST, FRA_SRC, FRA_PRIORITY, FR_ACT_TO_TBL = 1, 2, 6, 1
RTNH_F_ONLINK = 4
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTPROT_BOOT, RTN_UNICAST, RTN_LOCAL = 254, 255, 3, 1, 2
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254
IFF_UP = 1
NLMSG_ERROR = 2

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags


@dataclass(frozen=True)
class Request:
    """One message without its sequence number; ``what`` is for the error."""

    kind: int
    flags: int
    body: bytes
    what: str


@dataclass(frozen=True, kw_only=True)
class End:
    """One end of a veth pair. ``netns`` is a descriptor of the namespace it goes to, None: this one."""

    name: str
    mac: str
    netns: int | None = None
    index: int = 0
    """The interface's number there; 0 lets the kernel choose (2 in a new namespace)."""


def family_of(value: Address | Prefix) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if value.version == 4 else socket.AF_INET6


def host_prefix(value: Address) -> Prefix:
    """The network that is this one address."""
    return IPv4Network(value) if isinstance(value, IPv4Address) else IPv6Network(value)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def _end(end: End) -> bytes:
    data = attribute(IFLA_IFNAME, end.name.encode() + b"\0")
    data += attribute(IFLA_ADDRESS, bytes.fromhex(end.mac.replace(":", "")))
    data += attribute(IFLA_MTU, struct.pack("=I", 1500))
    data += attribute(IFLA_NUM_TX_QUEUES, struct.pack("=I", 1)) + attribute(
        IFLA_NUM_RX_QUEUES, struct.pack("=I", 1)
    )
    if end.netns is not None:
        data += attribute(IFLA_NET_NS_FD, struct.pack("=i", end.netns))
    return data


def veth(one: End, other: End) -> Request:
    """A new pair, both ends down, each made where it belongs (nothing is moved afterwards).

    Only ``one`` can have an index of its own. Give it one that ``other`` has not: of a device whose number
    is its peer's the kernel thinks that it has none, and takes up to a second to notice that it is up.
    """
    peer = attribute(VETH_INFO_PEER, _IFINFO.pack(0, 0, 0, 0, 0) + _end(other))
    info = attribute(IFLA_INFO_KIND, b"veth\0") + attribute(IFLA_INFO_DATA, peer)
    body = _IFINFO.pack(0, 0, one.index, 0, 0) + _end(one) + attribute(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"link {one.name} to {other.name}")


def link_up(index: int, mac: str | None = None) -> Request:
    """Set a link up, with another MAC when one is given."""
    body = _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP)
    if mac is not None:
        body += attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    return Request(RTM_NEWLINK, 0, body, f"set link {index} up")


def delete_links(indexes: Sequence[int], group: int) -> list[Request]:
    """Delete many at once: one wait of the kernel for its readers instead of one a link.

    ``group`` is a link group nobody else uses in that namespace.
    """
    member = attribute(IFLA_GROUP, struct.pack("=I", group))
    gather = [
        Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + member, f"mark link {index}")
        for index in indexes
    ]
    body = _IFINFO.pack(0, 0, 0, 0, 0) + member
    return [*gather, Request(RTM_DELLINK, 0, body, f"delete links {list(indexes)}")]


def address(index: int, value: Address, *, delete: bool = False) -> Request:
    """One address on a link and no network behind it; in IPv6 not asked for whether another one has it."""
    flags = IFA_F_NODAD if value.version == 6 else 0
    body = _IFADDR.pack(family_of(value), value.max_prefixlen, flags, SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, value.packed) + attribute(IFA_ADDRESS, value.packed)
    if delete:
        return Request(RTM_DELADDR, 0, body, f"delete address {value}")
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, f"address {value}")


def route(
    index: int,
    to: Prefix | None,
    *,
    via: Address | None = None,
    source: Address | None = None,
    delete: bool = False,
) -> Request:
    """A route out of a link; ``to`` None is the default route, ``via`` is on that link by decree."""
    of = to or via
    assert of is not None, "a default route needs a gateway"
    body = _ROUTE.pack(
        family_of(of), to.prefixlen if to else 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT,
        SCOPE_UNIVERSE if via else SCOPE_LINK, RTN_UNICAST, RTNH_F_ONLINK if via else 0,
    )  # fmt: skip
    if to:
        body += attribute(RTA_DST, to.network_address.packed)
    body += attribute(RTA_OIF, struct.pack("=i", index))
    if via:
        body += attribute(RTA_GATEWAY, via.packed)
    if source:
        body += attribute(RTA_PREFSRC, source.packed)
    name = f"route {to or 'default'}"
    if delete:
        return Request(RTM_DELROUTE, 0, body, f"delete {name}")
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, name)


def local_route(index: int, to: Prefix) -> Request:
    """The addresses of ``to`` are the host's own (table local)."""
    body = _ROUTE.pack(
        family_of(to), to.prefixlen, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, SCOPE_HOST, RTN_LOCAL, 0
    )
    body += attribute(RTA_DST, to.network_address.packed) + attribute(RTA_OIF, struct.pack("=i", index))
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"local route {to}")


def rule(
    priority: int,
    table: int,
    *,
    to: Prefix | None = None,
    source: Prefix | None = None,
    delete: bool = False,
) -> Request:
    """A rule of policy routing: which table is asked, for what comes from ``source`` and goes ``to``
    (None: everything; of IPv4, where neither says)."""
    lengths = (net.prefixlen if net else 0 for net in (to, source))
    of = to or source
    family = family_of(of) if of else socket.AF_INET
    body = _ROUTE.pack(family, *lengths, 0, table, 0, 0, FR_ACT_TO_TBL, 0)
    if to:
        body += attribute(FRA_DST, to.network_address.packed)
    if source:
        body += attribute(FRA_SRC, source.network_address.packed)
    body += attribute(FRA_PRIORITY, struct.pack("=I", priority))
    name = f"rule {priority}"
    if delete:
        return Request(RTM_DELRULE, 0, body, f"delete {name}")
    return Request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body, name)


def forget_neighbour(index: int, value: Address) -> Request:
    """Forget what ARP or NDP found out, or is still finding out, about an address on a link."""
    body = _NEIGHBOUR.pack(family_of(value), index, 0, 0, 0) + attribute(NDA_DST, value.packed)
    return Request(RTM_DELNEIGH, 0, body, f"forget neighbour {value}")


class Rtnetlink:
    """A conversation with the namespace in which ``sock`` (AF_NETLINK, NETLINK_ROUTE) was made."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 0

    def run(self, requests: Sequence[Request]) -> None:
        """Do them all, in order; the first that fails raises OSError naming it (later ones ran)."""
        first = self._sequence + 1
        data = bytearray()
        for request in requests:
            self._sequence += 1
            last = NLM_F_ACK if request is requests[-1] else 0
            flags = NLM_F_REQUEST | request.flags | last
            data += (
                _HEADER.pack(16 + len(request.body), request.kind, flags, self._sequence, 0) + request.body
            )
        if not data:
            return
        self._sock.send(data)
        failed: OSError | None = None
        while True:
            answer, offset = self._sock.recv(65536), 0
            while offset < len(answer):
                length, kind, _flags, sequence, _port = _HEADER.unpack_from(answer, offset)
                if kind == NLMSG_ERROR and sequence >= first:
                    code = -struct.unpack_from("=i", answer, offset + 16)[0]
                    if code and failed is None:
                        text = f"{requests[sequence - first].what}: {os.strerror(code)}"
                        failed = OSError(code, text)
                    if sequence == self._sequence:
                        if failed is not None:
                            raise failed
                        return
                offset += (length + 3) & ~3

    def close(self) -> None:
        self._sock.close()
