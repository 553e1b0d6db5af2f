"""Node objects as the kubelet of a real cluster would register them. Pure.

They tell the kubeproxy which bridge, ports and addresses a node has (annotations of
``controller.api.wiring``); capacities are shown, never enforced.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from controller.api.objects import Obj
from controller.api.wiring import DATAPATH_ID, HOST_INTERFACE, UPLINK_INTERFACE
from topo.plan import Address, NodePlan

LEASES = "kube-node-lease"
"""The namespace of the nodes' Leases."""
KUBERNETES = "v1.33.0"
"""The release whose behaviour the lab follows."""
MAX_PODS = 250
"""As many as a node's /24 has addresses, with some to spare while old pods end."""


def node_object(node: NodePlan, *, cpus: int, memory_kib: int, now: str) -> Obj:
    """A ready Node. ``now`` is an RFC 3339 time."""
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }
    if node.control_plane:
        labels["node-role.kubernetes.io/control-plane"] = ""
    if node.zone:
        labels["topology.kubernetes.io/zone"] = node.zone
    capacity = {"cpu": str(cpus), "memory": f"{memory_kib}Ki", "pods": str(MAX_PODS)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {
                DATAPATH_ID: node.datapath_id,
                HOST_INTERFACE: node.host_interface,
                UPLINK_INTERFACE: node.uplink_interface,
            },
        },
        "spec": {"podCIDR": str(node.pod_cidr), "podCIDRs": [str(net) for net in node.pod_cidrs]},
        "status": {
            "addresses": addresses(node.name, node.addresses),
            "capacity": capacity,
            "allocatable": dict(capacity),
            "conditions": [_condition(*row, now=now) for row in _CONDITIONS],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": _node_info(node, labels["kubernetes.io/arch"]),
        },
    }


def addresses(name: str, values: Sequence[Address]) -> list[dict[str, str]]:
    """status.addresses of a node; the first address is of the primary family."""
    internal = [{"type": "InternalIP", "address": str(value)} for value in values]
    return [*internal, {"type": "Hostname", "address": name}]


def lease_object(node: Obj, *, now: str) -> Obj:
    """The Lease by which a kubelet says that its registered node lives; ``now`` is a MicroTime."""
    name, uid = node["metadata"]["name"], node["metadata"]["uid"]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": LEASES,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
    }


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


def _condition(kind: str, status: str, reason: str, message: str, *, now: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _node_info(node: NodePlan, architecture: str) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "operatingSystem": "linux",
        "kernelVersion": platform.release(),
        "osImage": "podwire lab",
        "containerRuntimeVersion": "podwire://0.1",
        "kubeletVersion": KUBERNETES,
        "kubeProxyVersion": KUBERNETES,
        "machineID": node.datapath_id,
        "systemUUID": node.datapath_id,
        "bootID": node.datapath_id,
    }
