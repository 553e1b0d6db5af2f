"""What a lab is given in place of a real cluster's objects. Pure.

    theirs (trimmed)                     ours
    Pod with an address on a node   ->   Pod of echo stand-ins, pinned to that node's counterpart
    Service                         ->   the same Service, without its selector
    EndpointSlice                   ->   the same slice, addresses and nodes exchanged for their counterparts

Why the slices and not the selectors: a real kube-proxy is told by EndpointSlices alone, with every ready,
serving and terminating, hint and zone in them, whoever wrote them. The mirror hands the same to ours, and
because a Service without a selector has no slices made for it, nothing in the lab argues with that. A
pod's readiness is therefore the source's, and never guessed from a stand-in.

Of a pod nothing is kept that could be a secret or could run: no env, command, args, volumes, probes or
annotations. ``trim`` drops them as soon as they are read. Talking to either API is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from controller.api import objects
from controller.api.objects import Key, Obj
from controller.api.wiring import ANNOTATION, MIRROR, NODE_PORTS, RANGES, SCHEDULER, WEIGHT
from topo.images.table import find

KINDS = ("Service", "EndpointSlice", "Pod", "Node")
MIRRORS = ANNOTATION + "mirrors"
"""On everything that was made here: what it is there. A node's name, a pod's or a Service's addresses."""
MIRRORED_UID = ANNOTATION + "mirrored-uid"
SELECTOR = ANNOTATION + "mirrored-selector"
NOT_PLAYED = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces of a cluster's own machinery: the lab has its own API server, DNS and kube-proxy."""
CONTROL_PLANE_SERVICE = ("default", "kubernetes")
STAND_IN = "podwire/echo"
ZONE = "topology.kubernetes.io/zone"
NODE_LABELS = (
    ZONE,
    "topology.kubernetes.io/region",
    "node.kubernetes.io/exclude-from-external-load-balancers",
)
_PENDING = "none.podwire.dev/pending"
"""A loadBalancerClass that is not the lab's cloud's: without an address there, without one here."""
_MANAGED_BY, _SERVICE_NAME = "endpointslice.kubernetes.io/managed-by", "kubernetes.io/service-name"
_LABS_PORTS = frozenset({("TCP", 6443), ("TCP", 10250), ("TCP", 10256)})
"""What the lab itself serves on its nodes."""
Port = tuple[str, int]
"""(protocol, number)"""
Name = tuple[str, str]
"""(namespace, name)"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The lab, as far as the objects on it depend on what came about there. ``pods``: those that serve, by
    name, with their address of each family; ``nodes``: our name for each of theirs."""

    families: tuple[str, ...] = ("IPv4",)
    nodes: Mapping[str, str] = field(default_factory=dict)
    node_addresses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)


# -- reading


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
        made["spec"] = _pick(spec, "nodeName", "hostNetwork", "hostname", "subdomain")
        sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
        made["spec"]["containers"] = [
            _pick(one, "name", "image", "ports") for one in (*(spec.get("containers") or ()), *sidecars)
        ]
        made["status"] = _pick(status, "phase", "podIP", "podIPs")
    elif kind == "Service":
        made["spec"], made["status"] = spec, _pick(status, "loadBalancer")
    elif kind == "EndpointSlice":
        made |= _pick(obj, "addressType", "endpoints", "ports")
    elif kind == "Node":
        made["status"] = _pick(status, "addresses")
    return made


def is_played(obj: Obj) -> bool:
    """Whether this object has a counterpart at all, nodes aside."""
    namespace = objects.namespace(obj)
    if namespace in NOT_PLAYED:
        return False
    if obj["kind"] == "Service":
        return (namespace, objects.name(obj)) != CONTROL_PLANE_SERVICE
    if obj["kind"] == "EndpointSlice":
        owner = namespace, objects.labels(obj).get(_SERVICE_NAME, "")
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


def node_addresses(node: Obj) -> list[str]:
    entries = objects.status(node).get("addresses") or ()
    return [str(entry["address"]) for entry in entries if entry["type"] in ("InternalIP", "ExternalIP")]


def service_of(piece: Obj) -> Name:
    """Whose slice it is."""
    return objects.namespace(piece), objects.labels(piece).get(_SERVICE_NAME, "")


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
            name = _pod_behind(endpoint, objects.namespace(one))
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


