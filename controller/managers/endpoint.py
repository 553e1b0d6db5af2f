"""One pod as an endpoint of one Service: what EndpointSlices and Endpoints have in common.

Pure. Who belongs to a Service and with which ports is decided here; how endpoints are packed is the
business of ``endpointslice`` and ``endpoints``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.pods import by_name
from controller.managers.view import Ref, View, is_finished

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"


class Port(NamedTuple):
    """A Service port resolved on one pod. Hashable: pods with equal ports share a slice."""

    name: str
    protocol: str
    port: int
    app_protocol: str = ""

    def json(self) -> Obj:
        made: Obj = {"name": self.name, "protocol": self.protocol, "port": self.port}
        if self.app_protocol:
            made["appProtocol"] = self.app_protocol
        return made


class Endpoint(NamedTuple):
    """A pod's place behind a Service."""

    address: str
    ports: tuple[Port, ...]
    pod: Obj
    hostname: str

    @property
    def target(self) -> Obj:
        metadata = self.pod["metadata"]
        return {
            "kind": "Pod",
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        }


def has_endpoints(service: Obj) -> bool:
    """Whether a Service's endpoints are made here: it has a selector and is no mere DNS alias."""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def family_of(service: Obj) -> str:
    """The primary one."""
    return str((service["spec"].get("ipFamilies") or ["IPv4"])[0])


def is_headless(service: Obj) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def published_anyway(service: Obj) -> bool:
    return bool(service["spec"].get("publishNotReadyAddresses"))


def endpoints_of(view: View, service: Obj, family: str) -> Iterator[Endpoint]:
    """The pods behind a Service that have an address, by name; terminating ones included.

    Finished pods (Succeeded, Failed, evicted) are never endpoints, whatever the Service says.
    """
    namespace = objects.namespace(service)
    for pod in by_name(view.select("Pod", namespace, service["spec"]["selector"])):
        address = "" if is_finished(pod) else address_of(pod, family)
        if address:
            spec = pod["spec"]
            in_domain = spec.get("subdomain") == objects.name(service)
            hostname = spec.get("hostname", "") if in_domain else ""
            yield Endpoint(address, ports_on(service, pod), pod, hostname)


def address_of(pod: Obj, family: str) -> str:
    """The pod's address of a family, "" when it has none (yet)."""
    status = objects.status(pod)
    first = status.get("podIP")
    addresses = [entry["ip"] for entry in status.get("podIPs") or ()] or ([first] if first else [])
    wanted = 6 if family == "IPv6" else 4
    if len(addresses) == 1 and wanted == (6 if ":" in addresses[0] else 4):
        return str(addresses[0])
    return next((str(one) for one in addresses if ip_address(one).version == wanted), "")


def ports_on(service: Obj, pod: Obj) -> tuple[Port, ...]:
    """The Service's ports as numbers on this pod; a name the pod does not know is left out."""
    found: list[Port] = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort", port["port"])
        number = target if isinstance(target, int) else _named(pod, target, protocol)
        if number:
            found.append(Port(port.get("name") or "", protocol, number, port.get("appProtocol") or ""))
    return tuple(found)


def _named(pod: Obj, name: str, protocol: str) -> int:
    """The number of a named container port; sidecars (restartable init containers) count."""
    spec = pod["spec"]
    sidecars = (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")
    for container in (*spec["containers"], *sidecars):
        for port in container.get("ports") or ():
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return int(name) if name.isdigit() else 0


def same_for_endpoints(old: Obj, new: Obj) -> bool:
    """Whether a pod's change concerns no endpoint (a restart count, another condition)."""
    return (
        objects.labels(old) == objects.labels(new)
        and objects.is_deleting(old) == objects.is_deleting(new)
        and objects.is_ready(old) == objects.is_ready(new)
        and is_finished(old) == is_finished(new)
        and all(
            objects.status(old).get(word) == objects.status(new).get(word) for word in ("podIP", "podIPs")
        )
        and all(old["spec"].get(word) == new["spec"].get(word) for word in ("nodeName", "containers"))
    )


def service_refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """The Services whose endpoints a change of a Service or a pod may touch."""
    obj = new or old
    if obj is None:
        return
    if obj["kind"] == "Service":
        yield objects.key(obj)
    elif obj["kind"] == "Node":
        zones = {objects.labels(one).get(ZONE) for one in (old, new) if one}
        if len(zones) > 1 or (old is None and zones != {None}):
            for pod in view.index("Pod", "node", objects.name(obj)):
                yield from service_refs(view, None, pod)
    elif obj["kind"] == "Pod":
        if old is not None and new is not None and same_for_endpoints(old, new):
            return
        for version in (old, new):
            if version is not None and objects.status(version).get("podIP"):
                yield from (objects.key(service) for service in view.selecting("Service", version))
