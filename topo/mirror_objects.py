"""What a lab is given in place of a real cluster's objects. Pure.

    theirs (trimmed)                     ours
    Pod with an address on a node   ->   Pod of echo stand-ins, pinned to that node's counterpart
    Service                         ->   the same Service, without its selector
    EndpointSlice                   ->   the same slice, addresses and nodes exchanged for their counterparts

Why the slices and not the selectors: a real kube-proxy is told by EndpointSlices alone, with every ready,
serving and terminating, hint and zone in them, whoever wrote them. The mirror hands the same to ours, and
because a Service without a selector has no slices made for it, nothing in the lab argues with that. A
pod's readiness is therefore the source's, and never guessed from a stand-in.

What of theirs is looked at stands in ``mirror_theirs``; talking to either API is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from controller.api import objects
from controller.api.objects import Key, Obj
from controller.api.wiring import ANNOTATION, MIRROR, NODE_PORTS, RANGES
from topo.images.table import find
from topo.mirror_theirs import Name, Port, addresses_of, by_family, family_of, pick, pod_behind

MIRRORS = ANNOTATION + "mirrors"
"""On everything that was made here: what it is there. A node's name, a pod's or a Service's addresses."""
MIRRORED_UID = ANNOTATION + "mirrored-uid"
SELECTOR = ANNOTATION + "mirrored-selector"
STAND_IN = "podwire/echo"
NODE_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/exclude-from-external-load-balancers",
)
_PENDING = "none.podwire.dev/pending"
"""A loadBalancerClass that is not the lab's cloud's: without an address there, without one here."""
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_LABS_PORTS = frozenset({("TCP", 6443), ("TCP", 10250), ("TCP", 10256)})
"""What the lab itself serves on its nodes."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The lab, as far as the objects on it depend on what came about there. ``pods``: those that serve, by
    name, with their address of each family; ``nodes``: our name for each of theirs."""

    families: tuple[str, ...] = ("IPv4",)
    nodes: Mapping[str, str] = field(default_factory=dict)
    node_addresses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)


def node_patch(name: str, theirs: Obj | None) -> Obj:
    """What one of the lab's Nodes is told of the one that it stands for ("": of nobody, any more), which may
    not be known but by its name."""
    labels = objects.labels(theirs) if theirs else {}
    return {
        "metadata": {
            "labels": {word: labels.get(word) for word in NODE_LABELS},
            "annotations": {MIRRORS: name or None},
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
        **pick(spec, "hostNetwork", "hostname", "subdomain"),
    }
    return made


def _container(theirs: Obj, taken: set[Port]) -> Obj:
    ports = []
    for port in theirs.get("ports") or ():
        at = port.get("protocol") or "TCP", int(port["containerPort"])
        if at in taken:
            continue
        taken.add(at)
        named = pick(port, "name", *([] if port.get("hostIP") else ["hostPort"]))
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
    mine = made["spec"] = pick(spec, *_SERVICE_WORDS)
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
    made = pick(port, "name", "protocol", "port", "targetPort", "appProtocol")
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
    name = pod_behind(theirs, namespace)
    if name:
        address = stage.pods.get(name, {}).get(family)
        addresses = [address] if address else []
    else:
        found = (_outside(address, stage) for address in theirs.get("addresses") or ())
        addresses = [address for address in found if address]
    if not addresses:
        return None
    made = {"addresses": addresses, **pick(theirs, "conditions", "hostname", "zone", "hints")}
    if name:
        made["targetRef"] = {"kind": "Pod", "namespace": name[0], "name": name[1]}
    if theirs.get("nodeName") in stage.nodes:
        made["nodeName"] = stage.nodes[theirs["nodeName"]]
    nodes = (theirs.get("hints") or {}).get("forNodes")
    if nodes:
        ours = [{"name": stage.nodes[one["name"]]} for one in nodes if one["name"] in stage.nodes]
        made["hints"] = {**theirs["hints"], "forNodes": ours}
    return made


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
    metadata: dict[str, Any] = pick(theirs["metadata"], "name", "namespace", "labels")
    notes = {w: t for w, t in (theirs["metadata"].get("annotations") or {}).items() if w != MIRROR}
    metadata["annotations"] = {**notes, MIRRORS: ",".join(addresses)}
    return {"apiVersion": theirs["apiVersion"], "kind": theirs["kind"], "metadata": metadata}
