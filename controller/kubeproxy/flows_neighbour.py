"""Who has the gateway? Every bridge answers, in both families, by the port the question came from.

ARP and neighbour discovery end here, whatever they say: no message of either goes from one port to
another, so nobody can pass for another, announce a router or redirect. That includes router solicitations
and multicast listener reports: there is one gateway, which every host knows, and no multicast. They are
dropped by name: the kernel's conntrack leaves them untracked, where the userspace one calls them invalid.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from controller.api import wiring
from controller.kubeproxy.actions import Action, GoTo, InPort, Move, Pop, Push, SetField
from controller.kubeproxy.fields import (
    ARP,
    ARP_OP,
    ARP_SHA,
    ARP_SPA,
    ARP_THA,
    ARP_TPA,
    ETH_DST,
    ETH_SRC,
    ICMPV6_TYPE,
    IPV6,
    IPV6_DST,
    IPV6_SRC,
    ND_OPTIONS_TYPE,
    ND_RESERVED,
    ND_TARGET,
    ND_TLL,
    Field,
    FieldMatch,
    Part,
    mac,
    proto,
)
from controller.kubeproxy.flow import Flow
from controller.kubeproxy.flows_routing import GATEWAY_MAC, network
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import ARP_RESPONDER, CLASSIFIER, CONSTANT, HIGH, HIGHEST, NORMAL

SOLICITATION, ADVERTISEMENT = 135, 136
ON_LINK = {
    130: "multicast listener query",
    131: "multicast listener report",
    132: "multicast listener done",
    133: "router solicitation",
    134: "router advertisement",
    SOLICITATION: "neighbour solicitation",
    ADVERTISEMENT: "neighbour advertisement",
    137: "redirect",
    143: "multicast listener report",
}
"""Types of ICMPv6 that concern one link."""
MULTICAST, LINK_LOCAL = IPv6Network("ff00::/8"), IPv6Network("fe80::/10")
TARGET_LINK_ADDRESS = 2
ROUTER_SOLICITED_OVERRIDE = 0xE0000000


def _whole(field: Field) -> Part:
    return Part(field, 0, field.bits, field.name, "")


def _by_stack(field: Field, value: int) -> tuple[Action, ...]:
    """What set_field would do. Above the kernel's datapath Open vSwitch refuses set_field and move of these
    fields, which the kernel's flows do not have. It carries the write out all the same, as it does that of
    the target's address: itself, for each such packet, whatever the datapath."""
    low = Part(CONSTANT.field, 0, field.bits, CONSTANT.name, CONSTANT.why)
    return SetField(CONSTANT(value)), Push(low), Pop(_whole(field))


def flows_of_neighbours(node: Node) -> Iterator[Flow]:
    """ARP or neighbour discovery, by the node's family."""
    return _discovery(node) if node.family is IPV6 else _arp(node)


def _arp(node: Node) -> Iterator[Flow]:
    yield Flow(
        CLASSIFIER,
        HIGH,
        (ARP,),
        (GoTo("ARPResponder"),),
        node.cause,
        "ARP is answered by the bridge itself and goes no further.",
    )
    gateway = int(node.family.ranges.gateway)
    answer: tuple[Action, ...] = (
        Move(_whole(ETH_SRC), _whole(ETH_DST)),
        GATEWAY_MAC,
        SetField(FieldMatch(ARP_OP, 2)),
        Move(_whole(ARP_SHA), _whole(ARP_THA)),
        SetField(FieldMatch(ARP_SHA, mac(wiring.GATEWAY_MAC))),
        Move(_whole(ARP_SPA), _whole(ARP_TPA)),
        SetField(FieldMatch(ARP_SPA, gateway)),
        InPort(),
    )
    yield Flow(
        ARP_RESPONDER,
        NORMAL,
        (ARP, FieldMatch(ARP_OP, 1), FieldMatch(ARP_TPA, gateway)),
        answer,
        node.cause,
        "Who has the gateway? The bridge: every host routes to it.",
    )


def _discovery(node: Node) -> Iterator[Flow]:
    ip, icmp = node.family.ip, proto(node.family.icmp)
    target = FieldMatch(ND_TARGET, int(node.family.ranges.gateway))
    yield Flow(
        CLASSIFIER,
        HIGHEST,
        (ip, icmp, FieldMatch(ICMPV6_TYPE, SOLICITATION), target),
        (
            SetField(FieldMatch(ICMPV6_TYPE, ADVERTISEMENT)),
            *_by_stack(ND_OPTIONS_TYPE, TARGET_LINK_ADDRESS),
            GoTo("ARPResponder"),
        ),
        node.cause,
        "A question for the gateway becomes the answer. The type first: Open vSwitch lets the target's "
        "address be written only where an advertisement is matched.",
    )
    yield Flow(
        ARP_RESPONDER,
        NORMAL,
        (ip, icmp, FieldMatch(ICMPV6_TYPE, ADVERTISEMENT), target),
        (
            Move(_whole(ETH_SRC), _whole(ETH_DST)),
            GATEWAY_MAC,
            Move(_whole(IPV6_SRC), _whole(IPV6_DST)),
            SetField(FieldMatch(IPV6_SRC, target.value)),
            SetField(FieldMatch(ND_TLL, mac(wiring.GATEWAY_MAC))),
            *_by_stack(ND_RESERVED, ROUTER_SOLICITED_OVERRIDE),
            InPort(),
        ),
        node.cause,
        "Who has the gateway? The bridge: every host routes to it.",
    )
    for number, name in ON_LINK.items():
        yield Flow(
            CLASSIFIER,
            HIGH,
            (ip, icmp, FieldMatch(ICMPV6_TYPE, number)),
            (),
            node.cause,
            f"A {name} goes no further than its own link.",
        )
    for field, net in ((IPV6_DST, MULTICAST), (IPV6_DST, LINK_LOCAL), (IPV6_SRC, LINK_LOCAL)):
        yield Flow(
            CLASSIFIER,
            HIGH,
            (ip, network(field, net)),
            (),
            node.cause,
            "Nothing that belongs to one link is routed: multicast and link-local addresses.",
        )
