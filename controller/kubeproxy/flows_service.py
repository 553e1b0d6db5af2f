"""The flows and the groups of one Service port: its addresses to a choice of endpoints.

External addresses and their policy are ``flows_external``'s.
"""

from __future__ import annotations

from controller.kubeproxy.actions import Action, GoTo, SetField, ToGroup
from controller.kubeproxy.fields import (
    DST_PORT,
    PROTOCOLS,
    FieldMatch,
    proto,
)
from controller.kubeproxy.flow import Category, Cause, Flow
from controller.kubeproxy.flows_affinity import flows_of_affinity, remembered
from controller.kubeproxy.flows_external import addresses, flows_of_address, flows_of_external, is_virtual
from controller.kubeproxy.flows_scheduler import flows_of_scheduler
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    EP_NONE,
    EP_STATE,
    EP_TO_SELECT,
    LOW,
    NORMAL,
    SERVICE_GROUP,
    SERVICE_LB,
)
from controller.kubeproxy.services import ServicePort
from controller.kubeproxy.topology import Chosen

REFUSE: tuple[Action, ...] = (SetField(EP_STATE(EP_NONE)), GoTo("L3Forwarding"))


def flows_of_service(port: ServicePort, node: Node) -> list[Flow]:
    """What every Service has once, whatever its ports: other ports of its addresses are refused."""
    family = port.family
    flows = [
        Flow(
            SERVICE_LB,
            LOW,
            (family.ip, FieldMatch(family.dst, int(port.cluster_ip))),
            REFUSE,
            _cause(port),
            "A port that the Service does not serve: refused, as nothing listens there.",
        )
    ]
    for address in filter(is_virtual, addresses(port)):
        flows += flows_of_address(port, address, node, REFUSE, _cause(port))
    return flows


def flows_of_service_port(
    port: ServicePort, chosen: Chosen, groups: tuple[int, int], node: Node
) -> list[Flow]:
    """Each address of the port to the group of its policy; to be refused when nobody serves at all.

    ``groups``: the ids for policy Cluster and Local. Under policy Local without an endpoint here, what
    other nodes' endpoints could serve is dropped, as kube-proxy does.
    """
    family, cause, number = port.family, _cause(port), PROTOCOLS[port.name.protocol]
    none: tuple[Action, ...] = () if chosen.any else REFUSE
    cluster = _to(port, groups[0]) if chosen.cluster else none
    local = _to(port, groups[1]) if chosen.local else none
    match = (
        family.ip,
        proto(number),
        EP_STATE(EP_TO_SELECT),
        FieldMatch(family.dst, int(port.cluster_ip)),
        FieldMatch(DST_PORT[number], port.port),
    )
    actions = local if port.internal_local else cluster
    if not actions:
        why = "Policy Local without an endpoint on this node: dropped."
    elif actions == REFUSE:
        why = "The Service has no endpoint: refused at once, not left to time out."
    elif port.scheduler is not None and port.scheduler.reactive:
        why = f"The first packet to ClusterIP:port: whose turn is it by {port.scheduler.name}?"
    else:
        why = "The first packet to ClusterIP:port has the group choose an endpoint; conntrack keeps it."
    flows = [Flow(SERVICE_LB, NORMAL, match, actions, cause, why)]
    flows += flows_of_external(port, cluster, local, REFUSE, node, cause)
    if port.affinity_seconds:
        flows += [*remembered(flows)]
        for group_id, endpoints in zip(groups, (chosen.cluster, chosen.local), strict=True):
            flows += flows_of_affinity(port, endpoints, group_id, cause)
    return [*flows, *flows_of_scheduler(port, groups, node, cause)]


def _to(port: ServicePort, group_id: int) -> tuple[Action, ...]:
    """To the group, or to who schedules; these, and SessionLearn, must know of which group."""
    scheduled = port.scheduler is not None and port.scheduler.reactive
    to: tuple[Action, ...] = (GoTo("Scheduler"),) if scheduled else (ToGroup(group_id),)
    return (SetField(SERVICE_GROUP(group_id)), *to) if scheduled or port.affinity_seconds else to


def _cause(port: ServicePort) -> Cause:
    return Cause(Category.SERVICE, port.name.namespace, port.name.name)
