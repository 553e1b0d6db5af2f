"""How the kubelet gets a pod its wires: plug and unplug, in batches.

Between a pod and its bridge, and nothing of Kubernetes but the name of the node. What runs in a pod
belongs to the runtime, which address it has to the kubelet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from topo.network import Network


@dataclass(frozen=True, kw_only=True)
class PodPlug:
    """One pod to be wired. ``name`` is that of its Mininet host and namespace (plan.pod_host_name)."""

    name: str
    node: str
    address: IPv4Address
    interface: str
    """The bridge port, 15 characters at most (NodePlan.pod_interface)."""


class PodWires:
    """Plugs pods into the bridges of a running network. Safe to call from several threads."""

    def __init__(self, network: Network, changed: Callable[[], None] = lambda: None) -> None:
        self._network, self._changed = network, changed

    def plug(self, pods: Sequence[PodPlug]) -> None:
        """Namespace, veth pair, address, routes and bridge port of each: all ready at return, or none."""
        plan = self._network.plan
        self._network.plug(
            [
                (
                    pod.name,
                    {"address": pod.address, "offload": plan.config.offload},
                    plan.node(pod.node).bridge,
                    pod.interface,
                )
                for pod in pods
            ]
        )
        self._changed()

    def unplug(self, names: Sequence[str]) -> None:
        """Take them away; a name that is not plugged is none of our business."""
        self._network.unplug(names)
        self._changed()
