"""A Namespace being deleted: first its contents go, then its finalizer, then itself."""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.view import Change, Ref, Update, View, delete

COMPONENT = "namespace-controller"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Delete what is left in a Terminating namespace, or let it go when nothing is."""
    found = view.get("Namespace", "", ref.name)
    if found is None or not objects.is_deleting(found):
        return []
    contents = list(view.in_namespace(ref.name))
    if contents:
        return [delete(one) for one in contents if not objects.is_deleting(one)]
    finalizers = [word for word in found["spec"].get("finalizers") or () if word != "kubernetes"]
    if finalizers == (found["spec"].get("finalizers") or []):
        return []
    return [Update({**found, "spec": {**found["spec"], "finalizers": finalizers}}, "finalize")]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "Namespace":
        yield objects.key(obj)
        return
    space = view.get("Namespace", "", objects.namespace(obj))
    if space is not None and objects.is_deleting(space):
        yield objects.key(space)
