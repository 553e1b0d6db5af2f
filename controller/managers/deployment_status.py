"""A Deployment's status: counts, Available, Progressing, and the deadline of a rollout.

Pure; decides nothing about ReplicaSets. Times move only when something is really new, so that a
status written once equals the next one computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import rollout
from controller.managers.rollout import replicas
from controller.managers.times import parse, stamp
from controller.managers.view import Change, Update, View, Wake


class Note(Enum):
    """What the pass was about, as far as the Progressing condition tells it."""

    NOTHING = auto()
    CREATED = auto()
    PAUSED = auto()
    SCALED = auto()


_UNDER_WAY = ("NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated", "DeploymentResumed")
_NEVER = 2147483647
"""progressDeadlineSeconds of a Deployment that has no deadline."""


def changes(
    view: View, found: Obj, new: Obj | None, olds: Sequence[Obj], *, note: Note = Note.NOTHING, name: str = ""
) -> list[Change]:
    """The write of the status, when it differs, and the wake-up at the deadline."""
    old = dict(objects.status(found))
    status = _counts(found, new, olds)
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    conditions = {entry["type"]: dict(entry) for entry in old.get("conditions") or ()}
    now = stamp(view.now)
    conditions["Available"] = _put(conditions.get("Available"), _available(found, status), now)
    progressing = _progressing(view, found, new, status, conditions.get("Progressing"), note, name)
    if progressing:
        fresh = note is Note.CREATED or _progressed(old, status)
        conditions["Progressing"] = _put(conditions.get("Progressing"), progressing, now, touch=fresh)
    status["conditions"] = [*conditions.values()]
    made: list[Change] = []
    if status != old:
        made.append(Update({**found, "status": status}, "status"))
    deadline = found["spec"].get("progressDeadlineSeconds", 600)
    entry = conditions.get("Progressing")
    if entry and entry["reason"] in _UNDER_WAY:
        due = parse(entry["lastUpdateTime"]) + timedelta(seconds=deadline)
        if deadline < _NEVER and due >= view.now:
            made.append(Wake(due + timedelta(seconds=1)))
    return made


def _counts(found: Obj, new: Obj | None, olds: Sequence[Obj]) -> Obj:
    sets = [*olds, new] if new else [*olds]

    def total(word: str) -> int:
        return sum(objects.status(rs).get(word, 0) for rs in sets)

    counts = {
        "replicas": total("replicas"),
        "updatedReplicas": objects.status(new).get("replicas", 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(sum(map(replicas, sets)) - total("availableReplicas"), 0),
    }
    return {
        "observedGeneration": objects.generation(found),
        **{word: count for word, count in counts.items() if count},
    }


def _put(entry: Obj | None, wanted: Obj, now: str, *, touch: bool = False) -> Obj:
    """A condition with its times: lastTransitionTime follows ``status``, lastUpdateTime any news."""
    same = entry is not None and entry["status"] == wanted["status"]
    quiet = same and entry is not None and entry["reason"] == wanted["reason"] and not touch
    if quiet and entry is not None:
        return entry
    changed = entry["lastTransitionTime"] if same and entry is not None else now
    return {**wanted, "lastUpdateTime": now, "lastTransitionTime": changed}


def _condition(kind: str, status: str, reason: str, message: str) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _available(found: Obj, status: Obj) -> Obj:
    least = replicas(found) - rollout.bounds(found)[1]
    if status.get("availableReplicas", 0) >= least:
        return _condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
        )
    return _condition(
        "Available",
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )


def _progressed(old: dict[str, Any], status: Obj) -> bool:
    def outdated(one: dict[str, Any]) -> int:
        return int(one.get("replicas", 0) - one.get("updatedReplicas", 0))

    more = any(
        status.get(word, 0) > old.get(word, 0)
        for word in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return more or outdated(status) < outdated(old)


def _progressing(
    view: View, found: Obj, new: Obj | None, status: Obj, entry: Obj | None, note: Note, name: str
) -> Obj | None:
    """The Progressing condition as it should read; None leaves it as it is."""
    deadline = found["spec"].get("progressDeadlineSeconds", 600)
    if deadline >= _NEVER:
        return None
    reason = entry["reason"] if entry else ""
    if note is Note.PAUSED:
        return _condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    if reason == "DeploymentPaused":
        return _condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
    if note is Note.CREATED:
        return _condition("Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    if note is Note.SCALED:
        return None
    label = objects.name(new) if new else objects.name(found)
    if status.get("replicas", 0) == status.get("updatedReplicas", 0) and reason == "NewReplicaSetAvailable":
        return None
    if rollout.is_complete(found, status):
        text = f'ReplicaSet "{label}" has successfully progressed.'
        return _condition("Progressing", "True", "NewReplicaSetAvailable", text)
    if _progressed(dict(objects.status(found)), status):
        return _condition("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{label}" is progressing.')
    if entry is None:
        return _condition("Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{label}"')
    if reason != "NewReplicaSetAvailable":
        due = parse(entry["lastUpdateTime"]) + timedelta(seconds=deadline)
        if reason == "ProgressDeadlineExceeded" or due < view.now:
            text = f'ReplicaSet "{label}" has timed out progressing.'
            return _condition("Progressing", "False", "ProgressDeadlineExceeded", text)
    return None
