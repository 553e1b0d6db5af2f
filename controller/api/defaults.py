"""Defaults as Kubernetes sets them where a client sees them. Pure; changes the given object in place.

One function a kind, in a table. Only fields that are absent are filled in, so running twice changes
nothing. Allocation (clusterIP, nodePort) is not a default: ``controller.managers.allocator`` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controller.api.objects import Obj

_POD_PHASE = {"phase": "Pending", "qosClass": "BestEffort"}


def set_defaults(obj: Obj, old: Obj | None = None) -> None:
    """Fill in what the object leaves out. ``old`` is the object an update replaces."""
    function = _DEFAULTS.get(obj["kind"])
    if function:
        function(obj, old)


def _spec(obj: Obj) -> Obj:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        spec = obj["spec"] = {} if spec is None else spec
    return spec if isinstance(spec, dict) else {}


def _maps(value: Any) -> list[Obj]:
    """The maps in a list; whatever is not one is for validation to name."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _fill(target: Obj, **values: Any) -> None:
    for word, value in values.items():
        if target.get(word) is None:
            target[word] = value


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
        if isinstance(config, dict):
            client = config.setdefault("clientIP", {})
            if isinstance(client, dict):
                _fill(client, timeoutSeconds=10800)
    elif spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    external = spec["type"] in ("NodePort", "LoadBalancer")
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster", ipFamilyPolicy="SingleStack")
        if spec.get("ipFamilies") is None:
            address = spec.get("clusterIP") or ""
            spec["ipFamilies"] = ["IPv6" if isinstance(address, str) and ":" in address else "IPv4"]
    if external or spec.get("externalIPs"):
        _fill(spec, externalTrafficPolicy="Cluster")
    elif old is not None and (old.get("spec") or {}).get("externalTrafficPolicy") == spec.get(
        "externalTrafficPolicy"
    ):
        spec.pop("externalTrafficPolicy", None)
    if spec["type"] == "LoadBalancer":
        _fill(spec, allocateLoadBalancerNodePorts=True)
    for port in _maps(spec.get("ports")):
        _fill(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0) and "port" in port:
            port["targetPort"] = port["port"]
    if old is None:
        obj["status"] = {"loadBalancer": {}}


def _container(container: Obj, grace: Any) -> None:
    image = container.get("image")
    if container.get("imagePullPolicy") is None and isinstance(image, str):
        last = image.rpartition("/")[2]
        latest = "@" not in last and (":" not in last or last.endswith(":latest"))
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    _fill(container, resources={}, terminationMessagePath="/dev/termination-log",
          terminationMessagePolicy="File")  # fmt: skip
    for port in _maps(container.get("ports")):
        _fill(port, protocol="TCP")
    for word in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(word)
        if not isinstance(probe, dict):
            continue
        _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
        if isinstance(probe.get("httpGet"), dict):
            _fill(probe["httpGet"], path="/", scheme="HTTP")
        if isinstance(probe.get("grpc"), dict):
            _fill(probe["grpc"], service="")
    for reference in _maps(container.get("env")):
        source = reference.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            _fill(source["fieldRef"], apiVersion="v1")


def _pod_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    _fill(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30,
          schedulerName="default-scheduler", securityContext={})  # fmt: skip
    for word in ("containers", "initContainers"):
        for container in _maps(spec.get(word)):
            _container(container, spec["terminationGracePeriodSeconds"])
            if spec.get("hostNetwork") is True:
                for port in _maps(container.get("ports")):
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
    if not isinstance(template, dict):
        return
    metadata = template.get("metadata")
    if metadata is None:
        metadata = template["metadata"] = {}
    if isinstance(metadata, dict):
        metadata.setdefault("creationTimestamp", None)
        metadata.pop("creationTimestamp")
    _pod_spec(template.get("spec"))


def _deployment(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    strategy = spec["strategy"]
    if isinstance(strategy, dict):
        _fill(strategy, type="RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            _fill(strategy, rollingUpdate={})
            if isinstance(strategy["rollingUpdate"], dict):
                _fill(strategy["rollingUpdate"], maxSurge="25%", maxUnavailable="25%")
    _template(spec)
    if old is None:
        obj["status"] = {}


def _replica_set(obj: Obj, old: Obj | None) -> None:
    spec = _spec(obj)
    _fill(spec, replicas=1)
    _template(spec)
    if old is None:
        obj["status"] = {"replicas": 0}


def _endpoint_ports(ports: Any, **more: Any) -> None:
    for port in _maps(ports):
        _fill(port, protocol="TCP", **more)


def _endpoint_slice(obj: Obj, old: Obj | None) -> None:
    _endpoint_ports(obj.get("ports"), name="")
    if obj.get("endpoints") is None:
        obj["endpoints"] = []


def _endpoints(obj: Obj, old: Obj | None) -> None:
    for subset in _maps(obj.get("subsets")):
        _endpoint_ports(subset.get("ports"))


_DEFAULTS: Mapping[str, Callable[[Obj, Obj | None], None]] = {
    "Namespace": _namespace,
    "Service": _service,
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
}
