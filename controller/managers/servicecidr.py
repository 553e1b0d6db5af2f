"""The ServiceCIDR ``kubernetes``: the ranges that ClusterIPs are taken from, and whether one is ready.

The lab takes addresses from its own ranges only; others are shown, and say that they are not used.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import RANGES
from controller.managers.times import stamp
from controller.managers.view import Change, Create, Ref, Update, View

COMPONENT = "service-cidr-controller"
NAME = "kubernetes"


def reconcile(view: View, ref: Ref) -> list[Change]:
    found = view.get(*ref)
    if found is None:
        return [Create(_service_cidr(view))] if ref.name == NAME else []
    used = found["spec"].get("cidrs") == _cidrs(view)
    wanted = {"type": "Ready", "status": str(used), "reason": "" if used else "NotUsed",
              "message": "Kubernetes Service CIDR is ready" if used
              else f"this lab takes ClusterIPs from {' and '.join(_cidrs(view))} only"}  # fmt: skip
    old = objects.condition(found, "Ready") or {}
    if objects.is_deleting(found) or all(old.get(word) == value for word, value in wanted.items()):
        return []
    others = [entry for entry in objects.status(found).get("conditions") or () if entry["type"] != "Ready"]
    entry = {**wanted, "lastTransitionTime": stamp(view.now)}
    status = {**objects.status(found), "conditions": [*others, entry]}
    return [Update({**found, "status": status}, "status")]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """Each ServiceCIDR; and our own when there is a namespace ``default``, that is at the beginning."""
    obj = new or old
    assert obj is not None
    if obj["kind"] == "ServiceCIDR":
        yield objects.key(obj)
    elif old is None and objects.name(obj) == "default":
        yield Ref("ServiceCIDR", "", NAME)


def _cidrs(view: View) -> list[str]:
    return [str(RANGES[family].services) for family in view.families]


def _service_cidr(view: View) -> Obj:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "spec": {"cidrs": _cidrs(view)},
    }
