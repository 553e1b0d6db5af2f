"""The arithmetic of a Deployment: how large each of its ReplicaSets should be now.

Pure numbers over ReplicaSets, as upstream's ``rolling.go``, ``recreate.go`` and ``sync.go``: surge
rounds up, unavailable rounds down. Nothing is made or written here (``deployment``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api import objects
from controller.api.objects import Obj

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"

Sizes = dict[str, int]
"""ReplicaSet uid -> the ``spec.replicas`` it should get."""


def replicas(obj: Obj) -> int:
    """``spec.replicas`` of a Deployment or ReplicaSet."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def available(rs: Obj) -> int:
    return int(objects.status(rs).get("availableReplicas", 0))


def is_recreate(deployment: Obj) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def _resolve(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent of ``total``."""
    if isinstance(value, str):
        percent = int(value.rstrip("%"))
        return -(-total * percent // 100) if up else total * percent // 100
    return int(value)


def bounds(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; both are 0 for Recreate."""
    if is_recreate(deployment):
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = replicas(deployment)
    surge = _resolve(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = _resolve(rolling.get("maxUnavailable", "25%"), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # neither may move otherwise: upstream's ResolveFenceposts
    return surge, min(unavailable, total)


def size_notes(deployment: Obj) -> dict[str, str]:
    """What a ReplicaSet notes about the size of the whole, so that a later scaling is noticed."""
    total = replicas(deployment)
    return {DESIRED: str(total), MAX: str(total + bounds(deployment)[0])}


def new_size(deployment: Obj, new: int, everything: int) -> int:
    """The size of the new ReplicaSet, now ``new``, when all of them together have ``everything``."""
    wanted = replicas(deployment)
    if is_recreate(deployment) or new >= wanted:
        return wanted
    room = wanted + bounds(deployment)[0] - everything
    return new + min(max(room, 0), wanted - new)


def rolling(deployment: Obj, new: Obj, olds: Sequence[Obj]) -> Sizes:
    """One step of a rolling update: first the new one grows, then the old ones shrink."""
    everything = replicas(new) + sum(map(replicas, olds))
    wanted = new_size(deployment, replicas(new), everything)
    if wanted != replicas(new):
        return {objects.uid(new): wanted}
    if not any(map(replicas, olds)):
        return {}
    least = replicas(deployment) - bounds(deployment)[1]
    spare = everything - least - (replicas(new) - available(new))
    if spare <= 0:
        return {}
    sizes: Sizes = {}
    cleaned = 0
    for rs in olds:  # pods that are not available cost nothing: they go first
        broken = min(spare - cleaned, replicas(rs) - min(available(rs), replicas(rs)))
        if broken > 0:
            sizes[objects.uid(rs)] = replicas(rs) - broken
            cleaned += broken
    surplus = available(new) + sum(map(available, olds)) - least
    for rs in olds:
        size = sizes.get(objects.uid(rs), replicas(rs))
        less = min(size, surplus)
        if less > 0:
            sizes[objects.uid(rs)] = size - less
            surplus -= less
    return sizes


def is_scaling(deployment: Obj, sets: Sequence[Obj]) -> bool:
    """Whether ``spec.replicas`` changed since the ReplicaSets in use were last sized."""
    wanted = str(replicas(deployment))
    noted = (objects.annotation(rs, DESIRED) for rs in sets if replicas(rs))
    return any(note is not None and note != wanted for note in noted)


def scaling(deployment: Obj, new: Obj | None, olds: Sequence[Obj]) -> Sizes:
    """Sizes after a change of ``spec.replicas``, in or out of a rollout; the whole keeps its shape."""
    sets = [*olds, new] if new else [*olds]
    active = [rs for rs in sets if replicas(rs)]
    wanted = replicas(deployment)
    if len(active) <= 1:
        only = active[0] if active else (new or (sets[-1] if sets else None))
        return {objects.uid(only): wanted} if only else {}
    if new and replicas(new) == wanted == available(new) and objects.annotation(new, DESIRED) == str(wanted):
        return {objects.uid(rs): 0 for rs in olds if replicas(rs)}
    if is_recreate(deployment):
        return {}
    return _proportional(deployment, active)


def _proportional(deployment: Obj, active: list[Obj]) -> Sizes:
    wanted = replicas(deployment)
    allowed = wanted + bounds(deployment)[0] if wanted else 0
    to_add = allowed - sum(map(replicas, active))
    age = {objects.uid(rs): number for number, rs in enumerate(active)}
    sign = -1 if to_add > 0 else 1  # growing prefers the newer of equals, shrinking the older
    active = sorted(active, key=lambda rs: (-replicas(rs), sign * age[objects.uid(rs)]))
    sizes: Sizes = {}
    added = 0
    for rs in active:
        share = 0
        if to_add and added != to_add:
            noted = int(objects.annotation(rs, MAX) or 0) or sum(map(replicas, active))
            size = (2 * replicas(rs) * allowed + noted) // (2 * noted) if wanted else 0
            share = size - replicas(rs)
            left = to_add - added
            share = min(share, left) if to_add > 0 else max(share, left)
        sizes[objects.uid(rs)] = max(replicas(rs) + share, 0)
        added += share
    first = objects.uid(active[0])
    sizes[first] = max(sizes[first] + to_add - added, 0)
    return sizes


def is_complete(deployment: Obj, status: Mapping[str, Any]) -> bool:
    """Every wanted pod is new, there and available."""
    wanted = replicas(deployment)
    words = ("replicas", "updatedReplicas", "availableReplicas")
    return all(status.get(word, 0) == wanted for word in words) and (
        status.get("observedGeneration", 0) >= objects.generation(deployment)
    )
