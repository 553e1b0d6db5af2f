"""Versions that only older kubectls ask for, answered out of the ones that are served. Pure.

kubectl 1.20 makes and prunes CronJobs of ``batch/v1beta1``, makes and describes PodDisruptionBudgets of
``policy/v1beta1``, prunes Ingresses of ``extensions/v1beta1``, describes EndpointSlices of
``discovery.k8s.io/v1beta1`` and autoscalers of ``autoscaling/v1``. Only plain discovery lists the first
three: newer clients read the aggregated one, and shall find what Kubernetes of today has. Watches are of
the served versions only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from controller.api.errors import MethodNotAllowed
from controller.api.history import encode
from controller.api.kinds import KINDS, Kind
from controller.api.objects import Obj

AUTOSCALE = "kubectl-autoscale"
"""The field manager of ``kubectl autoscale``; a manifest's autoscaler is stored, with a warning."""
NO_AUTOSCALER = (
    "nothing in this lab measures CPU or memory, so no HorizontalPodAutoscaler could act: "
    "use kubectl scale --replicas=N instead"
)


class Older(NamedTuple):
    """A version, the kind that is asked for in it, by which methods, and whether plain discovery lists it."""

    api_version: str
    kind: Kind
    methods: tuple[str, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE")
    listed: bool = True

    @property
    def group(self) -> str:
        return self.api_version.partition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.partition("/")[2]


OLDER = (
    Older("batch/v1beta1", KINDS["CronJob"]),
    Older("policy/v1beta1", KINDS["PodDisruptionBudget"]),
    Older("extensions/v1beta1", KINDS["Ingress"], ("GET", "DELETE")),
    Older("discovery.k8s.io/v1beta1", KINDS["EndpointSlice"], ("GET",), listed=False),
    Older("autoscaling/v1", KINDS["HorizontalPodAutoscaler"], ("GET",), listed=False),
)


def refused_autoscaler() -> MethodNotAllowed:
    """Said as a warning too, which every kubectl prints; some replace the error by one of their own."""
    error = MethodNotAllowed(NO_AUTOSCALER)
    error.warnings = (NO_AUTOSCALER,)
    return error


def asked(method: str, path: str) -> tuple[Older, str] | None:
    """What is asked for in an older version, if it is, and the path that is served instead."""
    for older in OLDER:
        before, kind = f"/apis/{older.api_version}/", older.kind
        if path.startswith(before) and kind.plural in path.split("/"):
            if method in older.methods:
                return older, f"/apis/{kind.api_version}/{path.removeprefix(before)}"
            if kind.kind == "HorizontalPodAutoscaler":
                raise refused_autoscaler()
            raise MethodNotAllowed(f"use {kind.api_version} to write {kind.plural}")
    return None


def as_served(older: Older, body: bytes) -> bytes:
    """The body of a request with the served version in it; what is no JSON object is left as it is."""
    return _in_version(body, older.api_version, older.kind.api_version)


def as_asked(older: Older, body: bytes) -> bytes:
    """An answer as the older version has it."""
    return _in_version(body, older.kind.api_version, older.api_version)


def _in_version(body: bytes, now: str, wanted: str) -> bytes:
    try:
        told = json.loads(body)
    except ValueError:
        return body
    if not isinstance(told, dict) or told.get("apiVersion") != now:  # a Status, a patch
        return body
    told["apiVersion"] = wanted
    for one in told.get("items") or (told,):
        one["apiVersion"] = wanted
        if wanted in _CONVERTED:
            _CONVERTED[wanted](one)
    return encode(told)


def _older_slice(one: Obj) -> None:
    for endpoint in one.get("endpoints") or ():
        topology = {
            "kubernetes.io/hostname": endpoint.get("nodeName"),
            "topology.kubernetes.io/zone": endpoint.pop("zone", None),
        }
        endpoint["topology"] = {word: text for word, text in topology.items() if text}


def _older_ingress(one: Obj) -> None:
    spec = one.get("spec") or {}
    if "defaultBackend" in spec:
        spec["backend"] = _older_backend(spec.pop("defaultBackend"))
    for rule in spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            path["backend"] = _older_backend(path["backend"])


def _older_backend(backend: Obj) -> Obj:
    if "service" not in backend:
        return backend
    service = backend["service"]
    port = service.get("port") or {}
    return {"serviceName": service["name"], "servicePort": port.get("number") or port.get("name")}


def _older_autoscaler(one: Obj) -> None:
    spec, status = one["spec"], one.get("status") or {}
    for metric in spec.pop("metrics", ()):
        resource = metric.get("resource") or {}
        if resource.get("name") == "cpu" and "averageUtilization" in resource["target"]:
            spec["targetCPUUtilizationPercentage"] = resource["target"]["averageUtilization"]
    for word in ("currentMetrics", "conditions"):
        status.pop(word, None)


_CONVERTED: Mapping[str, Callable[[Obj], None]] = {
    "discovery.k8s.io/v1beta1": _older_slice,
    "extensions/v1beta1": _older_ingress,
    "autoscaling/v1": _older_autoscaler,
}
"""The older versions with other fields."""
