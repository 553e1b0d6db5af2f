"""NoExecute taints: pods that do not tolerate one leave the node, at once or when their time is over.

What NoSchedule means is the scheduler's. The moment a taint was added is written into it, as upstream's
node controller does, so that ``tolerationSeconds`` has something to count from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.pods import by_name
from controller.managers.scheduler import tolerations
from controller.managers.times import after, parse, stamp
from controller.managers.view import Change, Record, Ref, Update, View, Wake, delete

COMPONENT = "taint-eviction-controller"
Taint = Mapping[str, Any]


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names a node."""
    node = view.get("Node", "", ref.name)
    if node is None:
        return []
    every = node["spec"].get("taints") or ()
    if any(_evicts(taint) and not taint.get("timeAdded") for taint in every):
        dated = [{"timeAdded": stamp(view.now), **taint} if _evicts(taint) else taint for taint in every]
        return [Update({**node, "spec": {**node["spec"], "taints": dated}})]
    taints = [taint for taint in every if _evicts(taint)]
    changes: list[Change] = []
    for pod in by_name(view.index("Pod", "node", ref.name)) if taints else ():
        due = _due(pod, taints)
        if due is None or pod["metadata"].get("deletionTimestamp"):
            continue
        if due > view.now:
            changes.append(Wake(due))
            continue
        name = f"{objects.namespace(pod)}/{objects.name(pod)}"
        told = f"Marking for deletion Pod {name}"
        changes.append(Record(involved=pod, reason="TaintManagerEviction", message=told, component=COMPONENT))
        changes.append(delete(pod))
    return changes


def _evicts(taint: Taint) -> bool:
    return bool(taint["effect"] == "NoExecute")


def _due(pod: Obj, taints: Sequence[Taint]) -> datetime | None:
    """When the pod has to go; None when it may stay."""
    ends: list[datetime] = []
    for taint in taints:
        found = tolerations(pod, taint)
        if not found:
            return parse(taint["timeAdded"])
        limits = [one["tolerationSeconds"] for one in found if one.get("tolerationSeconds") is not None]
        end = after(taint["timeAdded"], max(min(limits), 0)) if limits else None
        if end is not None:
            ends.append(end)
    return min(ends, default=None)


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    if new is None:
        return
    if new["kind"] == "Node":
        yield objects.key(new)
    elif new["spec"].get("nodeName"):
        yield Ref("Node", "", new["spec"]["nodeName"])
