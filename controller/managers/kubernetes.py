"""The Service ``default/kubernetes``: the API server, as pods find it.

Endpoints and EndpointSlice name the address of the control plane's node, as it is now. Nothing of it
is there before such a node is.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import API_PORT, API_SERVER, CONTROL_PLANE, node_address
from controller.managers.endpoint import SERVICE_NAME
from controller.managers.mirroring import SKIP_MIRROR
from controller.managers.pods import by_name
from controller.managers.view import Change, Create, Ref, Update, View

COMPONENT = "kubernetes-service"
NAMESPACE, NAME = "default", "kubernetes"
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Service, Endpoints and EndpointSlice, put right whatever was changed of them."""
    addresses = [node_address(node) for node in by_name(view.list("Node")) if _is_control_plane(node)]
    wanted = [_service(), *_endpoints([address for address in addresses if address])] if addresses else []
    changes: list[Change] = []
    for obj in wanted:
        old = view.get(obj["kind"], NAMESPACE, NAME)
        if old is None:
            changes.append(Create(obj))
        elif obj["kind"] == "Service":
            if old["spec"].get("ports") != obj["spec"]["ports"] or old["spec"].get("selector"):
                spec = {word: value for word, value in old["spec"].items() if word != "selector"}
                changes.append(Update({**old, "spec": {**spec, "ports": obj["spec"]["ports"]}}))
        else:
            labels = {**objects.labels(old), **objects.labels(obj)}
            made = {**old, **obj, "metadata": {**old["metadata"], "labels": labels}}
            if made != old:
                changes.append(Update(made))
    return changes


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    obj = new or old
    assert obj is not None
    if obj["kind"] == "Node":
        if any(one is not None and _is_control_plane(one) for one in (old, new)):
            yield Ref("Service", NAMESPACE, NAME)
    elif objects.namespace(obj) == NAMESPACE and objects.name(obj) == NAME:
        yield Ref("Service", NAMESPACE, NAME)


def _is_control_plane(node: Obj) -> bool:
    return CONTROL_PLANE in objects.labels(node)


def _service() -> Obj:
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": dict(_LABELS)},
        "spec": {"type": "ClusterIP", "clusterIP": str(API_SERVER), "ports": [port]},
    }


def _endpoints(addresses: list[str]) -> list[Obj]:
    port = {"name": "https", "port": API_PORT, "protocol": "TCP"}
    metadata: Obj = {"name": NAME, "namespace": NAMESPACE}
    subset = {"addresses": [{"ip": address} for address in addresses], "ports": [port]}
    elder = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**metadata, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [subset] if addresses else [],
    }
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {SERVICE_NAME: NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [port],
    }
    return [elder, slice_]
