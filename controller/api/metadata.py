"""What the server alone writes in ``metadata``: at birth, and over every update. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controller.api.errors import BadRequest
from controller.api.kinds import KINDS, Kind
from controller.api.objects import Obj, resource_version
from controller.api.status import conflict

_COUNTED = frozenset({
    "Pod", "Deployment", "ReplicaSet", "EndpointSlice", "StatefulSet", "DaemonSet", "Job", "CronJob",
    "Ingress", "NetworkPolicy", "PodDisruptionBudget", "ReplicationController", "PriorityClass",
    "ServiceCIDR",
})  # fmt: skip
"""Kinds whose ``metadata.generation`` counts changes of what is wanted."""
assert set(_COUNTED) <= set(KINDS)

_DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_SERVER_OWNED = (*_DELETION, "uid", "creationTimestamp", "generation", "generateName")


def timestamp(moment: datetime) -> str:
    """RFC 3339 in seconds, as every metadata time is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of(obj: Obj) -> Obj:
    """An object's metadata, made when there is none."""
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object")
    return metadata


def place(row: Kind, metadata: Obj, namespace: str | None) -> None:
    """Set the namespace; ``namespace`` is the one of the URL, which the object's own must equal."""
    if not row.namespaced:
        metadata.pop("namespace", None)
        return
    own = metadata.get("namespace")
    if namespace and own and own != namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = own or namespace or "default"


def bear(row: Kind, metadata: Obj, uid: str, now: datetime) -> None:
    for word in (*_DELETION, "generation"):
        metadata.pop(word, None)
    metadata["uid"], metadata["creationTimestamp"] = uid, timestamp(now)
    if row.kind in _COUNTED:
        metadata["generation"] = 1


def carry_over(row: Kind, metadata: Obj, old: Obj) -> None:
    """Put what the server owns back into an update's metadata; 409 when the update means another object or
    another version of it."""
    before = old["metadata"]
    if metadata.get("uid") and metadata["uid"] != before["uid"]:
        raise conflict(
            row.kind, before["name"],
            f"Precondition failed: UID in precondition: {metadata['uid']}, "
            f"UID in object meta: {before['uid']}",
        )  # fmt: skip
    if resource_version({"metadata": metadata}) not in (0, resource_version(old)):
        raise conflict(row.kind, before["name"])
    for word in _SERVER_OWNED:
        if word in before:
            metadata[word] = before[word]
        else:
            metadata.pop(word, None)


def count(row: Kind, made: Obj, old: Obj) -> None:
    """Raise ``generation`` when an update changes what is wanted."""
    if row.kind in _COUNTED and _wanted(made) != _wanted(old):
        made["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def _wanted(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in obj.items() if word not in ("metadata", "status")}
