"""hostPort for the node itself: its own packets to a pod's host port go straight to the pod.

As the CNI plugin portmap does in nat OUTPUT: at the node's address, and in IPv4 at 127.0.0.1 (whose source
``node_nft`` changes to the node's). What comes from elsewhere meets the bridge's flows
(``controller.kubeproxy.flows_hostport``). A table of its own, so that pods that come and go touch no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from controller.api.hostports import HostPort
from topo.plan import Address

Forward = tuple[Sequence[Address], HostPort]
"""The pod's addresses, and one of its ports."""


def rules(node: Sequence[Address], forwards: Iterable[Forward]) -> str:
    """The table of each family of the node; loading it again replaces it."""
    found = list(forwards)
    return "".join(_table(address, found) for address in node)


def _table(node: Address, forwards: Iterable[Forward]) -> str:
    family, kind = ("ip", "ipv4_addr") if node.version == 4 else ("ip6", "ipv6_addr")
    asked = [node] if node.version == 6 else [node, ip_address("127.0.0.1")]
    elements = {
        f"{address} . {port.protocol.lower()} . {port.port}": f"{pod} . {port.target}"
        for pods, port in forwards
        for pod in pods
        if pod.version == node.version
        for address in asked
        if port.at(address)
    }
    listed = ", ".join(f"{key} : {value}" for key, value in elements.items())
    return f"""\
table {family} podwire-host-ports
delete table {family} podwire-host-ports
table {family} podwire-host-ports {{
  map host-ports {{
    type {kind} . inet_proto . inet_service : {kind} . inet_service
    {f"elements = {{ {listed} }}" if listed else ""}
  }}
  chain output {{
    type nat hook output priority -110; policy accept;
    dnat {family} to {family} daddr . meta l4proto . th dport map @host-ports
  }}
}}
"""
