"""Which pods belong to whom makes pods: adoption of orphans that match, release of those that do not."""

from __future__ import annotations

from collections.abc import Callable

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.pods import by_name, controlled_by, is_active
from controller.managers.view import Change, Update, View


def claim(
    view: View, found: Obj, may_adopt: Callable[[Obj], bool] = lambda pod: True
) -> tuple[list[Obj], list[Change]]:
    """The pods of ``found`` by name (adopted ones as they were), and the writes that make it so."""
    changes: list[Change] = []
    claimed: list[Obj] = []
    selector = found["spec"]["selector"]
    for pod in by_name(view.select("Pod", objects.namespace(found), selector)):
        if controlled_by(pod, found):
            claimed.append(pod)
        elif objects.controller_of(pod) is None and is_active(pod) and may_adopt(pod):
            changes.append(_with_owners(pod, [*objects.owners(pod), objects.owner_reference(found)]))
            claimed.append(pod)
    for pod in owned(view, found):
        if not objects.matches(selector, objects.labels(pod)) and not objects.is_deleting(pod):
            left = [owner for owner in objects.owners(pod) if owner["uid"] != objects.uid(found)]
            changes.append(_with_owners(pod, left))
    return claimed, changes


def owned(view: View, found: Obj) -> list[Obj]:
    return by_name(pod for pod in view.owned_by(objects.uid(found)) if pod["kind"] == "Pod")


def _with_owners(pod: Obj, owners: list[Obj]) -> Update:
    return Update({**pod, "metadata": {**pod["metadata"], "ownerReferences": owners}})
