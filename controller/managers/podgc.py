"""Pods whose node is gone: nobody can end them gracefully, so they are removed at once.

A pod that never started may wait for its node to appear (a manifest with ``nodeName`` applied
early), as long as upstream's quarantine of 40 seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.pods import by_name
from controller.managers.times import parse
from controller.managers.view import Change, Ref, View, Wake, delete

COMPONENT = "pod-garbage-collector"
QUARANTINE = timedelta(seconds=40)


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names a node, there or not."""
    if view.get("Node", "", ref.name) is not None:
        return []
    changes: list[Change] = []
    for pod in by_name(view.index("Pod", "node", ref.name)):
        started = bool(objects.status(pod).get("podIP"))
        due = parse(pod["metadata"].get("creationTimestamp") or "1970-01-01T00:00:00Z") + QUARANTINE
        if started or due <= view.now:
            changes.append(delete(pod, grace=0))
        else:
            changes.append(Wake(due))
    return changes


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "Node":
        if new is None:
            yield objects.key(obj)
    elif new is not None and new["spec"].get("nodeName"):
        node = new["spec"]["nodeName"]
        if view.get("Node", "", node) is None:
            yield Ref("Node", "", node)
