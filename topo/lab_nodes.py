"""A lab's nodes on the API: registered, heard of, moved to another address."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from ipaddress import IPv4Address

from controller.api.client import Client
from controller.api.errors import UserError
from topo.network import Network
from topo.nodes import LEASES, addresses, lease_object, node_object
from topo.plan import Plan, in_family


class LabNodes:
    """What the kubelet of a real node does about its own Node object."""

    def __init__(self, plan: Plan, client: Client) -> None:
        self._plan, self._client = plan, client

    def register(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for node in self._plan.nodes:
            obj = node_object(node, cpus=os.cpu_count() or 1, memory_kib=memory, now=now)
            self._client.create(lease_object(self._client.create(obj), now=_micro_time()))

    def heartbeat(self) -> None:
        """Renew the nodes' Leases: a new resourceVersion.

        What a kubeproxy reported before it or its switches died says nothing of the flows of now; only a
        report on a newer version does. A real kubelet renews every ten seconds. Here nobody judges a node
        by its Lease, and a write that all watchers hear of, DNS over the wires among them, would show in
        captures; so it is renewed when something was restarted, and not otherwise.
        """
        for node in self._plan.nodes:
            self._client.patch("Lease", node.name, {"spec": {"renewTime": _micro_time()}}, LEASES)

    def readdress(self, network: Network, name: str, new: IPv4Address | None) -> IPv4Address:
        """Move a node to a spare address (the next free one), in the wires first, then on the API."""
        spare, taken = self._plan.spare_node_addresses, network.addresses()
        if new is None:
            new = next(address for address in spare if address not in taken)
        if new not in spare or new in taken:
            raise UserError(f"{name} cannot have {new}: a free one of {spare[0]}-{spare[-1]} is needed")
        network.readdress(name, new)
        values = [in_family(new, family) for family in self._plan.families]
        status = {"status": {"addresses": addresses(name, values)}}
        self._client.patch("Node", name, status, subresource="status")
        return new


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
