"""Versions that only older kubectls ask for, answered out of the ones that are served. Pure.

kubectl 1.20 describes EndpointSlices by ``discovery.k8s.io/v1beta1`` and autoscales by ``autoscaling/v1``;
neither stands in discovery. Reading only.
"""

from __future__ import annotations

import json

from controller.api.errors import MethodNotAllowed
from controller.api.history import encode
from controller.api.objects import Obj

_SLICES = "/apis/discovery.k8s.io/v1beta1/"
_AUTOSCALING = "/apis/autoscaling/v1/"
AUTOSCALE = "kubectl-autoscale"
"""The field manager of ``kubectl autoscale``; a manifest's autoscaler is stored, with a warning."""
NO_AUTOSCALER = (
    "nothing in this lab measures CPU or memory, so no HorizontalPodAutoscaler could act: "
    "use kubectl scale --replicas=N instead"
)


def refused_autoscaler() -> MethodNotAllowed:
    """Said as a warning too, which every kubectl prints; some replace the error by one of their own."""
    error = MethodNotAllowed(NO_AUTOSCALER)
    error.warnings = (NO_AUTOSCALER,)
    return error


def served_path(method: str, path: str) -> str:
    """The path of the served version when an older one is asked for, else nothing."""
    if path.startswith(_AUTOSCALING) and "/horizontalpodautoscalers" in path:
        raise refused_autoscaler()
    if method == "GET" and path.startswith(_SLICES):
        return path.replace("/v1beta1/", "/v1/", 1)
    return ""


def as_asked(body: bytes) -> bytes:
    """EndpointSlices of v1 as v1beta1 has them."""
    told = json.loads(body)
    told["apiVersion"] = "discovery.k8s.io/v1beta1"
    for one in told.get("items") or (told,):
        _older_slice(one)
    return encode(told)


def _older_slice(one: Obj) -> None:
    one["apiVersion"] = "discovery.k8s.io/v1beta1"
    for endpoint in one.get("endpoints") or ():
        topology = {
            "kubernetes.io/hostname": endpoint.get("nodeName"),
            "topology.kubernetes.io/zone": endpoint.pop("zone", None),
        }
        endpoint["topology"] = {word: text for word, text in topology.items() if text}
