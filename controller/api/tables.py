"""``kubectl get``'s tables: the answer to ``Accept: application/json;as=Table``.

Columns are kubectl's own, by kind, with what each shows (``cells`` says how a Pod's STATUS and its like
are worked out). Pure: the time is an argument. A kind without a row here shows name and age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from controller.api import cells
from controller.api.objects import Obj

Cell = Callable[[Obj], Any]


class Column(NamedTuple):
    """One column. Wide ones are shown by ``-o wide`` only."""

    name: str
    cell: Cell
    wide: bool = False


def _at(path: str, default: Any = "<none>") -> Cell:
    steps = path.split(".")

    def cell(obj: Obj) -> Any:
        at: Any = obj
        for step in steps:
            at = at.get(step) if isinstance(at, Mapping) else None
        return default if at is None or at == "" else at

    return cell


def _size(word: str) -> Cell:
    return lambda obj: len(obj.get(word) or ())


_WORKLOAD = (
    Column("Containers", cells.container_names, True),
    Column("Images", cells.images, True),
    Column("Selector", cells.selector, True),
)
_ROLE_REF = lambda obj: f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"  # noqa: E731
_CLASS = _at("spec.ingressClassName")
_VOLUME = (Column("VolumeMode", _at("spec.volumeMode", "<unset>"), True),)

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Pod": (
        Column("Ready", cells.pod_ready), Column("Status", cells.pod_status),
        Column("Restarts", cells.pod_restarts), Column("Age", cells.AGE),
        Column("IP", _at("status.podIP"), True), Column("Node", _at("spec.nodeName"), True),
        Column("Nominated Node", _at("status.nominatedNodeName"), True),
        Column("Readiness Gates", lambda obj: "<none>", True),
    ),
    "Service": (
        Column("Type", _at("spec.type")), Column("Cluster-IP", _at("spec.clusterIP")),
        Column("External-IP", cells.external_ip), Column("Port(s)", cells.service_ports),
        Column("Age", cells.AGE), Column("Selector", cells.plain_selector, True),
    ),
    "Deployment": (
        Column("Ready", lambda obj: cells.of(obj, "readyReplicas")),
        Column("Up-to-date", _at("status.updatedReplicas", 0)),
        Column("Available", _at("status.availableReplicas", 0)), Column("Age", cells.AGE), *_WORKLOAD,
    ),
    "ReplicaSet": (
        Column("Desired", _at("spec.replicas", 0)), Column("Current", _at("status.replicas", 0)),
        Column("Ready", _at("status.readyReplicas", 0)), Column("Age", cells.AGE), *_WORKLOAD,
    ),
    "ReplicationController": (
        Column("Desired", _at("spec.replicas", 0)), Column("Current", _at("status.replicas", 0)),
        Column("Ready", _at("status.readyReplicas", 0)), Column("Age", cells.AGE), *_WORKLOAD,
    ),
    "StatefulSet": (
        Column("Ready", lambda obj: cells.of(obj, "readyReplicas")), Column("Age", cells.AGE), *_WORKLOAD[:2],
    ),
    "DaemonSet": (
        Column("Desired", _at("status.desiredNumberScheduled", 0)),
        Column("Current", _at("status.currentNumberScheduled", 0)),
        Column("Ready", _at("status.numberReady", 0)),
        Column("Up-to-date", _at("status.updatedNumberScheduled", 0)),
        Column("Available", _at("status.numberAvailable", 0)),
        Column("Node Selector", cells.node_selector), Column("Age", cells.AGE), *_WORKLOAD,
    ),
    "Node": (
        Column("Status", cells.node_status), Column("Roles", cells.node_roles), Column("Age", cells.AGE),
        Column("Version", _at("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", cells.node_address("InternalIP"), True),
        Column("External-IP", cells.node_address("ExternalIP"), True),
        Column("OS-Image", _at("status.nodeInfo.osImage", "<unknown>"), True),
        Column("Kernel-Version", _at("status.nodeInfo.kernelVersion", "<unknown>"), True),
        Column("Container-Runtime", _at("status.nodeInfo.containerRuntimeVersion", "<unknown>"), True),
    ),
    "Namespace": (Column("Status", _at("status.phase", "Active")), Column("Age", cells.AGE)),
    "Endpoints": (Column("Endpoints", cells.endpoints), Column("Age", cells.AGE)),
    "EndpointSlice": (
        Column("AddressType", _at("addressType")), Column("Ports", cells.slice_ports),
        Column("Endpoints", cells.slice_endpoints), Column("Age", cells.AGE),
    ),
    "ConfigMap": (
        Column("Data", lambda obj: len(obj.get("data") or ()) + len(obj.get("binaryData") or ())),
        Column("Age", cells.AGE),
    ),
    "Secret": (Column("Type", _at("type")), Column("Data", _size("data")), Column("Age", cells.AGE)),
    "ServiceAccount": (Column("Secrets", _size("secrets")), Column("Age", cells.AGE)),
    "Ingress": (
        Column("Class", _CLASS), Column("Hosts", cells.ingress_hosts),
        Column("Address", cells.load_balancer), Column("Ports", cells.ingress_ports),
        Column("Age", cells.AGE),
    ),
    "IngressClass": (
        Column("Controller", _at("spec.controller")), Column("Parameters", _at("spec.parameters.name")),
        Column("Age", cells.AGE),
    ),
    "NetworkPolicy": (Column("Pod-Selector", cells.pod_selector), Column("Age", cells.AGE)),
    "Job": (
        Column("Status", cells.job_status),
        Column("Completions", lambda obj: cells.of(obj, "succeeded", "completions")),
        Column("Duration", lambda obj: ""), Column("Age", cells.AGE), *_WORKLOAD,
    ),
    "CronJob": (
        Column("Schedule", _at("spec.schedule")), Column("Timezone", _at("spec.timeZone")),
        Column("Suspend", lambda obj: str(bool(obj["spec"].get("suspend")))),
        Column("Active", lambda obj: len((obj.get("status") or {}).get("active") or ())),
        Column("Last Schedule", lambda obj: "<none>"), Column("Age", cells.AGE),
    ),
    "PersistentVolumeClaim": (
        Column("Status", _at("status.phase", "Pending")), Column("Volume", _at("spec.volumeName", "")),
        Column("Capacity", _at("status.capacity.storage", "")), Column("Access Modes", cells.access_modes),
        Column("StorageClass", _at("spec.storageClassName", "")), Column("Age", cells.AGE), *_VOLUME,
    ),
    "PersistentVolume": (
        Column("Capacity", _at("spec.capacity.storage", "")), Column("Access Modes", cells.access_modes),
        Column("Reclaim Policy", _at("spec.persistentVolumeReclaimPolicy", "")),
        Column("Status", _at("status.phase", "")), Column("Claim", _at("spec.claimRef.name", "")),
        Column("StorageClass", _at("spec.storageClassName", "")), Column("Age", cells.AGE), *_VOLUME,
    ),
    "StorageClass": (
        Column("Provisioner", _at("provisioner")), Column("ReclaimPolicy", _at("reclaimPolicy", "Delete")),
        Column("VolumeBindingMode", _at("volumeBindingMode", "Immediate")),
        Column("AllowVolumeExpansion", lambda obj: str(bool(obj.get("allowVolumeExpansion"))).lower()),
        Column("Age", cells.AGE),
    ),
    "HorizontalPodAutoscaler": (
        Column("Reference", lambda obj: "{kind}/{name}".format(**obj["spec"]["scaleTargetRef"])),
        Column("Targets", lambda obj: "<unknown>"), Column("MinPods", _at("spec.minReplicas", "<unset>")),
        Column("MaxPods", _at("spec.maxReplicas")), Column("Replicas", _at("status.currentReplicas", 0)),
        Column("Age", cells.AGE),
    ),
    "PodDisruptionBudget": (
        Column("Min Available", _at("spec.minAvailable", "N/A")),
        Column("Max Unavailable", _at("spec.maxUnavailable", "N/A")),
        Column("Allowed Disruptions", _at("status.disruptionsAllowed", 0)), Column("Age", cells.AGE),
    ),
    "Scale": (
        Column("Desired", _at("spec.replicas", 0)), Column("Available", _at("status.replicas", 0)),
        Column("Age", cells.AGE),
    ),
    "ServiceCIDR": (
        Column("CIDRs", lambda obj: ",".join(obj["spec"].get("cidrs") or ())), Column("Age", cells.AGE),
    ),
    "IPAddress": (Column("ParentRef", cells.parent), Column("Age", cells.AGE)),
    "ControllerRevision": (
        Column("Controller", cells.controller), Column("Revision", _at("revision")),
        Column("Age", cells.AGE),
    ),
    "Lease": (Column("Holder", _at("spec.holderIdentity", "")), Column("Age", cells.AGE)),
    "PriorityClass": (
        Column("Value", _at("value")), Column("Global-Default", _at("globalDefault", False)),
        Column("Age", cells.AGE),
    ),
    "RoleBinding": (Column("Role", _ROLE_REF), Column("Age", cells.AGE)),
    "ClusterRoleBinding": (Column("Role", _ROLE_REF), Column("Age", cells.AGE)),
}  # fmt: skip
"""Kind -> the columns after the name. Events have none: theirs begin otherwise."""

_NAME = Column("Name", _at("metadata.name"))
_EVENT = (
    Column("Last Seen", cells.LAST_SEEN), Column("Type", _at("type", "")),
    Column("Reason", _at("reason", "")),
    Column("Object", cells.event_object), Column("Subobject", _at("involvedObject.fieldPath", ""), True),
    Column("Source", cells.event_source, True), Column("Message", _at("message", "")),
    Column("First Seen", cells.FIRST_SEEN, True), Column("Count", _at("count", 1), True),
    Column("Name", _at("metadata.name"), True),
)  # fmt: skip


def columns(kind: str) -> tuple[Column, ...]:
    if kind == "Event":
        return _EVENT
    return (_NAME, *COLUMNS.get(kind, (Column("Age", cells.AGE),)))


def table(
    kind: str, objects: Iterable[Obj], metadata: Obj, now: datetime, *, include: str = "", head: bool = True
) -> Obj:
    """A Table. ``include`` (``includeObject``) is Metadata (the default), Object or None."""
    shown = columns(kind)
    rows = []
    for obj in objects:
        row: Obj = {"cells": [_cell(column, obj, now) for column in shown]}
        if include != "None":
            row["object"] = obj if include == "Object" else partial(obj)
        rows.append(row)
    definitions = [
        {
            "name": column.name, "type": "integer" if column.name in _NUMBERS else "string",
            "format": "name" if column.name == "Name" else "", "description": column.name,
            "priority": 1 if column.wide else 0,
        }
        for column in shown if head
    ]  # fmt: skip
    return {
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    }  # fmt: skip


_NUMBERS = frozenset(("Desired", "Current", "Up-to-date", "Available", "Data", "Secrets", "Active", "Count"))


def partial(obj: Obj) -> Obj:
    """A PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _cell(column: Column, obj: Obj, now: datetime) -> Any:
    found = column.cell(obj)
    return found(now) if callable(found) else found
