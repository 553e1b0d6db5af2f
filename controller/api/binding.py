"""The ``binding`` subresource: a scheduler's decision about a Pod, written once. Pure."""

from __future__ import annotations

from controller.api.objects import Obj
from controller.api.status import REQUIRED, FieldError, conflict, invalid


def bind(pod: Obj, wanted: Obj, now: str) -> Obj:
    """``pod`` (an own copy, changed in place) on the node that ``wanted`` names, PodScheduled since now."""
    name, node = pod["metadata"]["name"], (wanted.get("spec") or {}).get("nodeName")
    if not node:
        raise invalid("Pod", name, [FieldError("target.name", REQUIRED)])
    there = pod["spec"].get("nodeName")
    if there:
        raise conflict("Pod", name, f'pod {name} is already assigned to node "{there}"')
    if pod["metadata"].get("deletionTimestamp"):
        raise conflict("Pod", name, f"pod {name} is being deleted, cannot be assigned to a host")
    pod["spec"]["nodeName"] = node
    status = pod.setdefault("status", {})
    others = [entry for entry in status.get("conditions") or () if entry.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    status["conditions"] = [*others, {word: value for word, value in scheduled.items() if value}]
    return pod
