"""The flows every node has, whatever runs on it: who may speak, conntrack, routing to host and fabric.

Nothing about Services or pods; those flows are their objects' own.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.api import wiring
from controller.kubeproxy.actions import Ct, GoTo, Nat, Resubmit, SetField
from controller.kubeproxy.fields import (
    IN_PORT,
    UDP,
    UDP_DST,
    FieldMatch,
    ct_state,
    proto,
)
from controller.kubeproxy.flow import Flow
from controller.kubeproxy.flows_fragments import flows_of_fragments
from controller.kubeproxy.flows_neighbour import flows_of_neighbours
from controller.kubeproxy.flows_routing import flows_of_routing, network, prefixes
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    CLASSIFIER,
    CONNTRACK_STATE,
    CONNTRACK_ZONE,
    EP_NONE,
    EP_STATE,
    EP_TO_SELECT,
    FROM_NODE,
    FROM_UPLINK,
    HIGH,
    LAST,
    LOW,
    MARK_SERVICE,
    MISS,
    NEEDS_SNAT,
    NODE_PORT_MARK,
    NORMAL,
    SERVICE_LB,
    SOURCE,
    SPOOF_GUARD,
    TO_NODE_PORT,
    UN_SNAT,
)


def flows_of_node(node: Node) -> list[Flow]:
    """Everything a node has by itself: the steps below and those of ``flows_routing``."""
    steps = (_classifier, flows_of_neighbours, _spoof_guard, _conntrack, _node_port_mark, _service_lb)
    flows = [flow for step in steps for flow in step(node)]
    return [*flows, *flows_of_fragments(node), *flows_of_routing(node)]


def _classifier(node: Node) -> Iterator[Flow]:
    ip = node.family.ip
    yield Flow(
        CLASSIFIER,
        NORMAL,
        (ip, FieldMatch(IN_PORT, node.host_port)),
        (SetField(SOURCE(FROM_NODE)), GoTo("SpoofGuard")),
        node.cause,
        "This port leads to the node's own network namespace.",
    )
    yield Flow(
        CLASSIFIER,
        NORMAL,
        (ip, FieldMatch(IN_PORT, node.uplink_port)),
        (SetField(SOURCE(FROM_UPLINK)), GoTo("SpoofGuard")),
        node.cause,
        "This port leads to the fabric: other nodes and the outside world.",
    )


def _spoof_guard(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    host = FieldMatch(IN_PORT, node.host_port)
    yield Flow(
        SPOOF_GUARD,
        NORMAL,
        (ip, host, FieldMatch(family.src, int(node.address))),
        (GoTo("UnSNAT"),),
        node.cause,
        "The node speaks with its own address only.",
    )
    for source in (
        network(family.src, family.ranges.services),
        FieldMatch(family.src, int(family.ranges.node_port_virtual)),
    ):
        yield Flow(
            SPOOF_GUARD,
            HIGH,
            (ip, host, source),
            (GoTo("L3Forwarding"),),
            node.cause,
            "The node's kernel refuses what was handed to it: it answers as the address that was asked, "
            "and no connection was tracked.",
        )
    yield Flow(
        SPOOF_GUARD,
        HIGH,
        (ip, FieldMatch(IN_PORT, node.uplink_port), FieldMatch(family.src, int(node.address))),
        (),
        node.cause,
        "This node's own address cannot come from outside.",
    )
    yield Flow(
        SPOOF_GUARD,
        NORMAL,
        (ip, FieldMatch(IN_PORT, node.uplink_port)),
        (GoTo("UnSNAT"),),
        node.cause,
        "The fabric routes for everyone: any source may come from there.",
    )


def _conntrack(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    un_snat = Ct(node.snat_zone, "ConntrackZone", nat=Nat())
    yield Flow(
        UN_SNAT,
        NORMAL,
        (ip, FieldMatch(family.dst, int(node.address))),
        (un_snat,),
        node.cause,
        "To the node's address: perhaps a reply to a connection that left masqueraded.",
    )
    yield Flow(
        UN_SNAT,
        NORMAL,
        (ip, FieldMatch(family.dst, int(family.ranges.hairpin_virtual))),
        (un_snat,),
        node.cause,
        "The reply of a connection that returned to where it came from.",
    )
    yield Flow(UN_SNAT, MISS, (), (GoTo("ConntrackZone"),), node.cause, "Nothing to undo.")
    yield Flow(
        CONNTRACK_ZONE,
        NORMAL,
        (ip,),
        (Ct(node.dnat_zone, "ConntrackState", nat=Nat()),),
        node.cause,
        "Which connection is it of? Translated ones are translated here, replies back.",
    )
    yield Flow(
        CONNTRACK_STATE,
        HIGH,
        (
            ip,
            proto(family.icmp),
            FieldMatch(family.icmp_type, family.unreachable),
            ct_state("+inv+trk"),
            SOURCE(FROM_NODE),
        ),
        (GoTo("L3Forwarding"),),
        node.cause,
        "The node refuses a datagram to a NodePort without endpoints, of which conntrack knows nothing.",
    )
    yield Flow(
        CONNTRACK_STATE,
        NORMAL,
        (ip, ct_state("+inv+trk")),
        (),
        node.cause,
        "Not part of any connection as it should be; let through, it would reset a healthy one.",
    )
    yield Flow(
        CONNTRACK_STATE,
        NORMAL,
        (ip, proto(family.icmp), ct_state("+rel-rpl+trk-dnat"), MARK_SERVICE()),
        (Ct(node.dnat_zone, "L3Forwarding", commit=True, nat=Nat()),),
        node.cause,
        "An error about an answer, for the endpoint: a kernel's conntrack translates it with a commit only.",
    )
    yield Flow(
        CONNTRACK_STATE,
        LOW,
        (ip, ct_state("-new+trk")),
        (GoTo("L3Forwarding"),),
        node.cause,
        "A known connection: its choice was made by its first packet.",
    )
    yield Flow(CONNTRACK_STATE, MISS, (), (GoTo("NodePortMark"),), node.cause, "A new connection.")


def _node_port_mark(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    # Resubmitted, not sent on to: a flow that was learned can write registers, but leads nowhere.
    go = (SetField(EP_STATE(EP_TO_SELECT)), Resubmit("SessionAffinity"), GoTo("ServiceLB"))
    yield Flow(
        NODE_PORT_MARK,
        NORMAL,
        (ip, FieldMatch(family.dst, int(node.address))),
        (SetField(TO_NODE_PORT()), *go),
        node.cause,
        "To this node's address: NodePorts apply.",
    )
    yield Flow(
        NODE_PORT_MARK,
        NORMAL,
        (ip, FieldMatch(family.dst, int(family.ranges.node_port_virtual))),
        (SetField(TO_NODE_PORT()), SetField(NEEDS_SNAT()), *go),
        node.cause,
        "The node asks for its own NodePort, by its address or as localhost; nft sent it here.",
    )
    yield Flow(
        NODE_PORT_MARK,
        LOW,
        (ip, SOURCE(FROM_NODE)),
        (SetField(NEEDS_SNAT()), *go),
        node.cause,
        "The node's own connections share its address with masqueraded ones: one zone gives out the ports.",
    )
    yield Flow(
        NODE_PORT_MARK,
        LOW,
        (ip, SOURCE(FROM_UPLINK)),
        (SetField(NEEDS_SNAT()), *go),
        node.cause,
        "From outside to a VIP (someone has routed it here): replies must come back this way.",
    )
    yield Flow(NODE_PORT_MARK, MISS, (), go, node.cause, "From a pod, not to this node.")


def _service_lb(node: Node) -> Iterator[Flow]:
    family, ip = node.family, node.family.ip
    yield Flow(
        SERVICE_LB,
        LOW,
        (ip, FieldMatch(family.dst, int(family.ranges.node_port_virtual))),
        (SetField(EP_STATE(EP_NONE)), GoTo("L3Forwarding")),
        node.cause,
        "A port of this node that no Service has: refused.",
    )
    yield Flow(
        SERVICE_LB,
        NORMAL,
        (ip, proto(family.icmp), network(family.dst, family.ranges.services)),
        (),
        node.cause,
        "A ClusterIP is no host: it answers no ping, as with kube-proxy's iptables mode.",
    )
    yield Flow(
        SERVICE_LB,
        LAST,
        (ip, network(family.dst, family.ranges.services)),
        (),
        node.cause,
        "A ClusterIP that no Service has: dropped before it is tracked, as in kube-proxy's nftables mode, or "
        "a client that keeps its port would never reach a Service that gets the address later.",
    )
    yield Flow(
        SERVICE_LB,
        LAST,
        (ip, SOURCE(FROM_UPLINK), network(family.dst, family.ranges.load_balancers)),
        (),
        node.cause,
        "A balancer's address that no Service has any more: sent on, it would come back.",
    )
    for value, mask in prefixes(wiring.NODE_PORTS):
        yield Flow(
            SERVICE_LB,
            LOW,
            (ip, proto(UDP), TO_NODE_PORT(), FieldMatch(UDP_DST, value, mask)),
            (SetField(EP_STATE(EP_NONE)), GoTo("L3Forwarding")),
            node.cause,
            "A NodePort that no Service has: the node refuses; untracked, so that it works once one has it.",
        )
    yield Flow(SERVICE_LB, MISS, (), (GoTo("L3Forwarding"),), node.cause, "Not to a Service.")
