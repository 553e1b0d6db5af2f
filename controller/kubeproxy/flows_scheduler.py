"""A Service with a scheduler of IPVS: what its hash looks at, or how its connections come to the kubeproxy.

sh, mh and dh are a group with other fields. For the others ServiceLB leads to Scheduler, where two flows
wait: a lease, which sends packets to the kubeproxy and ends by itself soon after the kubeproxy does, and
below it one for each group, which lets the group choose as without a scheduler. So a Service goes on
without us.

Only what objects cause stands here. The lease, and the flow of each connection that is counted, come from
``dispatch``; who is chosen is ``schedulers``'s question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.kubeproxy.actions import GoTo, Resubmit, ToGroup
from controller.kubeproxy.fields import (
    CT_IPV6_DST,
    CT_NW_DST,
    CT_NW_PROTO,
    CT_TP_DST,
    FIRST_FRAGMENT,
    IPV4,
    PROTOCOLS,
    SRC_PORT,
    Field,
    FieldMatch,
    ct_state,
)
from controller.kubeproxy.flow import Cause, Flow
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import CONNTRACK_STATE, HIGHEST, NORMAL, SCHEDULER, SERVICE_GROUP
from controller.kubeproxy.schedulers import Scheduler
from controller.kubeproxy.services import Address, Endpoint, ServicePort


class Scheduled(NamedTuple):
    """What ``dispatch`` must know of a group whose connections the kubeproxy gives out."""

    scheduler: Scheduler
    endpoints: tuple[Endpoint, ...]
    then: str
    """The table where a packet goes on whose endpoint is chosen."""


def weight_of(endpoint: Endpoint, scheduler: Scheduler | None) -> int:
    """How many buckets it gets: the default weighs too; who does not still leaves out those of weight 0."""
    return endpoint.weight if scheduler is None or scheduler.weighs else min(1, endpoint.weight)


def hashed(port: ServicePort) -> tuple[Field, ...]:
    """The fields that decide for sh, mh and dh; none for all others."""
    number = PROTOCOLS[port.name.protocol]
    fields = {"source": port.family.src, "source port": SRC_PORT[number], "destination": port.family.dst}
    return tuple(fields[word] for word in port.scheduler.fields) if port.scheduler else ()


def flows_of_scheduler(port: ServicePort, groups: Iterable[int], node: Node, cause: Cause) -> Iterator[Flow]:
    """What a Service port has besides when the kubeproxy schedules; ``groups``: their ids, 0 for none."""
    if port.scheduler is None or not port.scheduler.reactive:
        return
    for group_id in filter(None, groups):
        yield Flow(
            SCHEDULER,
            NORMAL,
            (port.family.ip, SERVICE_GROUP(group_id)),
            (ToGroup(group_id),),
            cause,
            "No kubeproxy holds the lease: the group chooses, so that the Service goes on.",
        )
        if port.name.protocol == "UDP":
            yield Flow(
                SCHEDULER,
                HIGHEST,
                (port.family.ip, FIRST_FRAGMENT, SERVICE_GROUP(group_id)),
                (ToGroup(group_id),),
                cause,
                "It opens a connection in fragments: the others wait in the switch, not for us.",
            )
    if not port.scheduler.counts:
        return
    asked = CT_NW_DST if port.family is IPV4 else CT_IPV6_DST
    number = PROTOCOLS[port.name.protocol]
    for address, to in asked_addresses(port, node):
        yield Flow(
            CONNTRACK_STATE,
            NORMAL,
            (
                port.family.ip,
                ct_state("-new-inv+trk"),
                FieldMatch(CT_NW_PROTO, number),
                FieldMatch(asked, int(address)),
                FieldMatch(CT_TP_DST, to),
            ),
            (Resubmit("Connections"), GoTo("L3Forwarding")),
            cause,
            "A known connection of a Service whose scheduler counts: Connections sees that it lives.",
        )


def asked_addresses(port: ServicePort, node: Node) -> list[tuple[Address, int]]:
    """Every address and port by which a connection on this node may have asked for the Service port."""
    asked = [(address, port.port) for address in (port.cluster_ip, *port.external_addresses)]
    if port.node_port:
        virtual = node.family.ranges.node_port_virtual
        asked += [(address, port.node_port) for address in (node.address, virtual)]
    return asked
