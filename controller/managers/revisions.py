"""ControllerRevisions: the templates a StatefulSet or DaemonSet has had, the present one among them.

Named by the template's hash, so the same template is the same revision; taken up again (a rollback)
it becomes the newest. Who makes pods from them: ``statefulset``, ``daemonset``.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import names
from controller.managers.view import Change, Create, Ref, Update, View, delete

COMPONENT = "controllerrevision-history"
HASH = "controller-revision-hash"
KINDS = ("StatefulSet", "DaemonSet")


def hash_of(found: Obj) -> str:
    """The hash of the template an object has now."""
    return names.template_hash(found["spec"]["template"], None)


def revision_name(found: Obj, template_hash: str) -> str:
    return f"{objects.name(found)}-{template_hash}"


def template_of(view: View, found: Obj, revision: str) -> Obj | None:
    """The pod template of a revision by its name; None when there is no such revision."""
    held = view.get("ControllerRevision", objects.namespace(found), revision)
    if held is None:
        return None
    template: Obj = held["data"]["spec"]["template"]
    return template


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Keep a revision of the present template, and as many old ones as the history may hold."""
    found = view.get(*ref)
    if found is None or objects.is_deleting(found):
        return []
    mine = sorted(
        (one for one in view.owned_by(objects.uid(found)) if one["kind"] == "ControllerRevision"),
        key=lambda one: int(one["revision"]),
    )
    newest = int(mine[-1]["revision"]) if mine else 0
    name = revision_name(found, hash_of(found))
    present = next((one for one in mine if objects.name(one) == name), None)
    changes: list[Change] = []
    if present is None:
        changes.append(Create(_revision(found, name, newest + 1)))
    elif present is not mine[-1]:
        changes.append(Update({**present, "revision": newest + 1}))
    used = {objects.labels(pod).get(HASH) for pod in view.owned_by(objects.uid(found))}
    used.add(hash_of(found))
    current = objects.status(found).get("currentRevision")
    old = [one for one in mine if objects.labels(one).get(HASH) not in used and objects.name(one) != current]
    surplus = len(old) - int(found["spec"].get("revisionHistoryLimit", 10))
    return changes + [delete(one) for one in old[: max(surplus, 0)]]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    if new is not None:
        yield objects.key(new)


def _revision(found: Obj, name: str, number: int) -> Obj:
    template = found["spec"]["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: hash_of(found)}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(found),
            "labels": labels,
            "ownerReferences": [objects.owner_reference(found)],
        },
        "revision": number,
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
    }
