"""ReplicaSet or, its elder, ReplicationController -> Pods: as many active ones as ``replicas`` says.

Which pods go first on the way down is Kubernetes' order (``ActivePodsWithRanks``). No rollouts here
(``deployment``), no choice of nodes (``scheduler``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import names
from controller.managers.claims import claim, owned
from controller.managers.pods import available_at, is_active, is_available, pod_of
from controller.managers.times import parse
from controller.managers.view import Change, Create, Record, Ref, Update, View, Wake, delete, is_finished

COMPONENT = "replicaset-controller"
ELDER = "replication-controller"
KINDS = ("ReplicaSet", "ReplicationController")
BURST = 500
"""Pods made or deleted in one pass, as upstream's burstReplicas."""
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Adopt or release pods, make or delete the difference, write the status."""
    found = view.get(*ref)
    if found is None:
        return []
    if objects.is_deleting(found):
        return _status(view, found, owned(view, found))
    claimed, changes = claim(view, found)
    active = [pod for pod in claimed if is_active(pod)]
    missing = found["spec"].get("replicas", 1) - len(active)
    if missing > 0:
        changes += _create(view, found, min(missing, BURST))
    elif missing < 0:
        for pod in _first_to_go(view, found, active)[: min(-missing, BURST)]:
            changes += [delete(pod), _record(found, "SuccessfulDelete", f"Deleted pod: {objects.name(pod)}")]
    return changes + _status(view, found, active)


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterator[Ref]:
    """The object itself; of a pod its owner, or those that could adopt it."""
    for obj in filter(None, (old, new)):
        if obj["kind"] in KINDS:
            yield objects.key(obj)
            continue
        owner = objects.controller_of(obj)
        if owner is None:
            if obj is new:
                yield from (objects.key(one) for kind in KINDS for one in view.selecting(kind, obj))
        elif owner["kind"] in KINDS:
            yield Ref(owner["kind"], objects.namespace(obj), owner["name"])


def _create(view: View, found: Obj, count: int) -> list[Change]:
    """New pods by the template; names are stable and no name is used twice in a lab's life."""
    namespace, name = objects.namespace(found), objects.name(found)
    changes: list[Change] = []
    ordinal = -1
    for _ in range(count):
        chosen, ordinal = names.generate(
            f"{name}-",
            namespace,
            name,
            taken=lambda name: view.used_pod_name(namespace, name),
            start=ordinal + 1,
        )
        pod = pod_of(found, chosen)
        pod["metadata"]["generateName"] = f"{name}-"
        changes += [Create(pod), _record(found, "SuccessfulCreate", f"Created pod: {chosen}")]
    return changes


def _record(found: Obj, reason: str, message: str) -> Record:
    component = COMPONENT if found["kind"] == "ReplicaSet" else ELDER
    return Record(involved=found, reason=reason, message=message, component=component)


def _first_to_go(view: View, found: Obj, active: list[Obj]) -> list[Obj]:
    """Unassigned, pending, not ready, cheap, crowded, young: those go first (upstream's order)."""
    crowd = Counter(pod["spec"].get("nodeName") for pod in _related(view, found))

    def rank(pod: Obj) -> tuple[Any, ...]:
        node = pod["spec"].get("nodeName")
        phase = objects.status(pod).get("phase", "Pending")
        ready = objects.condition(pod, "Ready") or {}
        is_ready = ready.get("status") == "True"
        since = parse(ready["lastTransitionTime"]).timestamp() if ready.get("lastTransitionTime") else 0.0
        containers = objects.status(pod).get("containerStatuses") or ()
        restarts = max((one.get("restartCount", 0) for one in containers), default=0)
        created = pod["metadata"].get("creationTimestamp")
        return (
            bool(node),
            {"Pending": 0, "Unknown": 1}.get(phase, 2),
            is_ready,
            _cost(pod),
            -crowd[node] if node else 0,
            -since if is_ready else 0,
            -restarts,
            -parse(created).timestamp() if created else 0,
            objects.name(pod),
        )

    return sorted(active, key=rank)


def _cost(pod: Obj) -> int:
    text = objects.annotation(pod, _DELETION_COST) or "0"
    return int(text) if text.lstrip("-").isdigit() else 0


def _related(view: View, found: Obj) -> list[Obj]:
    """Active pods of every ReplicaSet of the same Deployment: the crowd a node is thinned from."""
    owner = objects.controller_of(found)
    siblings = view.owned_by(owner["uid"]) if owner else [found]
    return [pod for one in siblings for pod in view.owned_by(objects.uid(one)) if is_active(pod)]


def _status(view: View, found: Obj, pods: list[Obj]) -> list[Change]:
    active = [pod for pod in pods if not is_finished(pod)]
    seconds = found["spec"].get("minReadySeconds", 0)
    ready = [pod for pod in active if objects.is_ready(pod)]
    available = [pod for pod in ready if is_available(pod, seconds, view.now)]
    labels = (found["spec"]["template"].get("metadata") or {}).get("labels") or {}
    full = sum(labels.items() <= objects.labels(pod).items() for pod in active)
    status: Obj = {"replicas": len(active)}
    counts = {"fullyLabeledReplicas": full, "readyReplicas": len(ready), "availableReplicas": len(available)}
    status.update({word: count for word, count in counts.items() if count})
    status["observedGeneration"] = objects.generation(found)
    changes: list[Change] = []
    if status != {word: value for word, value in objects.status(found).items() if word != "conditions"}:
        changes.append(Update({**found, "status": status}, "status"))
    due = [available_at(pod, seconds) for pod in ready if pod not in available] if seconds else []
    moments = [moment for moment in due if moment]
    if moments:
        changes.append(Wake(min(moments) + timedelta(milliseconds=1)))
    return changes
