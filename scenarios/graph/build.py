"""Objects in, graph out: which workloads there are, and which Services their containers name. Pure.

An edge needs a reason that would convince a reader: the value is an address (host:port, a URL, a full
name), or it is a Service's name and its variable is called a host's. Anything else is no edge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.api.objects import Obj, matches
from scenarios.graph import model, values
from scenarios.graph.model import Doubt, Edge, Graph, Port, Reason, Service, Workload
from scenarios.graph.names import Meant, Names
from scenarios.graph.values import Address
from scenarios.graph.variables import Missing, Teller, Told

WORKLOADS = (
    "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "Pod",
)  # fmt: skip
READ = (*WORKLOADS, "Service", "Ingress", "ConfigMap", "Secret", "Namespace")
"""The kinds that a graph is made of."""

_USUAL_PORTS = frozenset({22, 25, 53, 80, 110, 143, 389, 443, 465, 587, 636, 993, 995})


def build(objects: Iterable[Obj]) -> Graph:
    """The graph of a set of objects; what another object made (a Deployment's pods) is left out."""
    known = [_placed(obj) for obj in objects if obj["kind"] in READ]
    makers = [obj for obj in known if obj["kind"] in WORKLOADS and not _owned(obj)]
    makers.sort(key=lambda obj: (obj["metadata"]["namespace"], obj["metadata"]["name"], obj["kind"]))
    names = Names.of(
        (obj for obj in known if obj["kind"] == "Service"),
        (obj["metadata"]["name"] for obj in known if obj["kind"] == "Namespace"),
    )
    services = {key: _service(obj, makers) for key, obj in sorted(names.services.items())}
    builder = _Builder(names, services, Teller(known))
    for maker in makers:
        builder.read(maker)
    ingresses = [obj for obj in known if obj["kind"] == "Ingress"]
    for ingress in ingresses:
        builder.rules(ingress)
    builder.selectors(makers)
    edges = model.merged(builder.edges)
    reached = {edge.target for edge in edges}
    shown = [s for s in services.values() if s.id != "Service default/kubernetes" or s.id in reached]
    outside = {edge.target for edge in edges if edge.target.startswith("outside ")}
    outside |= {f"outside {service.outside}" for service in shown if service.outside}
    return Graph(
        workloads=tuple(_workload(obj) for obj in (*makers, *ingresses)),
        services=tuple(shown),
        outside=tuple(sorted(word.removeprefix("outside ") for word in outside)),
        edges=edges,
        warnings=tuple(dict.fromkeys(builder.doubts)),
    )


def _placed(obj: Obj) -> Obj:
    metadata = obj["metadata"]
    return obj if metadata.get("namespace") else {**obj, "metadata": {**metadata, "namespace": "default"}}


def _owned(obj: Obj) -> bool:
    return any(owner.get("controller") for owner in obj["metadata"].get("ownerReferences") or ())


def _workload(obj: Obj) -> Workload:
    spec = (_template(obj).get("spec") or {}) if obj["kind"] in WORKLOADS else {}
    replicas = (
        (obj.get("spec") or {}).get("replicas", 1) if obj["kind"] in WORKLOADS[:2] + WORKLOADS[3:5] else None
    )
    return Workload(
        kind=obj["kind"],
        namespace=obj["metadata"]["namespace"],
        name=obj["metadata"]["name"],
        replicas=replicas,
        images=tuple(dict.fromkeys(c.get("image", "") for c in spec.get("containers") or ())),
        main=next((c.get("name", "") for c in spec.get("containers") or ()), ""),
    )


def _template(obj: Obj) -> Obj:
    """The pod that a workload makes, with its namespace."""
    spec = obj.get("spec") or {}
    if obj["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    made = obj if obj["kind"] == "Pod" else spec.get("template") or {}
    place = {"namespace": obj["metadata"]["namespace"], "name": obj["metadata"]["name"]}
    return {"metadata": {**(made.get("metadata") or {}), **place}, "spec": made.get("spec") or {}}


def _service(obj: Obj, makers: list[Obj]) -> Service:
    spec, metadata = obj["spec"], obj["metadata"]
    external = spec.get("type") == "ExternalName"
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        type=spec.get("type") or "ClusterIP",
        headless=spec.get("clusterIP") == "None",
        ports=tuple(
            Port(number=p["port"], name=p.get("name") or "", protocol=p.get("protocol") or "TCP")
            for p in spec.get("ports") or ()
        ),
        backends=tuple(_id(maker) for maker in makers if _selects(obj, maker)),
        outside=spec.get("externalName") or "" if external else "",
    )


def _selects(service: Obj, maker: Obj) -> bool:
    selector = service["spec"].get("selector")
    return (
        bool(selector)
        and service["metadata"]["namespace"] == maker["metadata"]["namespace"]
        and matches(selector, _template(maker)["metadata"].get("labels"))
    )


def _id(obj: Obj) -> str:
    return f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}"


