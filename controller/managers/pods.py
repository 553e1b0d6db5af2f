"""What several control loops ask of pods and templates. Pure; no loop's own rules here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.times import after
from controller.managers.view import is_finished


def by_name(objs: Iterable[Obj]) -> list[Obj]:
    return sorted(objs, key=lambda obj: str(obj["metadata"]["name"]))


def is_active(pod: Obj) -> bool:
    """Counts towards ``replicas``: neither finished nor being deleted."""
    return not is_finished(pod) and not objects.is_deleting(pod)


def available_at(pod: Obj, min_ready_seconds: int) -> datetime | None:
    """When a ready pod is, or will be, available; None for one that is not ready."""
    ready = objects.condition(pod, "Ready")
    if not ready or ready.get("status") != "True":
        return None
    return after(ready.get("lastTransitionTime"), min_ready_seconds)


def is_available(pod: Obj, min_ready_seconds: int, now: datetime) -> bool:
    if not min_ready_seconds:
        return objects.is_ready(pod)
    due = available_at(pod, min_ready_seconds)
    return due is not None and due <= now


def controlled_by(obj: Obj, owner: Obj) -> bool:
    reference = objects.controller_of(obj)
    return reference is not None and reference["uid"] == objects.uid(owner)


def pod_of(owner: Obj, name: str, template: Obj | None = None) -> Obj:
    """A pod by its owner's template, or by that one. Its metadata may be changed, its spec may not."""
    template = template or owner["spec"]["template"]
    given = template.get("metadata") or {}
    metadata: Obj = {"name": name, "namespace": objects.namespace(owner)}
    metadata["labels"] = dict(given.get("labels") or {})
    if given.get("annotations"):
        metadata["annotations"] = dict(given["annotations"])
    metadata["ownerReferences"] = [objects.owner_reference(owner)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
