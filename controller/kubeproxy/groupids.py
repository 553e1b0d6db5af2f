"""Group ids that every process computes alike: a hash of the Service port's name.

Collisions are resolved by name, so ids never depend on the order in which names came; only a collision
(rare in 32 bits) costs a pass over all names.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.kubeproxy.flow import hash_bits
from controller.kubeproxy.services import ServicePortName

MOST = 0xFFFFFF00
"""OFPG_MAX: ids above are reserved."""


def group_hash(text: str) -> int:
    return 1 + hash_bits(text, 32) % (MOST - 1)


def local(name: ServicePortName) -> ServicePortName:
    """The name under which the group of the endpoints on the node itself (policy Local) is known."""
    return name._replace(protocol=f"{name.protocol}/local")


def part(name: ServicePortName, turn: int) -> ServicePortName:
    """The name of one part of a group that is too large for one."""
    return name._replace(protocol=f"{name.protocol}/{turn}")


class GroupIds:
    """The id of every name that is held."""

    def __init__(self, hash_of: Callable[[str], int] = group_hash) -> None:
        self._hash = hash_of
        self._ids: dict[ServicePortName, int] = {}
        self._holders: dict[int, set[ServicePortName]] = {}
        self._collisions = 0

    def __getitem__(self, name: ServicePortName) -> int:
        return self._ids[name]

    def add(self, name: ServicePortName) -> set[ServicePortName]:
        """Hold a name; returns the other names whose id changed by it."""
        if name in self._ids:
            return set()
        first = self._hash(str(name))
        holders = self._holders.setdefault(first, set())
        holders.add(name)
        self._collisions += len(holders) > 1
        self._ids[name] = first
        return self._resolve() - {name} if self._collisions else set()

    def remove(self, name: ServicePortName) -> set[ServicePortName]:
        """Forget a name; returns the names whose id changed by it."""
        if self._ids.pop(name, None) is None:
            return set()
        first = self._hash(str(name))
        holders = self._holders[first]
        had = self._collisions
        self._collisions -= len(holders) > 1
        holders.discard(name)
        if not holders:
            del self._holders[first]
        return self._resolve() if had else set()

    def _resolve(self) -> set[ServicePortName]:
        """Of names with one hash the smallest has it; the others, by name, take the first free re-hash."""
        ids = {min(names): first for first, names in self._holders.items()}
        taken = set(self._holders)
        for name in sorted(self._ids.keys() - ids.keys()):
            turn = 1
            while (candidate := self._hash(f"{name}#{turn}")) in taken:
                turn += 1
            ids[name] = candidate
            taken.add(candidate)
        changed = {name for name, group_id in ids.items() if self._ids[name] != group_id}
        self._ids = ids
        return changed
