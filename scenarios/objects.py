"""The objects that lessons make themselves: pods that say whom they see, and Services over them. Pure.

Plain values, as a manifest would hold them. What is done with them is told in the lessons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.api.objects import Obj

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.47"
"""The server of Kubernetes' own network tests: it answers with its name and with whom it sees."""


def pod(
    name: str,
    node: str,
    app: str = "",
    *,
    port: int = 8080,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Obj:
    """A pod labelled ``app`` (its own name) that answers HTTP and UDP on ``port``.

    ``container`` adds to its container, ``spec`` to its spec.
    """
    netexec: Obj = {
        "name": "netexec",
        "image": AGNHOST,
        "args": ["netexec", f"--http-port={port}", f"--udp-port={port}"],
        "ports": [{"containerPort": port, "protocol": protocol} for protocol in ("TCP", "UDP")],
        **(container or {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app or name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [netexec], **spec},
    }


def service(
    name: str,
    app: str | None = "",
    *,
    port: int = 80,
    target: int = 8080,
    protocols: tuple[str, ...] = ("TCP",),
    **spec: Any,
) -> Obj:
    """A Service over the pods of ``app`` (its own name; None: without selector)."""
    ports = [
        {"name": protocol.lower(), "port": port, "targetPort": target, "protocol": protocol}
        for protocol in protocols
    ]
    made: Obj = {"ports": ports, **spec}
    if app is not None:
        made["selector"] = {"app": app or name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": made}


def node_port(service: Obj, protocol: str = "TCP") -> int:
    """The node port it was given."""
    return int(next(p["nodePort"] for p in service["spec"]["ports"] if p["protocol"] == protocol))


def endpoint_addresses(obj: Obj) -> list[str]:
    """``address:port`` of every ready endpoint of an Endpoints object or an EndpointSlice."""
    if obj["kind"] == "Endpoints":
        subsets = obj.get("subsets") or ()
        pairs = [
            (a["ip"], p["port"])
            for s in subsets
            for a in s.get("addresses") or ()
            for p in s.get("ports") or ()
        ]
    else:
        ready = [
            e for e in obj.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False
        ]
        pairs = [(a, p["port"]) for e in ready for a in e["addresses"] for p in obj.get("ports") or ()]
    return [f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address, port in pairs]
