"""Which of the lab's nodes stands for which of a real cluster's. Pure.

A lab's nodes are made at its start, a real cluster's come and go: a node that leaves gives its place
free, and the next one that comes takes it. One for whom there is no place has its pods not played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from controller.api import objects
from controller.api.errors import UserError
from controller.api.objects import Obj
from controller.api.wiring import CONTROL_PLANE
from topo.mirror_theirs import is_played

UNASKED = 20
"""So many nodes are played without being asked for."""


def in_order(nodes: Iterable[Obj], pods: Iterable[Obj]) -> list[str]:
    """Their names: the control plane first, because ours is node1; then those with pods to be played; the
    eldest names first. Nodes that may not be listed are known by their pods."""
    known = {objects.name(node): CONTROL_PLANE in objects.labels(node) for node in nodes}
    busy = Counter(str(pod["spec"]["nodeName"]) for pod in pods if is_played(pod))
    for name in busy:
        known.setdefault(name, False)
    return sorted(known, key=lambda name: (not known[name], not busy[name], name))


def how_many(theirs: int, asked: int | None) -> int:
    """The lab's nodes; UserError when that is for the user to decide."""
    if asked is None and theirs > UNASKED:
        raise UserError(
            f"the cluster has {theirs} nodes: say by --nodes N how many the lab shall have; those without "
            "pods, and then the last by name, are left out"
        )
    return asked or max(theirs, 1)


def seat(held: Mapping[str, str], theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Our node for each of theirs, as far as ours reach; whoever has a place keeps it."""
    kept = {name: place for name, place in held.items() if name in theirs}
    free = [place for place in ours if place not in kept.values()]
    waiting = [name for name in theirs if name not in kept]
    return kept | dict(zip(waiting, free, strict=False))
