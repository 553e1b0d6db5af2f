"""The ``/scale`` subresource: an ``autoscaling/v1 Scale`` seen from a Deployment or ReplicaSet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.api.errors import BadRequest
from controller.api.objects import Obj, selector_text


def to_scale(obj: Mapping[str, Any]) -> Obj:
    """The Scale of an object that has ``spec.replicas``."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    words = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {word: metadata[word] for word in words if word in metadata},
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {"replicas": status.get("replicas", 0), "selector": selector_text(spec.get("selector"))},
    }


def from_scale(scale: Mapping[str, Any]) -> int:
    """The replicas a Scale asks for (a Scale without any means 0, as in Kubernetes)."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise BadRequest("spec.replicas of a Scale must be an integer")
    return replicas
