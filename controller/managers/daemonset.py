"""DaemonSet -> one pod on every node that its template fits; follows the nodes as they come and go.

A pod is tied to its node by affinity, the scheduler binds it (as upstream). An update replaces pods
node by node, ``maxUnavailable`` at a time; ``maxSurge`` is not acted on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from controller.api import objects
from controller.api.objects import Obj, copy
from controller.managers import names, revisions, scheduler
from controller.managers.claims import claim
from controller.managers.pods import available_at, by_name, is_available, pod_of
from controller.managers.revisions import HASH
from controller.managers.view import Change, Create, Record, Ref, Update, View, Wake, delete, is_finished

COMPONENT = "daemonset-controller"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TOLERATED = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


def reconcile(view: View, ref: Ref) -> list[Change]:
    found = view.get(*ref)
    if found is None:
        return []
    pods, changes = claim(view, found)
    update = revisions.revision_name(found, revisions.hash_of(found))
    if objects.is_deleting(found) or revisions.template_of(view, found, update) is None:
        return changes  # its revision comes first, and calls us again
    by_node: dict[str, list[Obj]] = {}
    for pod in pods:
        by_node.setdefault(_target(pod), []).append(pod)
    wanted = [node for node in by_name(view.list("Node")) if _runs_on(found, node)]
    kept: dict[str, Obj] = {}
    ordinal = -1
    for node in wanted:
        name = objects.name(node)
        here = by_node.pop(name, [])
        alive = [pod for pod in here if not is_finished(pod)]
        staying = [pod for pod in alive if not objects.is_deleting(pod)]
        for pod in here:
            if pod not in alive or pod in staying[1:]:
                changes += _delete(found, pod)
        if staying:
            kept[name] = staying[0]
        elif not alive:
            made, ordinal = _create(view, found, name, ordinal)
            changes += made
    strangers = [pod for left in by_node.values() for pod in left]
    for pod in strangers:
        changes += _delete(found, pod)
    changes += _update(view, found, kept, len(wanted))
    return changes + _status(view, found, kept, len(wanted), len(strangers))


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The DaemonSet; of a pod or revision its owner, or who could adopt it; all of them when nodes change."""
    for obj in filter(None, (old, new)):
        if obj["kind"] == "DaemonSet":
            yield objects.key(obj)
        elif obj["kind"] == "Node":
            if old is None or new is None or _offer(old) != _offer(new):
                yield from (objects.key(one) for one in view.list("DaemonSet"))
        else:
            owner = objects.controller_of(obj)
            if owner is None:
                if obj is new and obj["kind"] == "Pod":
                    yield from (objects.key(one) for one in view.selecting("DaemonSet", obj))
            elif owner["kind"] == "DaemonSet":
                yield Ref("DaemonSet", objects.namespace(obj), owner["name"])


def _offer(node: Obj) -> tuple[Any, ...]:
    return objects.labels(node), node["spec"], objects.is_ready(node)


def _target(pod: Obj) -> str:
    """The node a pod is on, or meant for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for rule in term.get("matchFields") or ():
            if rule["key"] == "metadata.name":
                return str(rule["values"][0])
    return ""


def _runs_on(found: Obj, node: Obj) -> bool:
    spec = found["spec"]["template"]["spec"]
    if spec.get("nodeName") not in (None, "", objects.name(node)):
        return False
    pod = {"spec": _tolerant(spec)}
    return scheduler.selected(pod, node) and not scheduler.untolerated(pod, node)


def _tolerant(spec: Obj) -> Obj:
    more = [
        {"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": effect}
        for word, effect in _TOLERATED
    ]
    return {**spec, "tolerations": [*(spec.get("tolerations") or ()), *more]}


def _create(view: View, found: Obj, node: str, ordinal: int) -> tuple[list[Change], int]:
    namespace, owner = objects.namespace(found), objects.name(found)
    name, ordinal = names.generate(
        f"{owner}-",
        namespace,
        owner,
        taken=lambda name: view.used_pod_name(namespace, name),
        start=ordinal + 1,
    )
    pod = pod_of(found, name)
    pod["metadata"]["generateName"] = f"{owner}-"
    pod["metadata"]["labels"] |= {
        HASH: revisions.hash_of(found),
        "pod-template-generation": str(objects.generation(found)),
    }
    pod["spec"] = spec = _tolerant(copy(pod["spec"]))
    wanted = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {}).setdefault(_REQUIRED, {})
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = wanted.get("nodeSelectorTerms") or [{}]
    # As upstream: expressions of the template were judged when the node was chosen
    wanted["nodeSelectorTerms"] = [{"matchFields": [field]} for _ in terms[:1]]
    return [Create(pod), _record(found, "SuccessfulCreate", f"Created pod: {name}")], ordinal


def _delete(found: Obj, pod: Obj) -> list[Change]:
    if objects.is_deleting(pod):
        return []
    return [delete(pod), _record(found, "SuccessfulDelete", f"Deleted pod: {objects.name(pod)}")]


def _record(found: Obj, reason: str, message: str) -> Record:
    return Record(involved=found, reason=reason, message=message, component=COMPONENT)


def _update(view: View, found: Obj, kept: dict[str, Obj], total: int) -> list[Change]:
    """Pods of an elder template go: unavailable ones at once, others as many as may be away."""
    strategy = found["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return []
    seconds = found["spec"].get("minReadySeconds", 0)
    available = {node for node, pod in kept.items() if is_available(pod, seconds, view.now)}
    may_be_away = _count((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), total)
    spare = max(may_be_away, 1) - (total - len(available))
    changes: list[Change] = []
    for node, pod in kept.items():
        if objects.labels(pod).get(HASH) == revisions.hash_of(found):
            continue
        if node in available:
            if spare <= 0:
                continue
            spare -= 1
        changes += _delete(found, pod)
    return changes


def _count(value: int | str, total: int) -> int:
    if isinstance(value, int):
        return value
    return -(-total * int(value.removesuffix("%")) // 100)


def _status(view: View, found: Obj, kept: dict[str, Obj], desired: int, strangers: int) -> list[Change]:
    seconds = found["spec"].get("minReadySeconds", 0)
    ready = [pod for pod in kept.values() if objects.is_ready(pod)]
    available = [pod for pod in ready if is_available(pod, seconds, view.now)]
    updated = sum(objects.labels(pod).get(HASH) == revisions.hash_of(found) for pod in kept.values())
    counts = {
        "updatedNumberScheduled": updated,
        "numberAvailable": len(available),
        "numberUnavailable": desired - len(available),
    }
    status: Obj = {
        "currentNumberScheduled": len(kept),
        "desiredNumberScheduled": desired,
        "numberMisscheduled": strangers,
        "numberReady": len(ready),
        **{word: count for word, count in counts.items() if count},
        "observedGeneration": objects.generation(found),
    }
    changes: list[Change] = []
    if status != objects.status(found):
        changes.append(Update({**found, "status": status}, "status"))
    due = [available_at(pod, seconds) for pod in ready if pod not in available]
    moments = [moment for moment in due if moment]
    return [*changes, Wake(min(moments) + timedelta(milliseconds=1))] if moments else changes
