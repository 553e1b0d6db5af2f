"""The Python clients of Kubernetes that are tried, and the Python that has them."""

from __future__ import annotations

from topo import python_clients
from topo.environment import requirements

CLIENTS = tuple(requirements("clients", "alone"))


def python() -> str:
    """Made once for a machine, outside of the sandbox that the net tier runs in."""
    return str(python_clients.install())
