"""The flows and the groups of one Service port: its addresses to a choice of endpoints.

External addresses and their policy are ``flows_external``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from controller.kubeproxy.actions import Action, GoTo, Resubmit, SetField, ToGroup
from controller.kubeproxy.balance import by_weight, shares
from controller.kubeproxy.fields import (
    DST_PORT,
    IP_PROTO,
    PROTOCOLS,
    SRC_PORT,
    Family,
    Field,
    FieldMatch,
    proto,
)
from controller.kubeproxy.flow import Bucket, Category, Cause, Flow, Group, hash_bits
from controller.kubeproxy.flows_affinity import flows_of_affinity, remembered
from controller.kubeproxy.flows_endpoint import union
from controller.kubeproxy.flows_external import addresses, flows_of_address, flows_of_external, is_virtual
from controller.kubeproxy.flows_scheduler import flows_of_scheduler, hashed, weight_of
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    EP_NONE,
    EP_STATE,
    EP_TO_SELECT,
    LOW,
    NORMAL,
    SERVICE_GROUP,
    SERVICE_LB,
    endpoint_ip,
)
from controller.kubeproxy.services import Address, Endpoint, ServicePort
from controller.kubeproxy.topology import Chosen

REFUSE: tuple[Action, ...] = (SetField(EP_STATE(EP_NONE)), GoTo("L3Forwarding"))
_MAX_BUCKET_ID = 0xFFFFFF00


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


def group_of(
    port: ServicePort, endpoints: Sequence[Endpoint], group_id: int, *, local: bool = False
) -> Group:
    """One select group for the Service port: buckets as ``balance`` says, in the endpoints' order."""
    # With affinity each new connection must ask (what the switch has just learned is in no cached flow yet).
    weights = tuple(weight_of(endpoint, port.scheduler) for endpoint in endpoints)
    fields = hashed(port)
    if fields or port.affinity_seconds or any(weight != 1 for weight in weights):
        method, buckets_of = by_weight(weights)
    else:
        method, buckets_of = shares(len(endpoints))
    then = after_choice(port)
    if method == "hash" and not fields:
        fields = _hash_fields(port.family, PROTOCOLS[port.name.protocol])
    how = f"{method}({','.join(field.set_name for field in fields)})"
    buckets: list[Bucket] = []
    taken: set[int] = set()
    for index, weight, turn in buckets_of:
        endpoint = endpoints[index]
        bucket = _bucket(endpoint.address, endpoint.port, weight, how, port.family, then, turn)
        if bucket.bucket_id in taken:
            bucket = Bucket(_free(bucket.bucket_id, taken), bucket.weight, bucket.actions)
        taken.add(bucket.bucket_id)
        buckets.append(bucket)
    return Group(group_id, method, fields, tuple(buckets), _cause(port), local)


def after_choice(port: ServicePort) -> str:
    """The table where a packet goes on whose endpoint is chosen."""
    return "SessionLearn" if port.affinity_seconds else "EndpointDNAT"


def _free(bucket_id: int, taken: set[int]) -> int:
    while bucket_id in taken:
        bucket_id = (bucket_id + 1) % _MAX_BUCKET_ID
    return bucket_id


@lru_cache(maxsize=1 << 18)
def _bucket(
    address: Address, port: int, weight: int, how: str, family: Family, then: str, turn: int = 0
) -> Bucket:
    """The bucket that chooses this endpoint. Its id tells all of it: ids are what is read back of a group.

    ``turn``: which of several like it, when an endpoint weighs more than another.
    """
    actions: tuple[Action, ...] = (
        SetField(endpoint_ip(family)(int(address))),
        SetField(union(port)),
        Resubmit(then),
    )
    text = f"{how},weight:{weight},actions={','.join(map(str, actions))}" + f"#{turn}" * bool(turn)
    return Bucket(hash_bits(text, 32) % _MAX_BUCKET_ID, weight, actions)


def _hash_fields(family: Family, number: int) -> tuple[Field, ...]:
    return family.src, family.dst, IP_PROTO, SRC_PORT[number], DST_PORT[number]


def _cause(port: ServicePort) -> Cause:
    return Cause(Category.SERVICE, port.name.namespace, port.name.name)
