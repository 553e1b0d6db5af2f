"""Services with a selector -> the v1 Endpoints of the same name, for those who still read them.

Superseded by EndpointSlice (KEP-4974), which the kubeproxy uses; kubectl, books and the conformance
suite still show this one. Capped at 1,000 addresses, ready ones first, and then says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.endpoint import (
    HEADLESS_LABEL,
    Endpoint,
    Port,
    endpoints_of,
    family_of,
    has_endpoints,
    is_headless,
    published_anyway,
    service_refs,
)
from controller.managers.view import Change, Create, Ref, Update, View, delete

COMPONENT = "endpoint-controller"
CAPACITY = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Bring the Endpoints of one Service up to date."""
    service = view.get("Service", ref.namespace, ref.name)
    old = view.get("Endpoints", ref.namespace, ref.name)
    if service is None:
        return [delete(old)] if old is not None and not objects.is_deleting(old) else []
    if objects.is_deleting(service) or not has_endpoints(service):
        return []
    subsets, truncated = _subsets(view, service)
    labels = {word: text for word, text in objects.labels(service).items() if word != HEADLESS_LABEL}
    labels[MANAGED_BY] = COMPONENT
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    if old is None:
        metadata: Obj = {"name": ref.name, "namespace": ref.namespace, "labels": labels}
        if truncated:
            metadata["annotations"] = {OVER_CAPACITY: "truncated"}
        made: Obj = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
        if subsets:
            made["subsets"] = subsets
        return [Create(made)]
    annotations = {
        word: text
        for word, text in (old["metadata"].get("annotations") or {}).items()
        if word != OVER_CAPACITY
    }
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    if (
        (old.get("subsets") or []) == subsets
        and objects.labels(old) == labels
        and (old["metadata"].get("annotations") or {}) == annotations
    ):
        return []
    metadata = {**old["metadata"], "labels": labels, "annotations": annotations}
    if not annotations:
        del metadata["annotations"]
    return [Update({**old, "metadata": metadata, "subsets": subsets})]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The Services concerned. Endpoints without a Service are somebody's own and stay."""
    obj = new or old
    if obj is not None and obj["kind"] == "Endpoints":
        if view.get("Service", *objects.key(obj)[1:]) is not None:
            yield Ref("Service", *objects.key(obj)[1:])
        return
    yield from service_refs(view, old, new)


def _address(endpoint: Endpoint) -> Obj:
    made: Obj = {"ip": endpoint.address, "targetRef": endpoint.target}
    if endpoint.pod["spec"].get("nodeName"):
        made["nodeName"] = endpoint.pod["spec"]["nodeName"]
    if endpoint.hostname:
        made["hostname"] = endpoint.hostname
    return made


def _subsets(view: View, service: Obj) -> tuple[list[Obj], bool]:
    """Addresses grouped by equal ports, in a fixed order, and whether some were left out."""
    anyway = published_anyway(service)
    ready: list[Endpoint] = []
    not_ready: list[Endpoint] = []
    for endpoint in endpoints_of(view, service, family_of(service)):
        if objects.is_deleting(endpoint.pod) and not anyway:
            continue
        if not endpoint.ports and not is_headless(service):
            continue
        (ready if anyway or objects.is_ready(endpoint.pod) else not_ready).append(endpoint)
    truncated = len(ready) + len(not_ready) > CAPACITY
    ready = ready[:CAPACITY]
    not_ready = not_ready[: CAPACITY - len(ready)]
    grouped: dict[tuple[Port, ...], tuple[list[Endpoint], list[Endpoint]]] = {}
    for which, members in enumerate((ready, not_ready)):
        for endpoint in members:
            grouped.setdefault(endpoint.ports, ([], []))[which].append(endpoint)
    subsets: list[Obj] = []
    for ports in sorted(grouped):
        subset: Obj = {}
        for word, members in zip(("addresses", "notReadyAddresses"), grouped[ports], strict=True):
            if members:
                members.sort(key=lambda endpoint: (int(ip_address(endpoint.address)), endpoint.target["uid"]))
                subset[word] = [_address(endpoint) for endpoint in members]
        if ports:
            subset["ports"] = [port.json() for port in ports]
            for port in subset["ports"]:
                if not port["name"]:
                    del port["name"]
        subsets.append(subset)
    return subsets, truncated
