"""Which address a pod gets on its node, as the host-local IPAM plugin gives them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network


class AddressesExhausted(Exception):
    """Every address of the node's range is held by a pod."""


class Ipam:
    """Addresses of one node's pod range, in turn; one that came free waits until the range wraps.

    The network, broadcast and first address (the gateway's place) are never given. ``families``: those in
    which a pod has an address; which one follows from its IPv4 address (``plan.in_family``).
    """

    def __init__(self, pod_cidr: IPv4Network, families: Sequence[str] = ("IPv4",)) -> None:
        self.families = families
        self._first, self._last = int(pod_cidr[2]), int(pod_cidr[-2])
        self._next = self._first
        self._held: set[int] = set()

    def allocate(self) -> IPv4Address:
        size = self._last - self._first + 1
        for step in range(size):
            candidate = self._first + (self._next - self._first + step) % size
            if candidate not in self._held:
                self._held.add(candidate)
                self._next = candidate + 1
                return IPv4Address(candidate)
        raise AddressesExhausted(
            f"failed to allocate for range 0: no IP addresses available in range set: "
            f"{IPv4Address(self._first)}-{IPv4Address(self._last)}"
        )

    def release(self, address: IPv4Address) -> None:
        self._held.discard(int(address))
