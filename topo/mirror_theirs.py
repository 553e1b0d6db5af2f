"""What a real cluster's objects say, as far as it is played. Pure.

``trim`` drops everything else as soon as it is read: of a pod nothing is kept that could be a secret or
could run, no env, command, args, volumes, probes or annotations. What becomes of an object in the lab is
``mirror_objects``'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import MIRROR, SCHEDULER, WEIGHT

KINDS = ("Service", "EndpointSlice", "Pod", "Node")
NOT_PLAYED = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces of a cluster's own machinery: the lab has its own API server, DNS and kube-proxy."""
CONTROL_PLANE_SERVICE = ("default", "kubernetes")
SERVICE_NAME = "kubernetes.io/service-name"
Port = tuple[str, int]
"""(protocol, number)"""
Name = tuple[str, str]
"""(namespace, name)"""


def trim(obj: Obj) -> Obj:
    """Only what is played. Anything else, a pod's environment above all, is not even kept in memory."""
    metadata, kind = obj.get("metadata") or {}, obj.get("kind")
    notes = metadata.get("annotations") or {}
    kept = {word: notes[word] for word in (MIRROR, SCHEDULER, WEIGHT) if word in notes}
    words = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp", "labels")
    made: Obj = {word: obj[word] for word in ("kind", "apiVersion") if word in obj}
    made["metadata"] = {word: metadata[word] for word in words if metadata.get(word)}
    if kept:
        made["metadata"]["annotations"] = kept
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if kind == "Pod":
        made["spec"] = pick(spec, "nodeName", "hostNetwork", "hostname", "subdomain")
        sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
        made["spec"]["containers"] = [
            pick(one, "name", "image", "ports") for one in (*(spec.get("containers") or ()), *sidecars)
        ]
        made["status"] = pick(status, "phase", "podIP", "podIPs")
    elif kind == "Service":
        made["spec"], made["status"] = spec, pick(status, "loadBalancer")
    elif kind == "EndpointSlice":
        made |= pick(obj, "addressType", "endpoints", "ports")
    elif kind == "Node":
        made["status"] = pick(status, "addresses")
    return made


def is_played(obj: Obj) -> bool:
    """Whether this object has a counterpart at all, nodes aside."""
    namespace = objects.namespace(obj)
    if namespace in NOT_PLAYED:
        return False
    if obj["kind"] == "Service":
        return (namespace, objects.name(obj)) != CONTROL_PLANE_SERVICE
    if obj["kind"] == "EndpointSlice":
        owner = namespace, objects.labels(obj).get(SERVICE_NAME, "")
        return owner != CONTROL_PLANE_SERVICE and obj.get("addressType") != "FQDN"
    spec, status = objects.spec(obj), objects.status(obj)
    return (
        obj["kind"] == "Pod"
        and bool(spec.get("nodeName") and addresses_of(obj))
        and status.get("phase") not in ("Succeeded", "Failed")
        and objects.annotation(obj, MIRROR) is None
    )


def addresses_of(pod: Obj) -> list[str]:
    status = objects.status(pod)
    first = [status["podIP"]] if status.get("podIP") else []
    return [entry["ip"] for entry in status.get("podIPs") or ()] or first


def family_of(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def by_family(addresses: Iterable[str]) -> dict[str, str]:
    """The first address of each family."""
    found: dict[str, str] = {}
    for address in addresses:
        found.setdefault(family_of(address), address)
    return found


def node_addresses(node: Obj | None) -> list[str]:
    entries = objects.status(node or {}).get("addresses") or ()
    return [str(entry["address"]) for entry in entries if entry["type"] in ("InternalIP", "ExternalIP")]


def service_of(piece: Obj) -> Name:
    """Whose slice it is."""
    return objects.namespace(piece), objects.labels(piece).get(SERVICE_NAME, "")


def ports_by_pod(slices: Iterable[Obj]) -> dict[Name, set[Port]]:
    """Where the slices lead, pod by pod: many pods listen on ports that they never declare."""
    found: dict[Name, set[Port]] = {}
    for one in slices:
        ports = {
            (port.get("protocol") or "TCP", int(port["port"]))
            for port in one.get("ports") or ()
            if port.get("port")
        }
        for endpoint in one.get("endpoints") or ():
            name = pod_behind(endpoint, objects.namespace(one))
            if name:
                found.setdefault(name, set()).update(ports)
    return found


def ports_by_selector(pod: Obj, services: Iterable[Obj]) -> set[Port]:
    """Where the Services of its namespace will lead once their slices know the pod."""
    found: set[Port] = set()
    for service in services:
        selector = service["spec"].get("selector") or {}
        if selector and selector.items() <= objects.labels(pod).items():
            for port in service["spec"].get("ports") or ():
                target = port.get("targetPort") or port["port"]
                if isinstance(target, int):
                    found.add((port.get("protocol") or "TCP", target))
    return found


def pod_behind(endpoint: Obj, namespace: str) -> Name | None:
    """Whose address it is."""
    target = endpoint.get("targetRef") or {}
    if target.get("kind") != "Pod":
        return None
    return target.get("namespace") or namespace, target.get("name") or ""


def pick(data: Mapping[str, Any], *words: str) -> dict[str, Any]:
    """Of these words those that say something."""
    return {word: data[word] for word in words if data.get(word) not in (None, "", [], {})}
