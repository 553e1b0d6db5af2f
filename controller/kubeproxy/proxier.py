"""One node's kube-proxy without the network: objects in, desired flows and groups out.

No I/O, no clock, no randomness: what it says depends only on the objects and ports it has been told,
never on the order or the number of the events. The app feeds it and sends what ``diff`` makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.kubeproxy.flow import Changes, Desired

Obj = dict[str, Any]


class Proxier:
    """The desired state of one node's bridge, recomputed only where something changed."""

    KINDS = ("Service", "EndpointSlice", "Pod", "Node")

    def __init__(self, node: str) -> None:
        raise NotImplementedError

    def apply(self, type: str, obj: Obj) -> None:
        """One watch event (ADDED, MODIFIED, DELETED); marks what depends on the object as dirty."""
        raise NotImplementedError

    def set_ports(self, ports: Mapping[str, int]) -> None:
        """All ports of the bridge, name to ofport; replaces what was known."""
        raise NotImplementedError

    def desired(self) -> Desired:
        """The whole desired state; costs the dirty share only. The mappings are live: read, do not keep."""
        raise NotImplementedError

    def changes(self) -> Changes:
        """What changed since the last ``changes()`` or since the start, in time of the change alone."""
        raise NotImplementedError

    def waiting(self) -> list[str]:
        """Why the state cannot be complete yet, a sentence each; progress is not reported while it is non-empty."""
        raise NotImplementedError