# -- making


def node_patch(node: Obj | None) -> Obj:
    """What one of the lab's Nodes is told of the one that it stands for; None: of nobody, any more."""
    labels = objects.labels(node) if node else {}
    name = objects.name(node) if node else None
    return {
        "metadata": {
            "labels": {word: labels.get(word) for word in NODE_LABELS},
            "annotations": {MIRRORS: name},
        }
    }


def pod(theirs: Obj, stage: Stage, ports: Iterable[Port]) -> Obj:
    """A pod of stand-ins; ``ports`` are those beside the declared ones. Its node must be on the stage."""
    spec = theirs["spec"]
    taken: set[Port] = set(_LABS_PORTS) if spec.get("hostNetwork") else set()
    containers = [_container(one, taken) for one in spec["containers"]]
    for protocol, number in sorted(set(ports) - taken):
        containers[0]["ports"].append({"containerPort": number, "protocol": protocol})
    made = _counterpart(theirs, addresses_of(theirs))
    made["metadata"]["annotations"][MIRRORED_UID] = objects.uid(theirs)
    made["spec"] = {
        "nodeName": stage.nodes[spec["nodeName"]],
        "containers": containers,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        **_pick(spec, "hostNetwork", "hostname", "subdomain"),
    }
    return made


def _container(theirs: Obj, taken: set[Port]) -> Obj:
    ports = []
    for port in theirs.get("ports") or ():
        at = port.get("protocol") or "TCP", int(port["containerPort"])
        if at in taken:
            continue
        taken.add(at)
        named = _pick(port, "name", *([] if port.get("hostIP") else ["hostPort"]))
        ports.append({"containerPort": at[1], "protocol": at[0], **named})
    image = theirs.get("image") or STAND_IN
    return {"name": theirs["name"], "image": image if find(image).stand_in else STAND_IN, "ports": ports}


_SERVICE_WORDS = (
    "type", "externalName", "sessionAffinity", "sessionAffinityConfig", "internalTrafficPolicy",
    "externalTrafficPolicy", "publishNotReadyAddresses", "trafficDistribution", "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
)  # fmt: skip


def service(theirs: Obj, stage: Stage, *, free: bool = False) -> Obj | None:
    """The Service at the same addresses and node ports where the lab has those; None if it is of a family
    that the lab has not. ``free``: addresses and ports as the lab chooses them."""
    spec = theirs["spec"]
    made = _counterpart(theirs, _virtual(spec))
    mine = made["spec"] = _pick(spec, *_SERVICE_WORDS)
    if spec.get("selector"):
        text = ",".join(f"{word}={value}" for word, value in sorted(spec["selector"].items()))
        made["metadata"]["annotations"][SELECTOR] = text
    ports = [_service_port(port, free=free) for port in spec.get("ports") or ()]
    if ports:
        mine["ports"] = ports
    outside = [_outside(address, stage) for address in spec.get("externalIPs") or ()]
    if any(outside):
        mine["externalIPs"] = [address for address in outside if address]
    if spec.get("type") == "ExternalName":
        return made
    families = [word for word in spec.get("ipFamilies") or ("IPv4",) if word in stage.families]
    if not families:
        return None
    mine["ipFamilies"] = families
    mine["ipFamilyPolicy"] = "SingleStack" if len(families) == 1 else "RequireDualStack"
    if spec.get("clusterIP") == "None":
        mine["clusterIP"] = "None"
    elif not free:
        mine |= _same_addresses(spec, families)
    if spec.get("type") == "LoadBalancer":
        mine |= _balancer(theirs, free=free)
    return made


def _service_port(port: Obj, *, free: bool) -> Obj:
    made = _pick(port, "name", "protocol", "port", "targetPort", "appProtocol")
    if not free and port.get("nodePort") in NODE_PORTS:
        made["nodePort"] = port["nodePort"]
    return made


def _virtual(spec: Obj) -> list[str]:
    found = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in found if address and address != "None"]


def _same_addresses(spec: Obj, families: list[str]) -> Obj:
    held = by_family(_virtual(spec))
    same = [
        held[word] for word in families if word in held and ip_address(held[word]) in RANGES[word].services
    ]
    return {"clusterIP": same[0], "clusterIPs": same} if len(same) == len(families) else {}


def _balancer(theirs: Obj, *, free: bool) -> Obj:
    entries = (objects.status(theirs).get("loadBalancer") or {}).get("ingress") or ()
    if not entries:
        return {"loadBalancerClass": _PENDING}
    made: Obj = {}
    asked = str(entries[0].get("ip") or "")
    if not free and asked and ip_address(asked) in RANGES[family_of(asked)].load_balancers:
        made["loadBalancerIP"] = asked
    check = theirs["spec"].get("healthCheckNodePort")
    if not free and check in NODE_PORTS and theirs["spec"].get("externalTrafficPolicy") == "Local":
        made["healthCheckNodePort"] = check
    return made


def endpoint_slice(theirs: Obj, stage: Stage) -> Obj | None:
    """The slice with our addresses; an endpoint whose stand-in does not serve yet is left out."""
    family = theirs["addressType"]
    if family not in stage.families:
        return None
    made = _counterpart(theirs, ())
    made["metadata"]["labels"] = {**objects.labels(theirs), _MANAGED_BY: "mirror.podwire.dev"}
    endpoints = (
        _endpoint(one, objects.namespace(theirs), family, stage) for one in theirs.get("endpoints") or ()
    )
    made |= {"addressType": family, "endpoints": [one for one in endpoints if one]}
    if theirs.get("ports"):
        made["ports"] = theirs["ports"]
    return made


def _endpoint(theirs: Obj, namespace: str, family: str, stage: Stage) -> Obj | None:
    name = _pod_behind(theirs, namespace)
    if name:
        address = stage.pods.get(name, {}).get(family)
        addresses = [address] if address else []
    else:
        found = (_outside(address, stage) for address in theirs.get("addresses") or ())
        addresses = [address for address in found if address]
    if not addresses:
        return None
    made = {"addresses": addresses, **_pick(theirs, "conditions", "hostname", "zone", "hints")}
    if name:
        made["targetRef"] = {"kind": "Pod", "namespace": name[0], "name": name[1]}
    if theirs.get("nodeName") in stage.nodes:
        made["nodeName"] = stage.nodes[theirs["nodeName"]]
    nodes = (theirs.get("hints") or {}).get("forNodes")
    if nodes:
        ours = [{"name": stage.nodes[one["name"]]} for one in nodes if one["name"] in stage.nodes]
        made["hints"] = {**theirs["hints"], "forNodes": ours}
    return made


def _pod_behind(endpoint: Obj, namespace: str) -> Name | None:
    target = endpoint.get("targetRef") or {}
    if target.get("kind") != "Pod":
        return None
    return target.get("namespace") or namespace, target.get("name") or ""


def _outside(address: str, stage: Stage) -> str:
    """Our counterpart of an address that is no pod's: a node's, else the same, unless it means something
    else in the lab ("")."""
    family = family_of(address)
    ours = stage.node_addresses.get(address)
    if ours is not None:
        return ours.get(family, "")
    ranges, meant = RANGES[family], ip_address(address)
    taken = (ranges.nodes, ranges.pods, ranges.services, ranges.load_balancers, ranges.outside)
    return "" if any(meant in net for net in taken) else address


def namespaces(made: Mapping[Key, Obj]) -> dict[Key, Obj]:
    """The Namespaces that these objects need."""
    names = sorted({at.namespace for at in made} - {"default"})
    return {
        Key("Namespace", "", name): {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in names
    }


def _counterpart(theirs: Obj, addresses: Iterable[str]) -> Obj:
    metadata: dict[str, Any] = _pick(theirs["metadata"], "name", "namespace", "labels")
    notes = {w: t for w, t in (theirs["metadata"].get("annotations") or {}).items() if w != MIRROR}
    metadata["annotations"] = {**notes, MIRRORS: ",".join(addresses)}
    return {"apiVersion": theirs["apiVersion"], "kind": theirs["kind"], "metadata": metadata}


def _pick(data: Mapping[str, Any], *words: str) -> dict[str, Any]:
    return {word: data[word] for word in words if data.get(word) not in (None, "", [], {})}
