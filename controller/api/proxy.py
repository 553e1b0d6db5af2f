"""The ``proxy`` subresource of Services, Pods and Nodes: where a request is to be forwarded. Pure.

Names are written as Kubernetes writes them: ``[scheme:]name[:port]``, the port by name or number. How
the request gets there is ``forward``'s.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from controller.api import objects
from controller.api.errors import ApiError, BadRequest, ServiceUnavailable
from controller.api.kinds import KINDS
from controller.api.objects import Obj
from controller.api.routes import Target
from controller.api.status import not_found, status_of
from controller.api.wiring import KUBELET_PORT, node_address

_PATH = re.compile(r"/api/v1/(?:namespaces/([^/]+)/(services|pods)|(nodes))/([^/]+)/proxy(/.*)?")
_KINDS = {"services": "Service", "pods": "Pod", "nodes": "Node"}
_SERVICE_NAME = "kubernetes.io/service-name"
Get = Callable[[str, str, str], Obj | None]


@dataclass(frozen=True, kw_only=True)
class ProxyPath:
    """A proxy URL, read. ``rest`` is the path to ask for, as it was encoded; "" when even the slash is
    missing."""

    kind: str
    namespace: str
    scheme: str
    name: str
    port: str
    rest: str

    @property
    def target(self) -> Target:
        """For the table of access."""
        return Target(KINDS[self.kind], self.namespace, self.name, "proxy")

    @property
    def is_for_kubelet(self) -> bool:
        """Of a node, without a port or with the kubelet's."""
        return self.kind == "Node" and self.port in ("", str(KUBELET_PORT))


def parse(path: str) -> ProxyPath | None:
    """A raw (still percent-encoded) path; None when it is no proxy path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    namespace, plural, node, words, rest = found.groups()
    plural = plural or node
    parts = unquote(words).split(":")
    if len(parts) > 3 or (len(parts) == 3 and parts[0] not in ("http", "https", "")):
        raise BadRequest(f'invalid {plural} request "{unquote(words)}"')
    scheme = parts.pop(0) if len(parts) == 3 else ""
    name, port = parts[0], parts[1] if len(parts) > 1 else ""
    return ProxyPath(
        kind=_KINDS[plural],
        namespace=unquote(namespace or ""),
        scheme=scheme or "http",
        name=name,
        port=port,
        rest=rest or "",
    )


def unavailable(message: str) -> ApiError:
    return ServiceUnavailable(message, status_of(503, "ServiceUnavailable", message))


def resolve(
    where: ProxyPath, get: Get, slices: Callable[[str], Iterable[Obj]], rng: random.Random
) -> tuple[str, int]:
    """Address and port to connect to; ``slices`` are the EndpointSlices of a namespace."""
    obj = get(where.kind, where.namespace, where.name)
    if obj is None:
        raise not_found(where.kind, where.name)
    if where.kind == "Pod":
        return _of_pod(where, obj)
    if where.kind == "Node":
        return _of_node(where, obj)
    port = _service_port(where, obj)
    found = list(_endpoints(where, slices(where.namespace), port))
    if not found:
        raise unavailable(f'no endpoints available for service "{where.name}"')
    return rng.choice(found)


def _of_pod(where: ProxyPath, pod: Obj) -> tuple[str, int]:
    """By number or, as for a Service's targetPort, by name; none given: the first there is, else 80."""
    address = objects.status(pod).get("podIP")
    if not address:
        raise unavailable(f'pod "{where.name}" has no address yet')
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    if where.port.isdigit():
        return address, int(where.port)
    if where.port:
        for port in ports:
            if port.get("name") == where.port:
                return address, int(port["containerPort"])
        raise unavailable(f'no port "{where.port}" found for pod "{where.name}"')
    return address, int(ports[0]["containerPort"]) if ports else 80


def _of_node(where: ProxyPath, node: Obj) -> tuple[str, int]:
    address = node_address(node)
    if not address:
        raise unavailable(f'node "{where.name}" has no address yet')
    if where.port and not where.port.isdigit():
        raise BadRequest(f'invalid port "{where.port}" of node "{where.name}"')
    return address, int(where.port or KUBELET_PORT)


def _service_port(where: ProxyPath, service: Obj) -> str:
    """The name of the Service port that is meant."""
    ports = service["spec"].get("ports") or []
    if not where.port and len(ports) == 1:
        return ports[0].get("name") or ""
    for port in ports:
        if where.port and where.port in (port.get("name"), str(port["port"])):
            return port.get("name") or ""
    raise unavailable(f'no service port "{where.port}" found for service "{where.name}"')


def _endpoints(where: ProxyPath, slices: Iterable[Obj], port_name: str) -> Iterator[tuple[str, int]]:
    for one in slices:
        if objects.labels(one).get(_SERVICE_NAME) != where.name:
            continue
        for port in one.get("ports") or ():
            if (port.get("name") or "") != port_name:
                continue
            for endpoint in one.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    yield endpoint["addresses"][0], int(port["port"])
