"""Which Service holds which ClusterIP, as objects: one IPAddress for each (KEP-1880).

They follow the Services; what may be handed out is still decided at admission (``allocator``).
IPAddresses that somebody else wrote are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.allocator import addresses_of
from controller.managers.view import Change, Create, Ref, View, delete

COMPONENT = "ipallocator.k8s.io"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
FAMILY = "ipaddress.kubernetes.io/ip-family"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names a Service, there or not."""
    service = view.get(*ref)
    wanted = addresses_of(service) if service is not None else []
    held = view.index("IPAddress", "parent", f"services/{ref.namespace}/{ref.name}")
    mine = [one for one in held if objects.labels(one).get(MANAGED_BY) == COMPONENT]
    changes: list[Change] = [delete(one) for one in mine if objects.name(one) not in wanted]
    for address in wanted:
        there = view.get("IPAddress", "", address)
        if there is None:
            changes.append(Create(_ip_address(ref, address)))
        elif there not in mine and objects.labels(there).get(MANAGED_BY) == COMPONENT:
            # Its Service went and another took the address before this was cleared up
            changes += [delete(there), Create(_ip_address(ref, address))]
    return changes


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The Service; of an IPAddress of ours that was meddled with, the Service it belongs to."""
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "Service":
        if old is None or new is None or addresses_of(old) != addresses_of(new):
            yield objects.key(obj)
    elif new is None and objects.labels(obj).get(MANAGED_BY) == COMPONENT:
        parent = obj["spec"]["parentRef"]
        yield Ref("Service", parent.get("namespace", ""), parent["name"])


def _ip_address(ref: Ref, address: str) -> Obj:
    labels = {FAMILY: f"IPv{ip_address(address).version}", MANAGED_BY: COMPONENT}
    parent = {"group": "", "resource": "services", "namespace": ref.namespace, "name": ref.name}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address, "labels": labels},
        "spec": {"parentRef": parent},
    }
