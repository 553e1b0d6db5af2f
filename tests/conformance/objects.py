"""The objects the cases use, as values: agnhost pods and Services over them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Obj = dict[str, Any]
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.47"


def agnhost(
    name: str,
    node: str,
    app: str,
    *,
    port: int = 8080,
    port_name: str = "",
    host_network: bool = False,
    ready: bool = True,
    sctp: bool = False,
    labels: Mapping[str, str] | None = None,
    change: Callable[[Obj], Obj] | None = None,
    **spec: Any,
) -> Obj:
    """A pod that answers TCP and UDP on ``port`` with who it is and whom it sees. ``port_name`` names the
    TCP port; ``sctp``: by SCTP too. Not ``ready``: its probe asks a port on which nothing ever listens."""
    ports: list[Obj] = [{"containerPort": port, "protocol": one} for one in ("TCP", "UDP")]
    args = ["netexec", f"--http-port={port}", f"--udp-port={port}"]
    if sctp:
        ports.append({"containerPort": port, "protocol": "SCTP"})
        args.append(f"--sctp-port={port}")
    if port_name:
        ports[0]["name"] = port_name
    container: Obj = {
        "name": "netexec",
        "image": AGNHOST,
        "args": args,
        "ports": ports,
    }
    if not ready:
        container["readinessProbe"] = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
    made: Obj = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    if host_network:
        made["hostNetwork"] = True
    metadata = {"name": name, "labels": {"app": app, **(labels or {})}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made}
    return change(pod) if change else pod


def delayed(pod: Obj) -> Obj:
    """The pod serves on for a minute when it is told to end, by a preStop hook."""
    pod["spec"]["terminationGracePeriodSeconds"] = 60
    pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": 60}}}
    return pod


def service_object(
    name: str,
    ports: Sequence[Any] = (80,),
    *,
    app: str | None = "",
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> Obj:
    """A Service over app ``name`` (``app=None``: without selector). A port is a number (TCP to 8080), a pair
    with its protocol, or a whole ServicePort."""
    made: Obj = {"ports": [port_object(port) for port in ports], **spec}
    if app is not None:
        made["selector"] = {"app": app or name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": made,
    }


def port_object(port: Any) -> Obj:
    if isinstance(port, Mapping):
        return dict(port)
    number, protocol = port if isinstance(port, tuple) else (port, "TCP")
    return {
        "name": f"{protocol.lower()}-{number}", "port": number, "protocol": protocol, "targetPort": 8080,
    }  # fmt: skip


def endpoint_slice(name: str, service: str, addresses: Sequence[str], port: int, port_name: str) -> Obj:
    """A hand-written slice of a Service without selector."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }
