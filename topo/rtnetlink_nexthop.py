"""rtnetlink's requests for ECMP with a memory: nexthops, resilient groups of them, routes to a group.

Encoding only, beside ``topo.rtnetlink``, whose Requests these are; which groups there are is
``topo.cloud``'s matter. Layouts: linux/nexthop.h; Documentation/networking/nexthop-group-resilient.rst.
A nexthop cannot be made on an interface without carrier, and goes with its interface.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from topo.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RT_TABLE_MAIN,
    RTA_DST,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTNH_F_ONLINK,
    RTPROT_BOOT,
    SCOPE_UNIVERSE,
    Address,
    Prefix,
    Request,
    attribute,
    family_of,
)

RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
NHA_ID, NHA_GROUP, NHA_GROUP_TYPE, NHA_OIF, NHA_GATEWAY, NHA_RES_GROUP = 1, 2, 3, 5, 6, 12
NHA_RES_GROUP_BUCKETS, NHA_RES_GROUP_IDLE_TIMER, NHA_RES_GROUP_UNBALANCED_TIMER = 1, 2, 3
NEXTHOP_GRP_TYPE_RES = 1
NLA_F_NESTED = 0x8000
RTA_NH_ID, RTN_UNICAST, RTN_UNREACHABLE = 30, 1, 7
_EVERYWHERE: dict[int, Prefix] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_TICKS = 100
"""Timers are in USER_HZ."""

_NHMSG = struct.Struct("=BBBxI")  # family, scope, protocol, flags
_MEMBER = struct.Struct("=IBxxx")  # nexthop id, weight - 1
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags


def nexthop(number: int, index: int, via: Address) -> Request:
    """A way out of a link, towards ``via``, which is on that link by decree."""
    body = _NHMSG.pack(family_of(via), SCOPE_UNIVERSE, RTPROT_BOOT, RTNH_F_ONLINK)
    body += attribute(NHA_ID, struct.pack("=I", number)) + attribute(NHA_OIF, struct.pack("=I", index))
    body += attribute(NHA_GATEWAY, via.packed)
    return Request(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, body, f"nexthop {number}")


def resilient_group(number: int, members: Sequence[int], *, buckets: int, idle: float) -> Request:
    """A group of nexthops with equal shares of ``buckets`` hash buckets.

    When a member leaves only its buckets move; one that comes gets buckets that nobody used for ``idle``
    seconds. The number of buckets cannot be changed later.
    """
    shares = b"".join(_MEMBER.pack(member, 0) for member in members)
    resilience = attribute(NHA_RES_GROUP_BUCKETS, struct.pack("=H", buckets))
    resilience += attribute(NHA_RES_GROUP_IDLE_TIMER, struct.pack("=I", round(idle * _TICKS)))
    resilience += attribute(NHA_RES_GROUP_UNBALANCED_TIMER, struct.pack("=I", 0))
    body = _NHMSG.pack(socket.AF_UNSPEC, SCOPE_UNIVERSE, RTPROT_BOOT, 0)
    body += attribute(NHA_ID, struct.pack("=I", number)) + attribute(NHA_GROUP, shares)
    body += attribute(NHA_GROUP_TYPE, struct.pack("=H", NEXTHOP_GRP_TYPE_RES))
    body += attribute(NHA_RES_GROUP | NLA_F_NESTED, resilience)
    return Request(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, body, f"nexthop group {number}")


def delete_nexthop(number: int) -> Request:
    """A nexthop or a group; the routes that lead there go too."""
    body = _NHMSG.pack(socket.AF_UNSPEC, 0, 0, 0) + attribute(NHA_ID, struct.pack("=I", number))
    return Request(RTM_DELNEXTHOP, 0, body, f"delete nexthop {number}")


def route_to_group(to: Prefix, number: int) -> Request:
    body = _route(to, RTN_UNICAST) + attribute(RTA_NH_ID, struct.pack("=I", number))
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"route {to} to group {number}")


def default_route(table: int, number: int, version: int = 4) -> Request:
    """Whatever asks this table (of 8 bits) goes by that nexthop; ``version`` is IP's."""
    body = _route(_EVERYWHERE[version], RTN_UNICAST, table) + attribute(RTA_NH_ID, struct.pack("=I", number))
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"default route of table {table}")


def unreachable(to: Prefix) -> Request:
    """Who asks for it is told by ICMP: host unreachable."""
    return Request(
        RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(to, RTN_UNREACHABLE), f"route {to} unreachable"
    )


def delete_route(to: Prefix) -> Request:
    """Whatever kind of route it is."""
    return Request(RTM_DELROUTE, 0, _route(to, 0), f"delete route {to}")


def _route(to: Prefix, kind: int, table: int = RT_TABLE_MAIN) -> bytes:
    head = _ROUTE.pack(family_of(to), to.prefixlen, 0, 0, table, RTPROT_BOOT, SCOPE_UNIVERSE, kind, 0)
    return head + (attribute(RTA_DST, to.network_address.packed) if to.prefixlen else b"")
