"""Kubernetes objects as the kubeproxy's tests need them, by builders that take what matters to a case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controller.api import wiring
from tests.packets_dual import dual as dual_service
from tests.packets_dual import in_ipv6

Obj = dict[str, Any]
NODES = {"node1": "192.168.49.2", "node2": "192.168.49.3", "node3": "192.168.49.4"}


def node_object(name: str, address: str = "", *, dual: bool = False) -> Obj:
    """A Node as the topology registers it."""
    address = address or NODES[name]
    number = int(name.removeprefix("node"))
    annotations = {
        wiring.DATAPATH_ID: f"{number:016x}",
        wiring.HOST_INTERFACE: f"{name}-host",
        wiring.UPLINK_INTERFACE: f"{name}-up",
    }
    network = f"10.244.{number}.0/24"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"podCIDR": network, "podCIDRs": both(network, dual)},
        "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in both(address, dual)]},
    }


def both(address: str, dual: bool = True) -> list[str]:
    """The address, and the IPv6 one beside it."""
    return [address, in_ipv6(address)] if dual else [address]


def pod_object(
    name: str, node: str, address: str, interface: str, *, phase: str = "Running", dual: bool = False
) -> Obj:
    """A pod as its kubelet reports it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {wiring.INTERFACE: interface},
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": phase,
            "podIP": address,
            "podIPs": [{"ip": ip} for ip in both(address, dual)],
        },
    }


def port_object(port: int, target: int, name: str = "", protocol: str = "TCP", node_port: int = 0) -> Obj:
    entry: Obj = {"name": name, "protocol": protocol, "port": port, "targetPort": target}
    return entry | ({"nodePort": node_port} if node_port else {})


def service_object(name: str, cluster_ip: str, *ports: Obj, **spec: Any) -> Obj:
    """A Service; ``spec`` overrides what the ports say of its type."""
    kind = "NodePort" if any("nodePort" in port for port in ports) else "ClusterIP"
    body = {"type": kind, "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": list(ports)} | spec
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": body,
    }


def endpoint_object(
    address: str,
    node: str = "",
    *,
    ready: bool = True,
    serving: bool | None = None,
    terminating: bool = False,
) -> Obj:
    conditions = {
        "ready": ready,
        "serving": ready if serving is None else serving,
        "terminating": terminating,
    }
    return {"addresses": [address], "conditions": conditions, "nodeName": node}


def slice_object(
    service: str, ports: Iterable[Obj], endpoints: list[Obj], suffix: str = "0", family: str = "IPv4"
) -> Obj:
    """An EndpointSlice; a port's number is its Service port's targetPort. The endpoints' addresses are IPv4
    ones; of family IPv6 it has those beside them."""
    made: Obj = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{suffix}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": p["name"], "protocol": p["protocol"], "port": p["targetPort"]} for p in ports],
        "endpoints": endpoints,
    }
    return made if family == "IPv4" else slice_in_ipv6(made)


def in_both_families(objects: Iterable[Obj]) -> list[Obj]:
    """The same objects in a cluster of both families: each IPv4 address with the IPv6 one beside it, and
    beside each EndpointSlice one of the other address type."""
    made: list[Obj] = []
    for obj in objects:
        match obj["kind"]:
            case "Pod" if "status" in obj:
                ips = [{"ip": ip} for ip in both(obj["status"]["podIP"])]
                made.append(obj | {"status": obj["status"] | {"podIPs": ips}})
            case "EndpointSlice":
                made += [obj, slice_in_ipv6(obj)]
            case "Node":
                node = node_object(
                    obj["metadata"]["name"], obj["status"]["addresses"][0]["address"], dual=True
                )
                made.append(obj | {"spec": node["spec"], "status": node["status"]})
            case "Service" if obj["spec"].get("clusterIP") not in (None, "", "None"):
                made.append(dual_service(obj))
            case _:
                made.append(obj)
    return made


def slice_in_ipv6(endpoint_slice: Obj) -> Obj:
    """What stands beside an IPv4 slice."""
    metadata = endpoint_slice["metadata"] | {"name": f"{endpoint_slice['metadata']['name']}-ipv6"}
    endpoints = [e | {"addresses": [in_ipv6(a) for a in e["addresses"]]} for e in endpoint_slice["endpoints"]]
    return endpoint_slice | {"metadata": metadata, "addressType": "IPv6", "endpoints": endpoints}
