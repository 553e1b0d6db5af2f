"""hostPort: a port of one node that leads to one pod on it, as the CNI plugin portmap makes it.

Here what comes over the bridge, from outside and from pods; the client keeps its address, since the pod's
answer passes this bridge anyhow. A node that asks itself, by its address or as localhost, never sends a
packet here: ``topo.host_ports`` leads it to the pod, as portmap does in the node's nat OUTPUT.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api.hostports import HostPort
from controller.kubeproxy.actions import GoTo, SetField
from controller.kubeproxy.fields import DST_PORT, PROTOCOLS, FieldMatch, proto
from controller.kubeproxy.flow import Flow
from controller.kubeproxy.flows_endpoint import flows_of_endpoint, union
from controller.kubeproxy.flows_pod import LocalPod
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import EP_STATE, EP_TO_SELECT, FENCE, SERVICE_LB, endpoint_ip
from controller.kubeproxy.stale import Stale


def flows_of_host_ports(ports: Iterable[HostPort], pod: LocalPod, node: Node) -> list[Flow]:
    """ServiceLB straight to the one endpoint there is, and its translation, shared with Services."""
    family, flows = node.family, dict[object, Flow]()
    for port in ports:
        if not port.at(node.address):
            continue
        number = PROTOCOLS[port.protocol]
        match = (
            family.ip,
            proto(number),
            EP_STATE(EP_TO_SELECT),
            FieldMatch(family.dst, int(node.address)),
            FieldMatch(DST_PORT[number], port.port),
        )
        chosen = SetField(endpoint_ip(family)(int(pod.address))), SetField(union(port.target))
        why = "A hostPort: this port of the node's leads to the pod. A NodePort of that number comes first."
        made = Flow(SERVICE_LB, FENCE, match, (*chosen, GoTo("EndpointDNAT")), pod.cause, why)
        for flow in (made, *flows_of_endpoint(pod.address, port.target, port.protocol, node)):
            flows[flow.key] = flow
    return list(flows.values())


def ways_of_host_ports(ports: Iterable[HostPort], pod: LocalPod, node: Node) -> frozenset[Stale]:
    """UDP connections by these ports: to be forgotten when the pod goes; those to nobody when it comes."""
    found = set()
    for port in ports:
        if port.protocol == "UDP" and port.at(node.address):
            found.add(Stale(node.dnat_zone, node.address, port.port, pod.address, port.target))
    return frozenset(found)
