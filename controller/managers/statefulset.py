"""StatefulSet -> pods with stable names: web-0, web-1 ... each after the one before is ready.

Host name and subdomain are the pod's identity in DNS (``web-0.<serviceName>``). Down and updates go
from the highest ordinal, one at a time; ``Parallel`` waits for nobody. Volume claims are not made: the
lab mounts no volumes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import revisions
from controller.managers.claims import claim
from controller.managers.pods import available_at, is_active, is_available, pod_of
from controller.managers.revisions import HASH
from controller.managers.view import Change, Create, Record, Ref, Update, View, Wake, delete, is_finished

COMPONENT = "statefulset-controller"
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


def reconcile(view: View, ref: Ref) -> list[Change]:
    found = view.get(*ref)
    if found is None:
        return []
    pods, changes = claim(view, found, lambda pod: _ordinal(found, pod) is not None)
    held = {ordinal: pod for pod in pods if (ordinal := _ordinal(found, pod)) is not None}
    update = revisions.revision_name(found, revisions.hash_of(found))
    if objects.is_deleting(found) or revisions.template_of(view, found, update) is None:
        return changes  # its revision comes first, and calls us again
    changes += _towards(view, found, held)
    return changes + _status(view, found, list(held.values()), update)


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The StatefulSet itself; of a pod its owner, or those that could adopt it; of a revision its owner."""
    for obj in filter(None, (old, new)):
        if obj["kind"] == "StatefulSet":
            yield objects.key(obj)
            continue
        owner = objects.controller_of(obj)
        if owner is None:
            if obj is new and obj["kind"] == "Pod":
                yield from (objects.key(one) for one in view.selecting("StatefulSet", obj))
        elif owner["kind"] == "StatefulSet":
            yield Ref("StatefulSet", objects.namespace(obj), owner["name"])


def _ordinal(found: Obj, pod: Obj) -> int | None:
    shape = re.fullmatch(re.escape(objects.name(found)) + r"-(0|[1-9]\d*)", objects.name(pod))
    return int(shape.group(1)) if shape else None


def _towards(view: View, found: Obj, held: dict[int, Obj]) -> list[Change]:
    """The next steps: as many as may be taken before a pod has to be waited for."""
    spec = found["spec"]
    ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    wanted = range(start, start + spec.get("replicas", 1))
    changes: list[Change] = []
    healthy = True
    for ordinal in wanted:
        pod = held.get(ordinal)
        if pod is None:
            changes += _create(view, found, ordinal, start)
        elif is_finished(pod) and not objects.is_deleting(pod):
            changes += _delete(found, pod)
        elif _is_healthy(found, pod, view):
            continue
        healthy = False
        if ordered:
            return changes
    for ordinal in sorted(held.keys() - set(wanted), reverse=True):
        if not objects.is_deleting(held[ordinal]):
            changes += _delete(found, held[ordinal])
        healthy = False
        if ordered:
            return changes
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete" or (not healthy and ordered):
        return changes
    first = start + _partition(found)
    for ordinal in reversed([one for one in wanted if one >= first and one in held]):
        pod = held[ordinal]
        if objects.labels(pod).get(HASH) != revisions.hash_of(found):
            return changes if objects.is_deleting(pod) else [*changes, *_delete(found, pod)]
        if not _is_healthy(found, pod, view):
            return changes
    return changes


def _partition(found: Obj) -> int:
    strategy = found["spec"].get("updateStrategy") or {}
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)


def _is_healthy(found: Obj, pod: Obj, view: View) -> bool:
    seconds = found["spec"].get("minReadySeconds", 0)
    return is_active(pod) and is_available(pod, seconds, view.now)


def _create(view: View, found: Obj, ordinal: int, start: int) -> list[Change]:
    """The pod of an ordinal; below the partition it is made as it was before the update."""
    name = f"{objects.name(found)}-{ordinal}"
    template_hash, template = revisions.hash_of(found), found["spec"]["template"]
    current = objects.status(found).get("currentRevision")
    if current and ordinal < start + _partition(found):
        before = revisions.template_of(view, found, current)
        if before is not None:
            template = before
            template_hash = current.removeprefix(f"{objects.name(found)}-")
    pod = pod_of(found, name, template)
    pod["metadata"]["labels"] |= {POD_NAME: name, POD_INDEX: str(ordinal), HASH: template_hash}
    identity = {"hostname": name, "subdomain": found["spec"].get("serviceName") or ""}
    pod["spec"] = {**pod["spec"], **{word: text for word, text in identity.items() if text}}
    claims = found["spec"].get("volumeClaimTemplates") or ()
    if claims:
        pod["spec"]["volumes"] = _volumes(pod, [claim["metadata"]["name"] for claim in claims])
    text = f"create Pod {name} in StatefulSet {objects.name(found)} successful"
    return [Create(pod), _record(found, "SuccessfulCreate", text)]


def _volumes(pod: Obj, claims: list[str]) -> list[Obj]:
    """A claim of the pod's own for each template; it wins over a volume of the same name."""
    named = [{"claimName": f"{claim}-{objects.name(pod)}"} for claim in claims]
    made = [{"name": c, "persistentVolumeClaim": n} for c, n in zip(claims, named, strict=True)]
    return [*made, *(v for v in pod["spec"].get("volumes") or () if v["name"] not in claims)]


def _delete(found: Obj, pod: Obj) -> list[Change]:
    text = f"delete Pod {objects.name(pod)} in StatefulSet {objects.name(found)} successful"
    return [delete(pod), _record(found, "SuccessfulDelete", text)]


def _record(found: Obj, reason: str, message: str) -> Record:
    return Record(involved=found, reason=reason, message=message, component=COMPONENT)


def _status(view: View, found: Obj, pods: list[Obj], update: str) -> list[Change]:
    seconds, old = found["spec"].get("minReadySeconds", 0), objects.status(found)
    there = [pod for pod in pods if not is_finished(pod)]
    ready = [pod for pod in there if objects.is_ready(pod)]
    available = [pod for pod in ready if is_available(pod, seconds, view.now)]
    updated = [pod for pod in there if objects.labels(pod).get(HASH) == revisions.hash_of(found)]
    replicas = found["spec"].get("replicas", 1)
    complete = len(updated) == len(there) == replicas == len(available)
    current = update if complete else old.get("currentRevision") or update
    kept = current.removeprefix(f"{objects.name(found)}-")
    status: dict[str, Any] = {
        "replicas": len(there),
        "readyReplicas": len(ready),
        "availableReplicas": len(available),
        "currentReplicas": sum(objects.labels(pod).get(HASH) == kept for pod in there),
        "updatedReplicas": len(updated),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": 0,
        "observedGeneration": objects.generation(found),
    }
    changes: list[Change] = [] if status == old else [Update({**found, "status": status}, "status")]
    due = [available_at(pod, seconds) for pod in ready if pod not in available]
    moments = [moment for moment in due if moment]
    return [*changes, Wake(min(moments) + timedelta(milliseconds=1))] if moments else changes
