"""healthCheckNodePort asked by the node itself: its own packets to node ports all come to the bridge.

The answer is given in the node's namespace (``health_servers``), on a port in the range that nft leads
here; from outside such a packet passes as any other to the node.
"""

from __future__ import annotations

from controller.kubeproxy.actions import GoTo, SetField
from controller.kubeproxy.fields import DST_PORT, TCP, FieldMatch, proto
from controller.kubeproxy.flow import Cause, Flow
from controller.kubeproxy.flows_endpoint import flows_of_endpoint, union
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import EP_STATE, EP_TO_SELECT, NORMAL, SERVICE_LB, endpoint_ip


def flows_of_health_check(port: int, node: Node, cause: Cause) -> list[Flow]:
    """To the node's own address, as to an endpoint in its network; its translation is shared with such."""
    family = node.family
    match = (
        family.ip,
        proto(TCP),
        EP_STATE(EP_TO_SELECT),
        FieldMatch(family.dst, int(family.ranges.node_port_virtual)),
        FieldMatch(DST_PORT[TCP], port),
    )
    chosen = SetField(endpoint_ip(family)(int(node.address))), SetField(union(port))
    why = "The node asks for the Service's health check, which it answers itself."
    asked = Flow(SERVICE_LB, NORMAL, match, (*chosen, GoTo("EndpointDNAT")), cause, why)
    return [asked, *flows_of_endpoint(node.address, port, "TCP", node)]
