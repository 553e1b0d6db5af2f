"""Defaults as Kubernetes sets them where a client sees them. Pure; changes the given object in place.

One function a kind, in a table. Only fields that are absent are filled in, so running twice changes
nothing. The object has been decoded: every field that is there has its type. Allocation (clusterIP,
ipFamilies, nodePort) is not a default: ``controller.managers.allocator`` does it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from controller.api.kinds import KINDS
from controller.api.objects import Obj

_POD_PHASE = {"phase": "Pending", "qosClass": "BestEffort"}


def set_defaults(obj: Obj, old: Obj | None = None) -> None:
    """Fill in what the object leaves out. ``old`` is the object an update replaces."""
    if "status" in KINDS[obj["kind"]].subresources:
        # Kubernetes never leaves these two out of an object that may have them.
        _fill(obj, spec={}, status={})
    function = _DEFAULTS.get(obj["kind"])
    if function:
        function(obj, old)


def _spec(obj: Obj) -> Obj:
    spec: Obj = obj.setdefault("spec", {})
    return spec


def _fill(target: Obj, **values: Any) -> None:
    for word, value in values.items():
        target.setdefault(word, value)


def _namespace(obj: Obj, old: Obj | None) -> None:
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    spec = _spec(obj)
    if old is None:
        spec["finalizers"] = ["kubernetes"]
        obj["status"] = {"phase": "Active"}


def _service(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        _fill(config.setdefault("clientIP", {}), timeoutSeconds=10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    external = spec["type"] in ("NodePort", "LoadBalancer")
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster")
    if external or spec.get("externalIPs"):
        _fill(spec, externalTrafficPolicy="Cluster")
    elif old is not None and (old.get("spec") or {}).get("externalTrafficPolicy") == spec.get(
        "externalTrafficPolicy"
    ):
        spec.pop("externalTrafficPolicy", None)
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)
    for port in spec.get("ports") or ():
        _fill(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0) and "port" in port:
            port["targetPort"] = port["port"]
    if old is None:
        obj["status"] = {"loadBalancer": {}}


def _container(container: Obj) -> None:
    image = container.get("image")
    if image:
        last = image.rpartition("/")[2]
        latest = "@" not in last and (":" not in last or last.endswith(":latest"))
        _fill(container, imagePullPolicy="Always" if latest else "IfNotPresent")
    _fill(container, resources={}, terminationMessagePath="/dev/termination-log",
          terminationMessagePolicy="File")  # fmt: skip
    for port in container.get("ports") or ():
        _fill(port, protocol="TCP")
    for word in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(word)
        if probe is None:
            continue
        _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
        if "httpGet" in probe:
            _fill(probe["httpGet"], path="/", scheme="HTTP")
        if "grpc" in probe:
            _fill(probe["grpc"], service="")
    for reference in container.get("env") or ():
        source = reference.get("valueFrom") or {}
        if "fieldRef" in source:
            _fill(source["fieldRef"], apiVersion="v1")


def _pod_spec(spec: Obj) -> None:
    _fill(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30,
          schedulerName="default-scheduler", securityContext={})  # fmt: skip
    for word in ("containers", "initContainers"):
        for container in spec.get(word) or ():
            _container(container)
            if spec.get("hostNetwork") is True:
                for port in container.get("ports") or ():
                    if "containerPort" in port:
                        _fill(port, hostPort=port["containerPort"])


def _pod(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _pod_spec(spec)
    _fill(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0,
          serviceAccountName="default")  # fmt: skip
    if old is None:
        obj["status"] = dict(_POD_PHASE)


def _template(spec: Obj) -> None:
    template = spec.get("template")
    if template is not None:
        template.setdefault("metadata", {})
        _pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    _fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")
    _template(spec)
    if old is None:
        obj["status"] = {}


def _replica_set(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, replicas=1)
    _template(spec)
    if old is None:
        obj["status"] = {"replicas": 0}


def _replication_controller(obj: Obj, old: Obj | None) -> None:
    """Selector and labels follow the template's labels, where they are left out."""
    spec = _spec(obj)
    _fill(spec, replicas=1)
    _template(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        _fill(spec, selector=dict(labels))
        _fill(obj["metadata"], labels=dict(labels))
    if old is None:
        obj["status"] = {"replicas": 0}


def _stateful_set(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", updateStrategy={})
    _fill(spec, persistentVolumeClaimRetentionPolicy={})
    _fill(spec["persistentVolumeClaimRetentionPolicy"], whenDeleted="Retain", whenScaled="Retain")
    _fill(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _fill(spec["updateStrategy"].setdefault("rollingUpdate", {}), partition=0)
    _template(spec)
    if old is None:
        obj["status"] = {"replicas": 0, "availableReplicas": 0}


def _daemon_set(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, revisionHistoryLimit=10, updateStrategy={})
    _fill(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        _fill(spec["updateStrategy"].setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)
    _template(spec)
    if old is None:
        counts = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
        obj["status"] = dict.fromkeys(counts, 0)


def _job_spec(spec: Obj) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        _fill(spec, completions=1)
    _fill(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False,
          podReplacementPolicy="TerminatingOrFailed")  # fmt: skip
    _template(spec)


def _job(obj: Obj, old: Obj | None) -> None:
    """A selector of its own by uid, as a Job gets that names none."""
    spec, metadata = _spec(obj), obj["metadata"]
    _job_spec(spec)
    if "selector" not in spec and "template" in spec and metadata.get("uid"):
        labels = {"batch.kubernetes.io/controller-uid": metadata["uid"]}
        spec["selector"] = {"matchLabels": dict(labels)}
        template = spec["template"]["metadata"].setdefault("labels", {})
        template |= {**labels, "batch.kubernetes.io/job-name": metadata["name"],
                     "controller-uid": metadata["uid"], "job-name": metadata["name"]}  # fmt: skip


def _cron_job(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3,
          failedJobsHistoryLimit=1)  # fmt: skip
    if "jobTemplate" in spec:
        _template(spec["jobTemplate"].setdefault("spec", {}))


def _autoscaler(obj: Obj, old: Obj | None) -> None:
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    _fill(_spec(obj), minReplicas=1, metrics=[{"type": "Resource", "resource": cpu}])
    _fill(obj["status"], currentReplicas=0, desiredReplicas=0)


def _endpoint_ports(ports: list[Obj] | None, **more: Any) -> None:
    for port in ports or ():
        _fill(port, protocol="TCP", **more)


def _endpoint_slice(obj: Obj, old: Obj | None) -> None:
    _endpoint_ports(obj.get("ports"), name="")
    _fill(obj, endpoints=[])


def _endpoints(obj: Obj, old: Obj | None) -> None:
    for subset in obj.get("subsets") or ():
        _endpoint_ports(subset.get("ports"))


def _secret(obj: Obj, old: Obj | None) -> None:
    """``stringData`` is for writing only: it is never stored or answered."""
    _fill(obj, type="Opaque")
    for word, text in obj.pop("stringData", {}).items():
        obj.setdefault("data", {})[word] = base64.b64encode(text.encode()).decode()


def _budget(obj: Obj, old: Obj | None) -> None:
    counts = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    _fill(obj["status"], **dict.fromkeys(counts, 0))


_DEFAULTS: Mapping[str, Callable[[Obj, Obj | None], None]] = {
    "PodDisruptionBudget": _budget,
    "Namespace": _namespace,
    "Service": _service,
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "ReplicationController": _replication_controller,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
    "Secret": _secret,
    "Job": _job,
    "CronJob": _cron_job,
    "HorizontalPodAutoscaler": _autoscaler,
}