class _Builder:
    """Collects edges and doubts, workload by workload."""

    def __init__(self, names: Names, services: Mapping[tuple[str, str], Service], teller: Teller) -> None:
        self._names, self._services, self._teller = names, services, teller
        self.edges: list[Edge] = []
        self.doubts: list[Doubt] = []

    def read(self, maker: Obj) -> None:
        pod = _template(maker)
        aliases = {
            name for alias in pod["spec"].get("hostAliases") or () for name in alias.get("hostnames") or ()
        }
        for word in ("initContainers", "containers"):
            for container in pod["spec"].get(word) or ():
                told = list(self._teller.told(pod, container))
                texts = [one for one in told if isinstance(one, Told)]
                for one in told:
                    if isinstance(one, Missing):
                        text = f"container {container['name']} needs {one.what}, which nobody has"
                        self.doubts.append(Doubt(kind="missing", about=_id(maker), text=text))
                for one in texts:
                    for address in _addresses(one, texts):
                        if address.host not in aliases:
                            self._address(maker, container["name"], one, address)

    def _address(self, maker: Obj, container: str, told: Told, address: Address) -> None:
        namespace = maker["metadata"]["namespace"]
        meant = self._names.meant(address.host, namespace)
        reason = Reason(container=container, name=told.name, origin=told.origin, said=address.said)
        if meant.service:
            self._to_service(maker, self._services[meant.service], told, address, reason)
        elif meant.outside and self._goes_outside(told, address):
            edge = Edge(
                source=_id(maker),
                target=f"outside {address.host}",
                hosts=(address.host,),
                port=address.port,
                reasons=(reason,),
            )
            self.edges.append(edge)
        elif meant.unknown and _is_surely_an_address(told, address, meant):
            text = f"{_where(told)} names {address.said}, and no Service has that name"
            if meant.elsewhere:
                name = address.host.split(".")[0]
                text += f" here (there is {', '.join(f'{name}.{space}' for space in meant.elsewhere)})"
            self.doubts.append(Doubt(kind="unknown", about=_id(maker), text=text))

    def _to_service(self, maker: Obj, service: Service, told: Told, address: Address, reason: Reason) -> None:
        bare = address.form == "name" and "." not in address.host
        if bare and not values.is_host_word(told.name) and not _is_called(told.name, address.host):
            return
        if bare and address.port is None and _id(maker) in service.backends:
            return  # SERVICE=cart in cart says who it is
        port = None if address.port is None else service.port(address.port)
        has = ", ".join(f"{p.number} ({p.name})" if p.name else str(p.number) for p in service.ports)
        if address.form == "text" and address.port is not None and port is None:
            return
        if address.port is not None and port is None and service.ports and not service.headless:
            text = f"{_where(told)} names {address.said}, the Service has {has}"
            if address.implied:
                text = f"{_where(told)} names {address.said} without a port ({address.port} by default), "
                text += f"the Service has {has}"
            self.doubts.append(Doubt(kind="port", about=_id(maker), text=text))
        only = service.ports[0] if address.port is None and len(service.ports) == 1 else port
        edge = Edge(
            source=_id(maker),
            target=service.id,
            hosts=(address.host,),
            port=address.port or (only.number if only else None),
            port_name=only.name if only else "",
            protocol=only.protocol if only else "TCP",
            reasons=(reason,),
        )
        self.edges.append(edge)

    def _goes_outside(self, told: Told, address: Address) -> bool:
        if address.form == "url":
            return not told.text
        return address.form == "pair" or (address.form == "name" and values.is_host_word(told.name))

    def rules(self, ingress: Obj) -> None:
        """An Ingress sends requests to Services by name, and says so in a field of its own."""
        for said, backend in _backends(ingress["spec"]):
            wanted = backend.get("service")
            if not wanted:
                continue  # a resource of another kind
            namespace, name = ingress["metadata"]["namespace"], wanted.get("name", "")
            port = wanted.get("port") or {}
            service = self._services.get((namespace, name))
            if service is None:
                text = f"rule {said} names Service {name}, which nobody has"
                self.doubts.append(Doubt(kind="unknown", about=_id(ingress), text=text))
                continue
            found = next((p for p in service.ports if port in ({"number": p.number}, {"name": p.name})), None)
            if found is None:
                asked = port.get("name") or port.get("number")
                has = ", ".join(str(p.number) for p in service.ports)
                text = f"rule {said} names port {asked} of Service {name}, the Service has {has}"
                self.doubts.append(Doubt(kind="port", about=_id(ingress), text=text))
            edge = Edge(
                source=_id(ingress),
                target=service.id,
                hosts=(name,),
                port=found.number if found else port.get("number"),
                port_name=found.name if found else "",
                reasons=(Reason(container="", name=said, origin="rules", said=name),),
            )
            self.edges.append(edge)

    def selectors(self, makers: list[Obj]) -> None:
        """Services that lead nowhere: nobody is selected, or nobody has the port they lead to."""
        for key, service in self._services.items():
            spec = self._names.services[key]["spec"]
            if not spec.get("selector") or service.outside:
                continue
            if not service.backends:
                text = "its selector selects the pods of no workload"
                self.doubts.append(Doubt(kind="selector", about=service.id, text=text))
            for port in spec.get("ports") or ():
                target = port.get("targetPort", port["port"])
                for maker in makers:
                    if _id(maker) in service.backends and not _has_port(maker, target):
                        text = f"its port {port['port']} leads to port {target}, which no container of "
                        text += f"{maker['kind']} {maker['metadata']['name']} declares"
                        self.doubts.append(Doubt(kind="port", about=service.id, text=text))


