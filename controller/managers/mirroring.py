"""Hand-written Endpoints of a Service without selector -> EndpointSlices that say the same.

For those who still write the elder kind (KEP-0752): the kubeproxy reads slices only. Addresses with
equal ports share a slice; one over 1,000 addresses a subset is left out. Endpoints that a controller
keeps, or that ask for it by the label skip-mirror, are not mirrored.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import names
from controller.managers.endpoint import MANAGED_BY, SERVICE_NAME, Port
from controller.managers.view import Change, Create, Ref, Update, View, delete

COMPONENT = "endpointslicemirroring-controller.k8s.io"
PER_SUBSET = 1000
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_OWN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
)

_Group = tuple[str, tuple[Port, ...]]
"""Address family and ports: what the endpoints of one slice have in common."""


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names the Endpoints, there or not."""
    found = view.get("Endpoints", ref.namespace, ref.name)
    service = view.get("Service", ref.namespace, ref.name)
    mine = _mine(view, ref)
    if found is None or service is None or not _is_mirrored(found, service):
        return [delete(one) for one in mine]
    wanted = _groups(found)
    changes: list[Change] = []
    taken = {objects.name(one) for one in view.list("EndpointSlice", ref.namespace)}
    for group, endpoints in wanted.items():
        held = [one for one in mine if _group_of(one) == group]
        if not held:
            name, _ = names.generate(f"{ref.name}-", *ref[1:], group, taken=taken.__contains__)
            taken.add(name)
            changes.append(
                Create(_slice(found, group, endpoints, {"name": name, "namespace": ref.namespace}))
            )
            continue
        mine = [one for one in mine if one is not held[0]]
        made = _slice(found, group, endpoints, held[0]["metadata"])
        if any(made[word] != held[0].get(word) for word in ("metadata", "endpoints", "ports")):
            changes.append(Update({**held[0], **made}))
    return changes + [delete(one) for one in mine]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "EndpointSlice":
        if objects.labels(obj).get(MANAGED_BY) == COMPONENT:
            yield Ref("Endpoints", objects.namespace(obj), objects.labels(obj).get(SERVICE_NAME, ""))
        return
    if obj["kind"] == "Endpoints" or view.get("Endpoints", *objects.key(obj)[1:]) is not None:
        yield Ref("Endpoints", *objects.key(obj)[1:])


def _is_mirrored(found: Obj, service: Obj) -> bool:
    return not (
        objects.is_deleting(found)
        or objects.is_deleting(service)
        or service["spec"].get("selector")
        or service["spec"].get("type") == "ExternalName"
        or objects.labels(found).get(SKIP_MIRROR) == "true"
        or objects.annotation(found, _LEADER) is not None
    )


def _mine(view: View, ref: Ref) -> list[Obj]:
    found = view.index("EndpointSlice", "label", f"{ref.namespace}/{SERVICE_NAME}={ref.name}")
    mine = [one for one in found if objects.labels(one).get(MANAGED_BY) == COMPONENT]
    return sorted((one for one in mine if not objects.is_deleting(one)), key=objects.name)


def _group_of(slice_: Obj) -> _Group:
    return slice_["addressType"], tuple(sorted(_port(port) for port in slice_.get("ports") or ()))


def _port(port: Obj) -> Port:
    return Port(
        port.get("name") or "", port.get("protocol") or "TCP", port["port"], port.get("appProtocol") or ""
    )


def _groups(found: Obj) -> dict[_Group, list[Obj]]:
    groups: dict[_Group, dict[str, Obj]] = {}
    for subset in found.get("subsets") or ():
        ports = tuple(sorted(_port(port) for port in subset.get("ports") or ()))
        rows = [(one, True) for one in subset.get("addresses") or ()]
        rows += [(one, False) for one in subset.get("notReadyAddresses") or ()]
        for address, ready in rows[:PER_SUBSET]:
            family = f"IPv{ip_address(address['ip']).version}"
            groups.setdefault((family, ports), {}).setdefault(address["ip"], _endpoint(address, ready))
    return {group: list(endpoints.values()) for group, endpoints in groups.items()}


def _endpoint(address: Obj, ready: bool) -> Obj:
    made: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for word in ("hostname", "nodeName", "targetRef"):
        if address.get(word):
            made[word] = address[word]
    return made


def _slice(found: Obj, group: _Group, endpoints: list[Obj], metadata: Obj) -> Obj:
    labels = {**objects.labels(found), SERVICE_NAME: objects.name(found), MANAGED_BY: COMPONENT}
    annotations = {
        word: text
        for word, text in (found["metadata"].get("annotations") or {}).items()
        if word not in _OWN_ANNOTATIONS
    }
    kept = {word: value for word, value in metadata.items() if word != "annotations"}
    if annotations:
        kept["annotations"] = annotations
    kept |= {"labels": labels, "ownerReferences": [objects.owner_reference(found)]}
    kept.setdefault("generateName", f"{objects.name(found)}-")
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": kept,
        "addressType": group[0],
        "endpoints": endpoints,
        "ports": [port.json() for port in group[1]],
    }
