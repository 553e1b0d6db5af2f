"""The flows and the group of one Service port: ClusterIP and NodePort to a choice of endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from controller.kubeproxy.actions import Action, GoTo, Resubmit, SetField, ToGroup
from controller.kubeproxy.balance import shares
from controller.kubeproxy.fields import (
    DST_PORT,
    IN_PORT,
    IP_PROTO,
    PROTOCOLS,
    SRC_PORT,
    TCP,
    Family,
    Field,
    FieldMatch,
    proto,
)
from controller.kubeproxy.flow import Bucket, Category, Cause, Flow, Group, hash_bits
from controller.kubeproxy.flows_endpoint import union
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    EP_NONE,
    EP_STATE,
    EP_TO_SELECT,
    HIGH,
    LOW,
    NEEDS_SNAT,
    NORMAL,
    SERVICE_LB,
    SPOOF_GUARD,
    TO_NODE_PORT,
    endpoint_ip,
)
from controller.kubeproxy.services import Address, Endpoint, ServicePort

REFUSE: tuple[Action, ...] = (SetField(EP_STATE(EP_NONE)), GoTo("L3Forwarding"))
_MAX_BUCKET_ID = 0xFFFFFF00


def flows_of_service(port: ServicePort) -> list[Flow]:
    """What every Service with a ClusterIP has once, whatever its ports: other ports of it are refused."""
    family = port.family
    return [
        Flow(
            SERVICE_LB,
            LOW,
            (family.ip, FieldMatch(family.dst, int(port.cluster_ip))),
            REFUSE,
            _cause(port),
            "A port that the Service does not serve: refused, as nothing listens there.",
        )
    ]


def flows_of_service_port(
    port: ServicePort, endpoints: Sequence[Endpoint], group_id: int, node: Node
) -> list[Flow]:
    """ClusterIP:port and nodeIP:nodePort, to the group or, without endpoints, to be refused."""
    family, cause, number = port.family, _cause(port), PROTOCOLS[port.name.protocol]
    l4 = (family.ip, proto(number))
    cluster_ip = FieldMatch(family.dst, int(port.cluster_ip))
    select: tuple[Action, ...] = (ToGroup(group_id),) if endpoints else REFUSE
    flows = [
        Flow(
            SERVICE_LB,
            NORMAL,
            (*l4, EP_STATE(EP_TO_SELECT), cluster_ip, FieldMatch(DST_PORT[number], port.port)),
            select,
            cause,
            "The first packet to ClusterIP:port has the group choose an endpoint; conntrack keeps it."
            if endpoints
            else "The Service has no endpoint: refused at once, not left to time out.",
        )
    ]
    if port.node_port:
        match = (*l4, EP_STATE(EP_TO_SELECT), TO_NODE_PORT(), FieldMatch(DST_PORT[number], port.node_port))
        actions = (SetField(NEEDS_SNAT()), *select) if endpoints else REFUSE
        flows.append(
            Flow(
                SERVICE_LB,
                NORMAL,
                match,
                actions,
                cause,
                "The NodePort, on every node: the group chooses, and the node's address goes along so that "
                "the replies return here."
                if endpoints
                else "The Service has no endpoint: its NodePort is refused.",
            )
        )
        if not endpoints and number == TCP:
            flows.append(_refused_node_port(port, node, number))
    return flows


def _refused_node_port(port: ServicePort, node: Node, number: int) -> Flow:
    """The kernel's RST from a NodePort it was handed without a tracked connection passes without one, too."""
    family = port.family
    match = (
        family.ip,
        proto(number),
        FieldMatch(IN_PORT, node.host_port),
        FieldMatch(family.src, int(node.address)),
        FieldMatch(SRC_PORT[number], port.node_port),
    )
    return Flow(
        SPOOF_GUARD,
        HIGH,
        match,
        (GoTo("L3Forwarding"),),
        _cause(port),
        "The node's kernel refuses a connection to the NodePort, of which conntrack knows nothing.",
    )


def group_of(port: ServicePort, endpoints: Sequence[Endpoint], group_id: int) -> Group:
    """One select group for the Service port: buckets as ``balance.shares`` says, in the endpoints' order."""
    method, weights = shares(len(endpoints))
    buckets: list[Bucket] = []
    taken: set[int] = set()
    for index, weight in weights:
        bucket = _bucket(endpoints[index].address, endpoints[index].port, weight, method, port.family)
        if bucket.bucket_id in taken:
            bucket = Bucket(_free(bucket.bucket_id, taken), bucket.weight, bucket.actions)
        taken.add(bucket.bucket_id)
        buckets.append(bucket)
    fields = _hash_fields(port.family, PROTOCOLS[port.name.protocol]) if method == "hash" else ()
    return Group(group_id, method, fields, tuple(buckets), _cause(port))


def _free(bucket_id: int, taken: set[int]) -> int:
    while bucket_id in taken:
        bucket_id = (bucket_id + 1) % _MAX_BUCKET_ID
    return bucket_id


@lru_cache(maxsize=1 << 18)
def _bucket(address: Address, port: int, weight: int, method: str, family: Family) -> Bucket:
    """The bucket that chooses this endpoint. Its id tells all of it: ids are what is read back of a group."""
    actions: tuple[Action, ...] = (
        SetField(endpoint_ip(family)(int(address))),
        SetField(union(port)),
        Resubmit("EndpointDNAT"),
    )
    text = f"{method},weight:{weight},actions={','.join(map(str, actions))}"
    return Bucket(hash_bits(text, 32) % _MAX_BUCKET_ID, weight, actions)


def _hash_fields(family: Family, number: int) -> tuple[Field, ...]:
    return family.src, family.dst, IP_PROTO, SRC_PORT[number], DST_PORT[number]


def _cause(port: ServicePort) -> Cause:
    return Cause(Category.SERVICE, port.name.namespace, port.name.name)