def _addresses(told: Told, around: list[Told]) -> Iterator[Address]:
    """What one text says; a host without a port gets that of the variable beside it."""
    for address in values.addresses(told.value):
        if told.text and address.form not in ("url", "text"):
            continue
        if address.port is None and address.form in ("name", "pair") and told.name:
            yield _with_port(address, told.name, around)
        else:
            yield address


def _with_port(address: Address, name: str, around: list[Told]) -> Address:
    for wanted in values.ports_beside(name):
        for other in around:
            if values.words_of(other.name) == wanted and other.value.isdigit() and len(wanted) > 1:
                number = int(other.value)
                return Address(host=address.host, port=number if 0 < number < 65536 else None, form="name")
    return address


def _is_surely_an_address(told: Told, address: Address, meant: Meant) -> bool:
    """A word before a colon and a number may be anything (an image's tag, a ratio); this is a host."""
    if told.text or address.form == "text":
        return False
    if address.form == "url" or ".svc" in address.host or values.is_host_word(told.name):
        return address.form != "name" or address.port is not None or ".svc" in address.host
    port = address.port or 0
    return bool(re.match("[A-Za-z]", address.host)) and (port >= 1024 or port in _USUAL_PORTS)


def _is_called(variable: str, service: str) -> bool:
    """REDIS=redis."""
    return values.words_of(variable) == values.words_of(service)


def _where(told: Told) -> str:
    if told.origin in ("args", "command"):
        return " ".join(filter(None, (told.origin, told.name)))
    return f"{'file' if told.text else 'env'} {told.name}" + (f" (of {told.origin})" if told.origin else "")


def _backends(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if spec.get("defaultBackend"):
        yield "default", spec["defaultBackend"]
    for rule in spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            yield f"{rule.get('host') or '*'}{path.get('path') or '/'}", path["backend"]


def _has_port(maker: Obj, target: int | str) -> bool:
    spec = _template(maker)["spec"]
    ports = [p for c in spec.get("containers") or () for p in c.get("ports") or ()]
    return any(target in (p.get("containerPort"), p.get("name")) for p in ports)
