"""A Service from outside the cluster: node ports, external IPs, balancers' addresses, and their policy.

Traffic of the node and its own pods to such an address counts as if it had gone out to a balancer and come
back: it is subject to no policy Local (kube-proxy's short circuit). Which endpoints there are is
``topology``'s question; ClusterIPs and groups are ``flows_service``'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.api import wiring
from controller.kubeproxy.actions import Action, GoTo, SetField
from controller.kubeproxy.fields import DST_PORT, IN_PORT, PROTOCOLS, SRC_PORT, TCP, FieldMatch, proto
from controller.kubeproxy.flow import Cause, Flow
from controller.kubeproxy.flows_routing import network
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    EP_STATE,
    EP_TO_SELECT,
    FENCE,
    FROM_NODE,
    FROM_POD,
    HIGH,
    LOW,
    NEEDS_SNAT,
    NORMAL,
    SERVICE_LB,
    SOURCE,
    SPOOF_GUARD,
    TO_NODE_PORT,
)
from controller.kubeproxy.services import Address, ServicePort

Actions = tuple[Action, ...]
Match = tuple[FieldMatch, ...]

_KEEP, _MASQUERADE = SetField(NEEDS_SNAT(0)), SetField(NEEDS_SNAT())


def is_virtual(address: Address) -> bool:
    """Whether the address is a Service's alone: an external IP may also be a node's, where others listen."""
    return not any(address in ranges.nodes for ranges in wiring.RANGES.values())


def addresses(port: ServicePort) -> list[Address]:
    """Where it is served from outside. A pod's address is not taken away from the pod."""
    return [address for address in port.external_addresses if address not in port.family.ranges.pods]


def flows_of_address(
    port: ServicePort, address: Address, node: Node, refuse: Actions, cause: Cause
) -> list[Flow]:
    """What an external address has once, whatever the ports: the others are refused by the node's kernel."""
    family = port.family
    to, host = FieldMatch(family.dst, int(address)), FieldMatch(IN_PORT, node.host_port)
    return [
        Flow(
            SERVICE_LB,
            LOW,
            (family.ip, to),
            refuse,
            cause,
            "A port that the Service does not serve: refused, as nothing listens there.",
        ),
        Flow(
            SERVICE_LB,
            NORMAL,
            (family.ip, proto(family.icmp), to),
            (),
            cause,
            "A Service's address is no host: it answers no ping.",
        ),
        Flow(
            SPOOF_GUARD,
            HIGH,
            (family.ip, host, FieldMatch(family.src, int(address))),
            (GoTo("L3Forwarding"),),
            cause,
            "The node's kernel refuses what was handed to it: it answers as the address that was asked.",
        ),
    ]


def flows_of_external(
    port: ServicePort, cluster: Actions, local: Actions, refuse: Actions, node: Node, cause: Cause
) -> Iterator[Flow]:
    """The node port and the external addresses. ``cluster`` and ``local``: what to do under that policy."""
    family, number = port.family, PROTOCOLS[port.name.protocol]
    selecting = (family.ip, proto(number), EP_STATE(EP_TO_SELECT))
    if port.node_port:
        match = (*selecting, TO_NODE_PORT(), FieldMatch(DST_PORT[number], port.node_port))
        yield from _by_policy(port, match, "NodePort", cluster, local, refuse, cause)
        if cluster == refuse and number == TCP:
            yield _refused(port, port.node_port, node, cause)
    for address in addresses(port):
        match = (
            *selecting,
            FieldMatch(family.dst, int(address)),
            FieldMatch(DST_PORT[number], port.port),
        )
        if address == node.address and cluster == refuse and number == TCP:
            yield _refused(port, port.port, node, cause)
        if address in port.load_balancer_ips and port.source_ranges:
            for net in port.source_ranges:
                allowed = (*match, network(family.src, net))
                yield from _by_policy(port, allowed, "balancer's address", cluster, local, refuse, cause)
            yield Flow(
                SERVICE_LB, FENCE, match, (), cause, "From none of its loadBalancerSourceRanges: dropped."
            )
        else:
            yield from _by_policy(port, match, "external address", cluster, local, refuse, cause)


def _by_policy(
    port: ServicePort,
    match: Match,
    what: str,
    cluster: Actions,
    local: Actions,
    refuse: Actions,
    cause: Cause,
) -> Iterator[Flow]:
    if cluster == refuse:
        why = f"The Service has no endpoint: its {what} is refused."
        yield Flow(SERVICE_LB, NORMAL, match, refuse, cause, why)
    elif port.external_local:
        for source, snat in ((FROM_POD, _KEEP), (FROM_NODE, _MASQUERADE)):
            yield Flow(
                SERVICE_LB,
                HIGH,
                (*match, SOURCE(source)),
                (snat, *cluster),
                cause,
                f"The {what} for the node and its own pods: as if it had gone out and come back.",
            )
        yield Flow(
            SERVICE_LB,
            NORMAL,
            match,
            (_KEEP, *local) if local else (),
            cause,
            f"The {what} under policy Local: an endpoint of this node, and the client's address is kept."
            if local
            else f"The {what} under policy Local without an endpoint on this node: dropped.",
        )
    else:
        yield Flow(
            SERVICE_LB,
            NORMAL,
            match,
            (_MASQUERADE, *cluster),
            cause,
            f"The {what}, on every node: the group chooses, and the node's address goes along so that "
            "the replies return here.",
        )


def _refused(port: ServicePort, number: int, node: Node, cause: Cause) -> Flow:
    """The kernel's RST from a port it was handed without a tracked connection passes without one, too."""
    match = (
        port.family.ip,
        proto(TCP),
        FieldMatch(IN_PORT, node.host_port),
        FieldMatch(port.family.src, int(node.address)),
        FieldMatch(SRC_PORT[TCP], number),
    )
    why = "The node's kernel refuses a connection to the NodePort, of which conntrack knows nothing."
    return Flow(SPOOF_GUARD, HIGH, match, (GoTo("L3Forwarding"),), cause, why)
