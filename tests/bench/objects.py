"""The Kubernetes objects benches are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Obj = dict[str, Any]


def pod(name: str, node: str, command: Sequence[str] = (), image: str = "podwire/shell") -> Obj:
    """A pod on a node of our choice, labelled ``app=NAME``; without a command the shell image idles."""
    container: Obj = {"name": "main", "image": image}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [container]},
    }


def service(name: str, port: int, *, selector: bool = True, protocol: str = "TCP") -> Obj:
    """A ClusterIP over the pods labelled ``app=NAME``, or without a selector for slices made by hand."""
    spec: Obj = {"ports": [{"port": port, "protocol": protocol}]}
    if selector:
        spec["selector"] = {"app": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def endpoint_slice(
    service_name: str, endpoints: Sequence[tuple[str, str]], port: int, protocol: str = "TCP"
) -> Obj:
    """A slice of a Service without a selector; ``endpoints`` are (address, node)."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "nodeName": node, "conditions": {"ready": True}}
            for address, node in endpoints
        ],
        "ports": [{"name": "", "port": port, "protocol": protocol}],
    }
