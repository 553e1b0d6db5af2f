"""Owners and dependents: who goes when whom goes (``metadata.ownerReferences``).

Background: the owner goes at once, its dependents follow. Foreground: dependents that block go
first. Orphan: dependents lose the reference and stay. Kinds do not matter here.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.pods import by_name
from controller.managers.view import Change, Ref, Update, View, delete

COMPONENT = "generic-garbage-collector"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Look at one object as a dependent and, when it is being deleted, as an owner."""
    found = view.get(*ref)
    if found is None:
        return []
    if objects.is_deleting(found):
        finalizers = found["metadata"].get("finalizers") or ()
        if ORPHAN in finalizers:
            return _orphan(view, found)
        if FOREGROUND in finalizers:
            return _foreground(view, found)
        return []
    owners = objects.owners(found)
    alive = [owner for owner in owners if _lives(view, owner)]
    if not owners or len(alive) == len(owners):
        return []
    if alive:
        return [Update({**found, "metadata": {**found["metadata"], "ownerReferences": alive}})]
    return [delete(found)]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The object itself, its dependents when it is gone, its owners that wait for it to go."""
    obj = new or old
    if obj is None:
        return
    tied = new is not None and (objects.owners(new) or objects.is_deleting(new))
    if new is not None and tied and (old is None or _ties(old) != _ties(new)):
        yield objects.key(new)
    if new is None:
        for dependent in view.owned_by(objects.uid(obj)):
            yield objects.key(dependent)
    ties = [owner for one in (old, new) if one is not None for owner in objects.owners(one)]
    for owner in ties:
        held = view.by_uid(owner["uid"])
        if held is not None and objects.is_deleting(held):
            yield objects.key(held)


def _ties(obj: Obj) -> tuple[object, ...]:
    return objects.owners(obj), objects.is_deleting(obj), obj["metadata"].get("finalizers")


def _lives(view: View, owner: Obj) -> bool:
    return view.by_uid(owner["uid"]) is not None


def _without(found: Obj, finalizer: str) -> Update:
    left = [word for word in found["metadata"].get("finalizers") or () if word != finalizer]
    return Update({**found, "metadata": {**found["metadata"], "finalizers": left}})


def _orphan(view: View, found: Obj) -> list[Change]:
    changes: list[Change] = []
    for dependent in by_name(view.owned_by(objects.uid(found))):
        left = [owner for owner in objects.owners(dependent) if owner["uid"] != objects.uid(found)]
        changes.append(Update({**dependent, "metadata": {**dependent["metadata"], "ownerReferences": left}}))
    return changes or [_without(found, ORPHAN)]


def _foreground(view: View, found: Obj) -> list[Change]:
    """Dependents go the same way, so that a whole tree waits for its leaves."""
    uid = objects.uid(found)
    dependents = by_name(view.owned_by(uid))
    blocking = [
        one
        for one in dependents
        if any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in objects.owners(one))
    ]
    if not blocking:
        return [_without(found, FOREGROUND)]
    changes: list[Change] = []
    for one in dependents:
        if objects.is_deleting(one):
            continue
        others = [owner for owner in objects.owners(one) if owner["uid"] != uid and _lives(view, owner)]
        if others:
            changes.append(Update({**one, "metadata": {**one["metadata"], "ownerReferences": others}}))
        else:
            changes.append(
                delete(one, propagation="Foreground" if view.owned_by(objects.uid(one)) else "Background")
            )
    return changes
