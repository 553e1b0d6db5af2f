"""The second half of a node's own flows: where packets go, whose address they carry, and out.

Nothing about Services or pods; the first half, and the sum of both, is ``flows_node``.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.api import wiring
from controller.kubeproxy.actions import Action, Ct, DecTtl, GoTo, Nat, OutputTo, SetField
from controller.kubeproxy.fields import (
    ETH_DST,
    ETH_SRC,
    FRAGMENT,
    SRC_PORT,
    WRITABLE_IN_PORT,
    Field,
    FieldMatch,
    ct_state,
    mac,
    proto,
)
from controller.kubeproxy.flow import Flow
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    EP_NONE,
    EP_STATE,
    FROM_NODE,
    FROM_POD,
    FROM_UPLINK,
    HIGH,
    HIGHEST,
    L3_FORWARDING,
    LOW,
    MARK_HAIRPIN,
    MARK_SERVICE,
    MARK_SNAT,
    MISS,
    NORMAL,
    OUT_PORT,
    OUTPUT,
    SNAT,
    SNAT_MARK,
    SOURCE,
)

GATEWAY_MAC = SetField(FieldMatch(ETH_SRC, mac(wiring.GATEWAY_MAC)))


def network(field: Field, net: object) -> FieldMatch:
    """A match on every address of an ipaddress network."""
    return FieldMatch(field, int(net.network_address), int(net.netmask))  # type: ignore[attr-defined]


def prefixes(ports: range) -> Iterator[tuple[int, int]]:
    """A range of ports as the fewest (value, mask) that cover exactly it."""
    port = ports.start
    while port < ports.stop:
        size = port & -port
        while port + size > ports.stop:
            size //= 2
        yield port, 0xFFFF & ~(size - 1)
        port += size


def flows_of_routing(node: Node) -> list[Flow]:
    """L3Forwarding to Output, for one node."""
    return [flow for step in (_routing, _snat_mark, _snat, _output) for flow in step(node)]


def _routing(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    to_host: tuple[Action, ...] = (
        GATEWAY_MAC,
        SetField(FieldMatch(ETH_DST, node.mac)),
        SetField(OUT_PORT(node.host_port)),
    )
    to_fabric: tuple[Action, ...] = (
        GATEWAY_MAC,
        SetField(FieldMatch(ETH_DST, mac(wiring.FABRIC_MAC))),
        SetField(OUT_PORT(node.uplink_port)),
    )
    yield Flow(
        L3_FORWARDING,
        HIGH,
        (ip, EP_STATE(EP_NONE)),
        (*to_host, GoTo("Output")),
        node.cause,
        "Nobody serves this: handed to the node's kernel unchanged, which refuses it.",
    )
    yield Flow(
        L3_FORWARDING,
        NORMAL,
        (ip, FieldMatch(family.dst, int(node.address))),
        (*to_host, GoTo("SNATMark")),
        node.cause,
        "To the node itself.",
    )
    yield Flow(
        L3_FORWARDING,
        LOW,
        (ip, network(family.dst, node.pod_net)),
        (),
        node.cause,
        "To a pod address of this node that no pod has; sent on, it would come back.",
    )
    yield Flow(
        L3_FORWARDING,
        MISS,
        (ip,),
        (*to_fabric, GoTo("SNATMark")),
        node.cause,
        "Everything else is the fabric's.",
    )


def _snat_mark(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    for mark in (MARK_SNAT, MARK_HAIRPIN):
        yield Flow(
            SNAT_MARK,
            HIGH,
            (ip, ct_state("-rpl+trk"), mark()),
            (GoTo("SNAT"),),
            node.cause,
            f"The connection carries the mark {mark.name}: {mark.why}.",
        )
    new, plain = ct_state("+new+trk"), MARK_SERVICE(0)
    keep = Ct(node.dnat_zone, "Output", commit=True)
    masquerade = Ct(node.dnat_zone, "SNAT", commit=True, exec=(SetField(MARK_SNAT()),))
    for net in (family.ranges.pods, family.ranges.nodes):
        yield Flow(
            SNAT_MARK,
            NORMAL,
            (ip, new, plain, SOURCE(FROM_POD), network(family.dst, net)),
            (keep,),
            node.cause,
            "Inside the cluster a pod keeps its address.",
        )
    yield Flow(
        SNAT_MARK,
        LOW,
        (ip, new, plain, SOURCE(FROM_POD)),
        (masquerade,),
        node.cause,
        "To the outside world a pod goes with its node's address.",
    )
    yield Flow(
        SNAT_MARK,
        LOW,
        (ip, new, plain, SOURCE(FROM_NODE)),
        (masquerade,),
        node.cause,
        "The node's own connection: its port must not meet that of a masqueraded one.",
    )
    yield Flow(
        SNAT_MARK,
        LOW,
        (ip, new, plain, SOURCE(FROM_UPLINK)),
        (keep,),
        node.cause,
        "From outside to a pod or to the node, as it is.",
    )
    yield Flow(SNAT_MARK, MISS, (), (GoTo("Output"),), node.cause, "Needs no other source address.")


def _snat(node: Node) -> Iterator[Flow]:
    ip, new = node.family.ip, ct_state("+new+trk")
    yield Flow(
        SNAT,
        HIGHEST,
        (ip, new, MARK_SNAT(), SOURCE(FROM_NODE)),
        (Ct(node.snat_zone, "Output", commit=True),),
        node.cause,
        "The node's own already has that source: only its port is taken. Translated to the address it has, "
        "Open vSwitch 3.1 would meet its own entry for the replies once the connection expires, and abort.",
    )
    ports = wiring.MASQUERADE_PORTS
    below = Nat("src", node.address, ports.start, ports.stop - 1)
    for number, field in SRC_PORT.items():
        for value, mask in prefixes(range(ports.stop, 1 << 16)):
            yield Flow(
                SNAT,
                HIGH,
                (ip, new, MARK_SNAT(), proto(number), FieldMatch(field, value, mask)),
                (Ct(node.snat_zone, "Output", commit=True, nat=below),),
                node.cause,
                "Its port is one of those the node's own connections have for themselves: it gets another.",
            )
    yield Flow(
        SNAT,
        HIGH,
        (ip, new, MARK_SNAT(), FRAGMENT),
        (Ct(node.snat_zone, "Output", commit=True, nat=below),),
        node.cause,
        "Only the first fragment shows a port, and all must be translated alike: one of ours in any case.",
    )
    for mark, address in ((MARK_SNAT, node.address), (MARK_HAIRPIN, node.family.ranges.hairpin_virtual)):
        yield Flow(
            SNAT,
            NORMAL,
            (ip, new, mark()),
            (Ct(node.snat_zone, "Output", commit=True, nat=Nat("src", address)),),
            node.cause,
            f"From now on this connection has the source {address}.",
        )
    yield Flow(
        SNAT,
        NORMAL,
        (ip, proto(node.family.icmp), ct_state("+rel-rpl+trk")),
        (Ct(node.snat_zone, "Output", commit=True, nat=Nat()),),
        node.cause,
        "An error about an answer, for the endpoint: what it quotes went to the node's address.",
    )
    yield Flow(
        SNAT,
        MISS,
        (ip,),
        (Ct(node.snat_zone, "Output", nat=Nat()),),
        node.cause,
        "As its first packet was translated.",
    )


def _output(node: Node) -> Iterator[Flow]:
    ip = node.family.ip
    send: tuple[Action, ...] = (SetField(FieldMatch(WRITABLE_IN_PORT, 0)), OutputTo(OUT_PORT))
    yield Flow(
        OUTPUT,
        NORMAL,
        (ip, SOURCE(FROM_NODE)),
        send,
        node.cause,
        "The node's own packet: it has not crossed a router yet.",
    )
    yield Flow(
        OUTPUT,
        NORMAL,
        (ip, OUT_PORT(node.host_port)),
        send,
        node.cause,
        "To the node itself: no hop. The ingress port is cleared, else the switch would not send back by it.",
    )
    yield Flow(OUTPUT, LOW, (ip,), (DecTtl(), *send), node.cause, "The node is a router: one hop less.")
