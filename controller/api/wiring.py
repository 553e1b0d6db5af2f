"""What both sides of the wire agree on: ranges, virtual addresses, MACs, annotation names.

The topology builds its links from these, the kubeproxy its flows. Pure values and functions; what
a particular cluster looks like (how many nodes, which names) belongs to ``topo.plan``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

NODE_NET = IPv4Network("192.168.49.0/24")
POD_NET = IPv4Network("10.244.0.0/16")
SERVICE_NET = IPv4Network("10.96.0.0/12")
LOAD_BALANCER_NET = IPv4Network("203.0.113.0/24")
OUTSIDE_NET = IPv4Network("198.51.100.0/24")
API_SERVER = SERVICE_NET[1]
"""The address of the Service ``kubernetes``."""
API_PORT = 6443
"""Where the API server serves TLS, on the control plane's node."""
NODE_PORTS = range(30000, 32768)
MASQUERADE_PORTS = range(1024, 61440)
"""What pods and clients may get as source port when they leave with a node's address; the node's own
connections choose theirs above, so that neither ever meets the other's."""
KUBE_PROXY_HEALTH_PORT = 10256
"""On every node's own addresses: kube-proxy's /healthz and /livez, what a cloud's load balancer asks."""
KUBELET_PORT = 10250
"""By this port the API server means a node's kubelet, which listens on KUBELET_SOCKET."""
KUBELET_SOCKET = "kubelet.sock"
"""In the lab's run directory."""
CLOUD_LEASE = ("Lease", "kube-system", "cloud-controller-manager")
"""Kind, namespace and name of what says that there is a cloud: while it has a holder, Services of type
LoadBalancer get addresses of LOAD_BALANCER_NET."""

GATEWAY = IPv4Address("169.254.1.1")
"""The one gateway every host sees: each bridge answers ARP for it, hosts are routed, nothing floods."""
NODE_PORT_VIRTUAL = IPv4Address("169.254.0.252")
"""Where nft in a node's namespace sends NodePort traffic of the node itself, localhost included."""
HAIRPIN_VIRTUAL = IPv4Address("169.254.0.253")
"""Source of a connection that returns to where it came from, so that the reply passes the bridge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The address plan in one family."""

    family: str
    nodes: IPv4Network | IPv6Network
    pods: IPv4Network | IPv6Network
    services: IPv4Network | IPv6Network
    load_balancers: IPv4Network | IPv6Network
    outside: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address
    node_port_virtual: IPv4Address | IPv6Address
    hairpin_virtual: IPv4Address | IPv6Address


RANGES: Mapping[str, Ranges] = {
    "IPv4": Ranges(
        family="IPv4",
        nodes=NODE_NET,
        pods=POD_NET,
        services=SERVICE_NET,
        load_balancers=LOAD_BALANCER_NET,
        outside=OUTSIDE_NET,
        gateway=GATEWAY,
        node_port_virtual=NODE_PORT_VIRTUAL,
        hairpin_virtual=HAIRPIN_VIRTUAL,
    ),
    "IPv6": Ranges(
        family="IPv6",
        nodes=IPv6Network("fd00:49::/64"),
        pods=IPv6Network("fd00:10:244::/56"),
        services=IPv6Network("fd00:10:96::/112"),
        load_balancers=IPv6Network("2001:db8:203::/64"),
        outside=IPv6Network("2001:db8:198::/64"),
        gateway=IPv6Address("fe80::1"),
        node_port_virtual=IPv6Address("fd00:169:254::252"),
        hairpin_virtual=IPv6Address("fd00:169:254::253"),
    ),
}
"""By Kubernetes' names of the families (``ipFamilies``)."""
FAMILIES_OF: Mapping[str, tuple[str, ...]] = {"ipv4": ("IPv4",), "dual": ("IPv4", "IPv6")}
"""A cluster's families by its ``ipFamily``; the first one is the primary."""

ANNOTATION = "podwire.dev/"
SCHEDULER, WEIGHT = ANNOTATION + "scheduler", ANNOTATION + "weight"
"""On a Service: who gets its next connection (rr, wrr, lc, ...). On a Pod: how much of it, 1 by default."""
INTERFACE = ANNOTATION + "interface"
"""On a Pod: the name of its port on the node's bridge."""
DATAPATH_ID = ANNOTATION + "datapath-id"
"""On a Node: the 16 hex digits by which its bridge presents itself to the controller."""
HOST_INTERFACE = ANNOTATION + "host-interface"
"""On a Node: the bridge port that leads to the node's own network namespace."""
UPLINK_INTERFACE = ANNOTATION + "uplink-interface"
"""On a Node: the bridge port that leads to the fabric router."""

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a mirror Pod: shown for a process that no kubelet starts."""
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
"""The label of the node on which the API server is."""


def conntrack_zones(number: int) -> tuple[int, int]:
    """(DNAT zone, SNAT zone) of node ``number``, for both families: all bridges of one ovs-vswitchd share
    one conntrack."""
    return 1000 + 2 * number, 1001 + 2 * number


def node_addresses(node: Mapping[str, Any]) -> list[str]:
    """The InternalIPs of a Node, the one of the primary family first."""
    entries = (node.get("status") or {}).get("addresses") or ()
    return [str(entry["address"]) for entry in entries if entry["type"] == "InternalIP"]


def node_address(node: Mapping[str, Any]) -> str | None:
    """The InternalIP of a Node, in the cluster's primary family."""
    return next(iter(node_addresses(node)), None)


def mac_of(address: IPv4Address | str) -> str:
    """The MAC of the interface that carries an IPv4 address: ``0a:58`` and its four bytes.

    Locally administered, unicast, and readable in a capture: 10.244.1.5 is ``0a:58:0a:f4:01:05``.
    """
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *IPv4Address(address).packed))


GATEWAY_MAC = mac_of(GATEWAY)
FABRIC_MAC = mac_of("169.254.1.2")
"""Every interface of the fabric router that leads to a node or a client."""

ADMIN_TOKEN = "admin.token"
"""The file beside the API server's keys with the token of the kubeconfig."""
