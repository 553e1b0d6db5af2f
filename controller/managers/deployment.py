"""Deployment -> ReplicaSets: one for each pod template, sized step by step.

A pass makes or resizes ReplicaSets once and answers what changed; their own events bring the next
pass. The arithmetic is in ``rollout``, status and conditions in ``deployment_status``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import deployment_status, names, rollout
from controller.managers.deployment_status import Note
from controller.managers.pods import controlled_by
from controller.managers.rollout import Sizes, replicas
from controller.managers.view import Change, Create, Record, Ref, Update, View, delete, is_finished

COMPONENT = "deployment-controller"
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    rollout.DESIRED,
    rollout.MAX,
    "deprecated.deployment.rollback.to",
)


def reconcile(view: View, ref: Ref) -> list[Change]:
    """One step towards every pod being made from the newest template."""
    found = view.get(*ref)
    if found is None:
        return []
    adopted, sets = _claim(view, found)
    new = _new_of(found, sets)
    olds = [rs for rs in sets if rs is not new]
    if objects.is_deleting(found):
        return deployment_status.changes(view, found, new, olds)
    if adopted:
        return adopted
    if new is not None and (renumbered := _revise(found, new, olds)):
        return renumbered
    paused = bool(found["spec"].get("paused"))
    if paused or rollout.is_scaling(found, sets):
        resized = _resize(found, sets, rollout.scaling(found, new, olds))
        note = Note.PAUSED if paused else Note.SCALED
        return resized + deployment_status.changes(view, found, new, olds, note=note)
    if rollout.is_recreate(found):
        sizes: Sizes = {objects.uid(rs): 0 for rs in olds if replicas(rs)}
        if sizes or _old_pods(view, olds):
            return _resize(found, sets, sizes) + deployment_status.changes(view, found, new, olds)
    if new is None:
        return _create(view, found, olds)
    if rollout.is_recreate(found):
        sizes = {objects.uid(new): replicas(found)}
    else:
        sizes = rollout.rolling(found, new, olds)
    resized = _resize(found, sets, sizes)
    cleaned = [] if resized else _clean(found, olds)
    return resized + cleaned + deployment_status.changes(view, found, new, olds)


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterator[Ref]:
    """The Deployment itself; of a ReplicaSet its owner or those that could adopt it; of a pod that is
    gone the Deployment above it (Recreate waits for that)."""
    for obj in filter(None, (old, new)):
        if obj["kind"] == "Deployment":
            yield objects.key(obj)
        elif obj["kind"] == "ReplicaSet":
            yield from _above(view, obj, adopt=obj is new)
        elif new is None or is_finished(new):
            owner = objects.controller_of(obj)
            rs = view.by_uid(owner["uid"]) if owner else None
            if rs is not None:
                yield from _above(view, rs, adopt=False)


def _above(view: View, rs: Obj, *, adopt: bool) -> Iterator[Ref]:
    owner = objects.controller_of(rs)
    if owner is not None:
        if owner["kind"] == "Deployment":
            yield Ref("Deployment", objects.namespace(rs), owner["name"])
    elif adopt:
        for one in view.list("Deployment", objects.namespace(rs)):
            if objects.matches(one["spec"]["selector"], objects.labels(rs)):
                yield objects.key(one)


def _claim(view: View, found: Obj) -> tuple[list[Change], list[Obj]]:
    """Our ReplicaSets, the oldest first, and the adoption of those that nobody controls."""
    selector = found["spec"]["selector"]
    mine: list[Obj] = []
    adopted: list[Change] = []
    for rs in view.select("ReplicaSet", objects.namespace(found), selector):
        if controlled_by(rs, found):
            mine.append(rs)
        elif objects.controller_of(rs) is None and not objects.is_deleting(rs):
            owners = [*objects.owners(rs), objects.owner_reference(found)]
            adopted.append(Update({**rs, "metadata": {**rs["metadata"], "ownerReferences": owners}}))
    mine.sort(key=lambda rs: (revision(rs), rs["metadata"].get("creationTimestamp", ""), objects.name(rs)))
    return adopted, mine


def revision(obj: Obj) -> int:
    return int(objects.annotation(obj, REVISION) or 0)


def _bare(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {key: text for key, text in (metadata.get("labels") or {}).items() if key != HASH}
    return {
        "metadata": {word: value for word, value in metadata.items() if value},
        "spec": template.get("spec"),
    }


def _new_of(found: Obj, sets: list[Obj]) -> Obj | None:
    """The ReplicaSet whose template is the Deployment's (the hash label apart)."""
    template = _bare(found["spec"]["template"])
    return next((rs for rs in sets if _bare(rs["spec"]["template"]) == template), None)


