"""Every namespace has a ServiceAccount ``default``, which its pods run as."""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.view import Change, Create, Ref, View

COMPONENT = "serviceaccount-controller"
DEFAULT = "default"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names a Namespace."""
    space = view.get("Namespace", "", ref.name)
    if space is None or objects.is_deleting(space):
        return []
    if view.get("ServiceAccount", ref.name, DEFAULT) is not None:
        return []
    metadata = {"name": DEFAULT, "namespace": ref.name}
    return [Create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """A new namespace, or one whose account was deleted."""
    if new is not None and new["kind"] == "Namespace" and old is None:
        yield objects.key(new)
    if new is None and old is not None and old["kind"] == "ServiceAccount" and objects.name(old) == DEFAULT:
        yield Ref("Namespace", "", objects.namespace(old))
