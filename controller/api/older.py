"""Versions that only older kubectls ask for, answered out of the ones that are served. Pure.

kubectl 1.20 makes and prunes CronJobs of ``batch/v1beta1``, makes and describes PodDisruptionBudgets of
``policy/v1beta1``, prunes Ingresses of ``extensions/v1beta1``, describes EndpointSlices of
``discovery.k8s.io/v1beta1`` and autoscales by ``autoscaling/v1``. Only plain discovery lists the first
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

VERSION = "v1beta1"
LISTED = {
    "batch": KINDS["CronJob"],
    "policy": KINDS["PodDisruptionBudget"],
    "extensions": KINDS["Ingress"],
}
"""Group -> the kind that plain discovery shows in its ``VERSION``."""
_METHODS = {"extensions": ("GET", "DELETE"), "discovery.k8s.io": ("GET",)}
"""Where not everything may be done."""
_AUTOSCALING = "/apis/autoscaling/v1/"
AUTOSCALE = "kubectl-autoscale"
"""The field manager of ``kubectl autoscale``; a manifest's autoscaler is stored, with a warning."""
NO_AUTOSCALER = (
    "nothing in this lab measures CPU or memory, so no HorizontalPodAutoscaler could act: "
    "use kubectl scale --replicas=N instead"
)


class Older(NamedTuple):
    """A request in an older version: which one, its kind, and the path that is served instead."""

    api_version: str
    kind: Kind
    path: str


def refused_autoscaler() -> MethodNotAllowed:
    """Said as a warning too, which every kubectl prints; some replace the error by one of their own."""
    error = MethodNotAllowed(NO_AUTOSCALER)
    error.warnings = (NO_AUTOSCALER,)
    return error


def is_allowed(group: str, method: str) -> bool:
    return method in _METHODS.get(group, (method,))


def asked(method: str, path: str) -> Older | None:
    """What is asked for in an older version, if it is."""
    if path.startswith(_AUTOSCALING) and "/horizontalpodautoscalers" in path:
        raise refused_autoscaler()
    for group, kind in (LISTED | {"discovery.k8s.io": KINDS["EndpointSlice"]}).items():
        before = f"/apis/{group}/{VERSION}/"
        if path.startswith(before) and kind.plural in path.split("/"):
            if not is_allowed(group, method):
                raise MethodNotAllowed(f"use {kind.api_version} to write {kind.plural}")
            return Older(f"{group}/{VERSION}", kind, f"/apis/{kind.api_version}/{path.removeprefix(before)}")
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


_CONVERTED: Mapping[str, Callable[[Obj], None]] = {
    f"discovery.k8s.io/{VERSION}": _older_slice,
    f"extensions/{VERSION}": _older_ingress,
}
"""The older versions with other fields."""
