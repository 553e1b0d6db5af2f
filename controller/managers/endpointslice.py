"""Services with a selector -> EndpointSlices of each of their families, with few changes of slices.

Pods with equal ports share slices of at most 100 endpoints. An endpoint stays in the slice it is in;
a pod that goes or changes touches one slice, a new one goes where there is room, preferring a slice
that changes anyway (upstream's order, KEP-0752). The v1 Endpoints beside it: ``endpoints``. The
annotation endpoints.kubernetes.io/last-change-trigger-time is left out: it would write every slice
that only a clock has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controller.api import objects
from controller.api.objects import Obj
from controller.managers import names
from controller.managers.endpoint import (
    HEADLESS_LABEL,
    MANAGED_BY,
    SERVICE_NAME,
    ZONE,
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

COMPONENT = "endpointslice-controller.k8s.io"
PER_SLICE = 100
_RESERVED = (SERVICE_NAME, MANAGED_BY, HEADLESS_LABEL)


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Bring the slices of one Service up to date."""
    service = view.get("Service", ref.namespace, ref.name)
    mine = _mine(view, ref)
    if service is None:
        return [delete(one) for one in mine]
    if objects.is_deleting(service) or not has_endpoints(service):
        return []
    changes: list[Change] = []
    families = service["spec"].get("ipFamilies") or [family_of(service)]
    for family in families:
        kept = [one for one in mine if one["addressType"] == family]
        changes += _of_family(view, service, family, kept)
    changes += [delete(one) for one in mine if one["addressType"] not in families]
    return changes


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The Services that a change of any object concerns; a slice meddled with is put right."""
    obj = new or old
    if obj is not None and obj["kind"] == "EndpointSlice":
        if objects.labels(obj).get(MANAGED_BY) == COMPONENT:
            yield Ref("Service", objects.namespace(obj), objects.labels(obj).get(SERVICE_NAME, ""))
        return
    yield from service_refs(view, old, new)


def _mine(view: View, ref: Ref) -> list[Obj]:
    found = view.index("EndpointSlice", "label", f"{ref.namespace}/{SERVICE_NAME}={ref.name}")
    mine = [
        one
        for one in found
        if objects.labels(one).get(MANAGED_BY) == COMPONENT and not objects.is_deleting(one)
    ]
    return sorted(mine, key=lambda one: str(one["metadata"]["name"]))


def _endpoint(view: View, service: Obj, endpoint: Endpoint) -> Obj:
    pod = endpoint.pod
    serving, terminating = objects.is_ready(pod), objects.is_deleting(pod)
    made: Obj = {
        "addresses": [endpoint.address],
        "conditions": {
            "ready": published_anyway(service) or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": endpoint.target,
    }
    if endpoint.hostname:
        made["hostname"] = endpoint.hostname
    node_name = pod["spec"].get("nodeName")
    if node_name:
        made["nodeName"] = node_name
        node = view.get("Node", "", node_name)
        zone = objects.labels(node).get(ZONE) if node else None
        if zone:
            made["zone"] = zone
    hints = _hints(service, made)
    return made | ({"hints": hints} if hints else {})


def _hints(service: Obj, endpoint: Obj) -> Obj:
    """Whom a ready endpoint is for, as ``trafficDistribution`` wishes: its own zone, or node and zone."""
    wish = service["spec"].get("trafficDistribution")
    if wish not in ("PreferClose", "PreferSameZone", "PreferSameNode") or not endpoint["conditions"]["ready"]:
        return {}
    hints: Obj = {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if wish == "PreferSameNode" and endpoint.get("nodeName"):
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return hints


@dataclass
class _Slice:
    """A slice being rewritten: ``held`` are its endpoints, by pod."""

    obj: Obj
    held: dict[str, Obj] = field(default_factory=dict)
    changed: bool = False


def _who(endpoint: Obj) -> str:
    target = endpoint.get("targetRef") or {}
    return f"{target.get('uid')}/{target.get('name')}/{(endpoint.get('addresses') or [''])[0]}"


def _of_family(view: View, service: Obj, family: str, existing: Sequence[Obj]) -> list[Change]:
    wanted: dict[tuple[Port, ...], dict[str, Obj]] = {}
    for endpoint in endpoints_of(view, service, family):
        made = _endpoint(view, service, endpoint)
        wanted.setdefault(endpoint.ports, {})[_who(made)] = made
    if not wanted:
        wanted[()] = {}  # a Service without endpoints has one empty slice: "nobody", not "not known yet"
    by_ports: dict[tuple[Port, ...], list[_Slice]] = {}
    obsolete: list[Obj] = []
    for one in existing:
        ports = tuple(
            Port(port.get("name") or "", port["protocol"], port["port"], port.get("appProtocol") or "")
            for port in one.get("ports") or ()
        )
        if ports in wanted:
            by_ports.setdefault(ports, []).append(_Slice(one))
        else:
            obsolete.append(one)
    taken = {objects.name(one) for one in existing}
    made_changes: list[Change] = []
    updates: list[Change] = []
    for ports, endpoints in wanted.items():
        created, updated, empty = _pack(service, family, ports, endpoints, by_ports.get(ports, []), taken)
        made_changes += created
        updates += updated
        obsolete += empty
    return [*made_changes, *updates, *(delete(one) for one in obsolete)]


def _pack(
    service: Obj,
    family: str,
    ports: tuple[Port, ...],
    endpoints: dict[str, Obj],
    slices: list[_Slice],
    taken: set[str],
) -> tuple[list[Change], list[Change], list[Obj]]:
    """Distribute endpoints with equal ports: (creations, updates, slices that became empty)."""
    missing = dict(endpoints)
    for one in slices:
        for endpoint in one.obj.get("endpoints") or ():
            who = _who(endpoint)
            new = missing.pop(who, None)
            if new is None:
                one.changed = True
                continue
            one.held[who] = new
            one.changed = one.changed or new != endpoint
    # Fill the slices that change anyway, then the fullest with room for the rest, then new ones.
    for one in sorted(slices, key=lambda one: (not one.changed, -len(one.held))):
        if not missing:
            break
        if not one.changed and len(one.held) + len(missing) > PER_SLICE:
            continue
        _fill(one, missing)
    created: list[Change] = []
    if not endpoints and not slices:
        created.append(Create(_new(service, family, ports, {}, taken)))
    while missing:
        fresh = _Slice({})
        _fill(fresh, missing)
        created.append(Create(_new(service, family, ports, fresh.held, taken)))
    updated: list[Change] = []
    empty: list[Obj] = []
    for number, one in enumerate(slices):
        if not one.held and (endpoints or number):
            empty.append(one.obj)
        elif update := _updated(service, one):
            updated.append(update)
    return created, updated, empty


def _fill(one: _Slice, missing: dict[str, Obj]) -> None:
    for who in list(missing)[: max(PER_SLICE - len(one.held), 0)]:
        one.held[who] = missing.pop(who)
        one.changed = True


def _sorted(held: dict[str, Obj]) -> list[Obj]:
    return sorted(held.values(), key=lambda endpoint: (endpoint["targetRef"]["name"], endpoint["addresses"]))


def _labels(service: Obj) -> dict[str, str]:
    labels = {word: text for word, text in objects.labels(service).items() if word not in _RESERVED}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    return {**labels, SERVICE_NAME: objects.name(service), MANAGED_BY: COMPONENT}


def _new(service: Obj, family: str, ports: tuple[Port, ...], held: dict[str, Obj], taken: set[str]) -> Obj:
    prefix = f"{objects.name(service)}-"
    seed = (objects.namespace(service), objects.name(service), family, ports)
    name, _ = names.generate(prefix, *seed, taken=taken.__contains__)
    taken.add(name)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "generateName": prefix,
            "namespace": objects.namespace(service),
            "labels": _labels(service),
            "ownerReferences": [objects.owner_reference(service)],
        },
        "addressType": family,
        "endpoints": _sorted(held),
        "ports": [port.json() for port in ports],
    }


def _updated(service: Obj, one: _Slice) -> Update | None:
    old, labels = one.obj, _labels(service)
    owner = [objects.owner_reference(service)]
    if not one.changed and objects.labels(old) == labels and objects.owners(old) == owner:
        return None
    metadata = {**old["metadata"], "labels": labels, "ownerReferences": owner}
    return Update({**old, "metadata": metadata, "endpoints": _sorted(one.held)})
