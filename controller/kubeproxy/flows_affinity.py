"""sessionAffinity: ClientIP: a client's new connections go where its last one went.

The group's bucket leads through SessionLearn, where one flow for each endpoint has the switch add a flow
to SessionAffinity: this client, this address, this port. No controller takes part, and when the endpoint
goes, its flow goes, and with it all that it has learned: the client is given another at once.

As with kube-proxy each new connection renews the time, so the learned flow's timeout is an idle one. It
has 16 bits: a longer timeoutSeconds (up to 86,400) means here that the client stays while the endpoint does.
Other than with kube-proxy, each address of the Service remembers for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.kubeproxy.actions import GoTo, Learn, SetField, ToGroup
from controller.kubeproxy.fields import DST_PORT, PROTOCOLS, FieldMatch, proto
from controller.kubeproxy.flow import Category, Cause, Flow, cause_bits, hash_bits
from controller.kubeproxy.flows_endpoint import union
from controller.kubeproxy.pipeline import (
    ENDPOINT_PORT,
    EP_SELECTED,
    EP_STATE,
    EP_TO_SELECT,
    NORMAL,
    SERVICE_GROUP,
    SESSION_LEARN,
    endpoint_ip,
)
from controller.kubeproxy.services import Endpoint, ServicePort

LONGEST = 0xFFFF
_SCHEDULE = GoTo("Scheduler")


def flows_of_affinity(
    port: ServicePort, endpoints: Sequence[Endpoint], group_id: int, cause: Cause
) -> Iterator[Flow]:
    """What each endpoint of a group has the switch learn."""
    family, number = port.family, PROTOCOLS[port.name.protocol]
    timeout = port.affinity_seconds if port.affinity_seconds <= LONGEST else 0
    for endpoint in endpoints:
        text = f"{port.name} {group_id} {endpoint} {timeout}"
        learn = Learn(
            "SessionAffinity",
            NORMAL,
            timeout,
            cause_bits(Cause(Category.AFFINITY, *cause[1:])) << 32 | hash_bits(text, 32),
            (family.ip, proto(number)),
            (family.src, family.dst, DST_PORT[number]),
            (
                (int(endpoint.address), endpoint_ip(family)),
                (endpoint.port, ENDPOINT_PORT),
                (EP_SELECTED, EP_STATE),
            ),
        )
        chosen = FieldMatch(endpoint_ip(family).field, int(endpoint.address))
        yield Flow(
            SESSION_LEARN,
            NORMAL,
            (family.ip, proto(number), chosen, union(endpoint.port), SERVICE_GROUP(group_id)),
            (learn, GoTo("EndpointDNAT")),
            cause,
            "This endpoint it is, and for the client's next connections too.",
        )


def remembered(flows: Iterable[Flow]) -> Iterator[Flow]:
    """For each flow that has a group choose, its like for a client whose choice is remembered."""
    select, selected = EP_STATE(EP_TO_SELECT), EP_STATE(EP_SELECTED)
    for flow in flows:
        if not any(isinstance(action, ToGroup) or action == _SCHEDULE for action in flow.actions):
            continue
        match = tuple(
            FieldMatch(item.field, item.value ^ select.value ^ selected.value, item.mask)
            if item.field is EP_STATE.field
            else item
            for item in flow.match
        )
        actions = tuple(
            action
            for action in flow.actions
            if not isinstance(action, ToGroup | GoTo)
            and not (isinstance(action, SetField) and action.what.field is SERVICE_GROUP.field)
        )
        why = "The client has an endpoint already: it keeps it."
        yield Flow(flow.table, flow.priority, match, (*actions, GoTo("EndpointDNAT")), flow.cause, why)
