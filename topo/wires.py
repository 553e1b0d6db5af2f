"""How the kubelet gets a pod its wires: plug and unplug, in batches.

Between a pod and its bridge, and nothing of Kubernetes but the name of the node. What runs in a pod
belongs to the runtime, which address it has to the kubelet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from topo.network import Network, PodPlug

__all__ = ["PodPlug", "PodWires"]


class PodWires:
    """Plugs pods into the bridges of a running network. Safe to call from several threads."""

    def __init__(self, network: Network, changed: Callable[[], None] = lambda: None) -> None:
        self._network, self._changed = network, changed

    def plug(self, pods: Sequence[PodPlug]) -> None:
        """Namespace, veth pair, address, routes and bridge port of each: all ready at return, or none."""
        self._network.plug(pods)
        self._changed()

    def unplug(self, names: Sequence[str]) -> None:
        """Take them away; a name that is not plugged is none of our business."""
        self._network.unplug(names)
        self._changed()
