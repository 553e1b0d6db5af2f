"""The lab's own processes as a cluster shows them: mirror Pods in kube-system.

``kube-apiserver-<node>`` on the control plane, at the address of its node, which is also the endpoint of
the Service ``kubernetes``; ``kube-proxy-<node>`` on every node. The kubelet starts none of them; deleted
ones come back, as static pods do. Only nodes of the lab have them (those with a switch).
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import API_PORT, CONTROL_PLANE, DATAPATH_ID, MIRROR, node_address, node_addresses
from controller.managers.times import stamp
from controller.managers.view import Change, Create, Ref, Update, View, delete

COMPONENT = "static-pods"
NAMESPACE = "kube-system"
_VERSION = "v1.33.0"
_CONDITIONS = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")


def reconcile(view: View, ref: Ref) -> list[Change]:
    """``ref`` names a Node, there or not."""
    node = view.get(*ref)
    changes: list[Change] = []
    for program in ("kube-apiserver", "kube-proxy"):
        name = f"{program}-{ref.name}"
        there = view.get("Pod", NAMESPACE, name)
        if node is None or not _runs_on(program, node):
            if there is not None and MIRROR in (there["metadata"].get("annotations") or {}):
                changes.append(delete(there, grace=0))
        elif there is None:
            changes.append(Create(_pod(program, node)))
        elif objects.is_deleting(there):
            changes.append(delete(there, grace=0))
        elif _addresses(there) != node_addresses(node):
            changes.append(Update({**there, "status": _status(view, there, node)}, "status"))
    return changes


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    obj = new or old
    assert obj is not None
    if obj["kind"] == "Node":
        if old is None or new is None or node_addresses(old) != node_addresses(new):
            yield objects.key(obj)
    elif objects.annotation(obj, MIRROR) is not None and objects.namespace(obj) == NAMESPACE:
        yield Ref("Node", "", obj["spec"].get("nodeName", ""))


def _runs_on(program: str, node: Obj) -> bool:
    if objects.annotation(node, DATAPATH_ID) is None:
        return False
    return program == "kube-proxy" or CONTROL_PLANE in objects.labels(node)


def _pod(program: str, node: Obj) -> Obj:
    name = objects.name(node)
    container: Obj = {"name": program, "image": f"registry.k8s.io/{program}:{_VERSION}"}
    if program == "kube-apiserver":
        container["ports"] = [{"name": "https", "containerPort": API_PORT, "protocol": "TCP"}]
    labels = {"component": program, "tier": "control-plane"}
    if program == "kube-proxy":
        labels = {"k8s-app": "kube-proxy"}
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": objects.uid(node), "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{program}-{name}",
            "namespace": NAMESPACE,
            "labels": labels,
            "annotations": {
                MIRROR: f"{program}-{name}",
                "kubernetes.io/config.hash": f"{program}-{name}",
                "kubernetes.io/config.source": "file",
            },
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": name,
            "hostNetwork": True,
            "automountServiceAccountToken": False,
            "priorityClassName": "system-node-critical",
            "containers": [container],
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
        },
    }


def _addresses(pod: Obj) -> list[str]:
    return [entry["ip"] for entry in objects.status(pod).get("podIPs") or ()]


def _status(view: View, pod: Obj, node: Obj) -> Obj:
    now, address = stamp(view.now), node_address(node)
    addresses = [{"ip": one} for one in node_addresses(node)]
    (container,) = pod["spec"]["containers"]
    since = objects.status(pod).get("startTime") or now
    return {
        "phase": "Running",
        "hostIP": address,
        "hostIPs": addresses,
        "podIP": address,
        "podIPs": addresses,
        "startTime": since,
        "qosClass": "BestEffort",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": since} for kind in _CONDITIONS],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": f"podwire://{container['name']}",
                "containerID": f"podwire://{objects.name(pod)}",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": since}},
            }
        ],
    }
