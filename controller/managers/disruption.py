"""PodDisruptionBudget -> its status: how many of its pods are healthy, and how many may go."""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import eviction, objects
from controller.api.objects import Obj
from controller.managers.times import stamp
from controller.managers.view import Change, Ref, Update, View

COMPONENT = "disruption-controller"


def reconcile(view: View, ref: Ref) -> list[Change]:
    budget = view.get(*ref)
    if budget is None or objects.is_deleting(budget):
        return []
    old = objects.status(budget)
    counts = eviction.status(budget, view.list("Pod", ref.namespace))
    wanted = {**counts, "observedGeneration": budget["metadata"].get("generation", 1)}
    if all(old.get(word) == value for word, value in wanted.items()):
        return []
    allowed = counts["disruptionsAllowed"] > 0
    condition = {
        "type": "DisruptionAllowed",
        "status": str(allowed),
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
        "observedGeneration": wanted["observedGeneration"],
        "lastTransitionTime": stamp(view.now),
    }
    before = objects.condition(budget, "DisruptionAllowed")
    if before and before["status"] == condition["status"]:
        condition["lastTransitionTime"] = before["lastTransitionTime"]
    return [Update({**budget, "status": {**old, **wanted, "conditions": [condition]}}, "status")]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """Each budget; and, when a pod changes, all budgets of its namespace, which are few."""
    obj = new or old
    assert obj is not None
    if obj["kind"] == "PodDisruptionBudget":
        yield objects.key(obj)
    else:
        for budget in view.list("PodDisruptionBudget", objects.namespace(obj)):
            yield objects.key(budget)
