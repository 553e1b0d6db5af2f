"""What a DELETE does to an object before it goes: grace periods, finalizers, propagation.

Pure: a marked object comes back, and ``is_finished`` says whether nothing holds it any more.
Foreground and Orphan become the finalizers ``foregroundDeletion`` and ``orphan``, which the garbage
collector (a manager) takes off when the dependents are gone or orphaned.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.api.admission import UNDELETABLE_NAMESPACES
from controller.api.objects import Obj
from controller.api.status import conflict, forbidden

DEFAULT_GRACE = 30
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_FINALIZERS = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
_FINISHED_PHASES = ("Succeeded", "Failed")


def allow(obj: Obj, *, uid: str | None, version: str | None) -> None:
    """Return when the object may be deleted and is the one that the preconditions mean."""
    kind, metadata = obj["kind"], obj["metadata"]
    name = metadata["name"]
    if kind == "Namespace" and name in UNDELETABLE_NAMESPACES:
        raise forbidden(kind, name, "this namespace may not be deleted")
    if uid and uid != metadata["uid"]:
        why = f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']})"
        raise conflict(kind, name, f"{why}. The object might have been deleted and then recreated")
    if version and version != metadata["resourceVersion"]:
        why = f"the ResourceVersion in the precondition ({version}) does not match the"
        raise conflict(kind, name, f"{why} ResourceVersion in record ({metadata['resourceVersion']})")


def mark(obj: Obj, now: datetime, *, grace: int | None = None, propagation: str | None = None) -> Obj:
    """Mark an object (an own copy, changed in place) for deletion; marking twice only shortens the grace."""
    metadata = obj["metadata"]
    wanted = _FINALIZERS.get(propagation or "")
    if wanted and not metadata.get("deletionTimestamp"):
        finalizers = [word for word in metadata.get("finalizers") or [] if word not in _FINALIZERS.values()]
        metadata["finalizers"] = [*finalizers, wanted]
    period = _grace(obj, grace)
    if metadata.get("deletionTimestamp"):
        if period >= int(metadata.get("deletionGracePeriodSeconds") or 0):
            return obj
    elif metadata.get("generation"):
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = (
        (now + timedelta(seconds=period)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    metadata["deletionGracePeriodSeconds"] = period
    if obj["kind"] == "Namespace":
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return obj


def _grace(obj: Mapping[str, Any], asked: int | None) -> int:
    """Only Pods wait: until their node's kubelet has ended them."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if obj["kind"] != "Pod" or not spec.get("nodeName") or status.get("phase") in _FINISHED_PHASES:
        return 0
    if asked is not None:
        return max(asked, 0)
    return int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))


def is_finished(obj: Mapping[str, Any]) -> bool:
    """Whether a marked object is held by nothing any more: no grace, no finalizer."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj["kind"] == "Namespace" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")