def _revise(found: Obj, new: Obj, olds: list[Obj]) -> list[Change]:
    """The newest template has the highest revision number, which the Deployment shows too."""
    number = max([revision(rs) for rs in olds], default=0) + 1
    if revision(new) < number:
        return [_annotated(new, {REVISION: str(number)})]
    if revision(found) != revision(new):
        return [_annotated(found, {REVISION: str(revision(new))})]
    return []


def _annotated(obj: Obj, more: dict[str, str]) -> Update:
    metadata = {**obj["metadata"], "annotations": {**(obj["metadata"].get("annotations") or {}), **more}}
    return Update({**obj, "metadata": metadata})


def _create(view: View, found: Obj, olds: list[Obj]) -> list[Change]:
    template = found["spec"]["template"]
    count = objects.status(found).get("collisionCount")
    digest = names.template_hash(template, count)
    namespace, name = objects.namespace(found), f"{objects.name(found)}-{digest}"
    if view.get("ReplicaSet", namespace, name) is not None:  # not ours, or it would be the new one
        status = {**objects.status(found), "collisionCount": (count or 0) + 1}
        return [Update({**found, "status": status}, "status")]
    size = rollout.new_size(found, 0, sum(map(replicas, olds)))
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: digest}
    selector = found["spec"]["selector"]
    copied = found["metadata"].get("annotations") or {}
    spec: Obj = {
        "replicas": size,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH: digest}},
        "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
    }
    if found["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = found["spec"]["minReadySeconds"]
    made: Obj = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {
                **{word: text for word, text in copied.items() if word not in _NOT_COPIED},
                **rollout.size_notes(found),
                REVISION: str(max([revision(rs) for rs in olds], default=0) + 1),
            },
            "ownerReferences": [objects.owner_reference(found)],
        },
        "spec": spec,
    }
    changes: list[Change] = [Create(made)]
    if size:
        changes.append(_record(found, f"Scaled up replica set {name} from 0 to {size}"))
    return changes + deployment_status.changes(view, found, None, olds, note=Note.CREATED, name=name)


def _record(found: Obj, message: str) -> Record:
    return Record(involved=found, reason="ScalingReplicaSet", message=message, component=COMPONENT)


def _resize(found: Obj, sets: list[Obj], sizes: Sizes) -> list[Change]:
    """Write sizes and the notes about the whole; a note out of date is a change too."""
    changes: list[Change] = []
    notes = rollout.size_notes(found)
    seconds = found["spec"].get("minReadySeconds", 0)
    for rs in sets:
        size = sizes.get(objects.uid(rs), replicas(rs))
        grown = size - replicas(rs)
        stale = size and any(objects.annotation(rs, word) != text for word, text in notes.items())
        stale = stale or rs["spec"].get("minReadySeconds", 0) != seconds
        if not grown and not stale:
            continue
        spec: dict[str, Any] = {**rs["spec"], "replicas": size, "minReadySeconds": seconds}
        if not seconds:
            del spec["minReadySeconds"]
        update = _annotated(rs, notes)
        changes.append(Update({**update.obj, "spec": spec}))
        if grown:
            way = "up" if grown > 0 else "down"
            changes.append(
                _record(found, f"Scaled {way} replica set {objects.name(rs)} from {replicas(rs)} to {size}")
            )
    return changes


def _old_pods(view: View, olds: list[Obj]) -> bool:
    """Recreate waits until the last old pod is gone, terminating ones included."""
    return any(not is_finished(pod) for rs in olds for pod in view.owned_by(objects.uid(rs)))


def _clean(found: Obj, olds: list[Obj]) -> list[Change]:
    """Keep ``revisionHistoryLimit`` old ReplicaSets to roll back to."""
    limit = found["spec"].get("revisionHistoryLimit", 10)
    if not rollout.is_complete(found, objects.status(found)):
        return []
    idle = [
        rs
        for rs in olds
        if not replicas(rs)
        and not objects.status(rs).get("replicas")
        and objects.status(rs).get("observedGeneration", 0) >= objects.generation(rs)
        and not objects.is_deleting(rs)
    ]
    return [delete(rs) for rs in idle[: max(len(idle) - limit, 0)]]
