"""The ``eviction`` subresource: a deletion that PodDisruptionBudgets may refuse. Pure.

Nothing in the lab keeps a budget's status, so what it allows is counted when somebody asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from controller.api.errors import ApiError, TooManyRequests
from controller.api.objects import Obj, matches
from controller.api.status import status_of


def check(pod: Obj, pods: Iterable[Obj], budgets: Iterable[Obj]) -> None:
    """Return when the pod may be evicted; TooManyRequests when a budget would be broken."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    labels = pod["metadata"].get("labels") or {}
    for budget in budgets:
        spec = budget["spec"]
        if not matches(spec.get("selector"), labels):
            continue
        covered = [one for one in pods if matches(spec.get("selector"), one["metadata"].get("labels") or {})]
        healthy = sum(map(_is_healthy, covered))
        if "maxUnavailable" in spec:
            needed = len(covered) - _count(spec["maxUnavailable"], len(covered))
        else:
            needed = _count(spec.get("minAvailable", 1), len(covered))
        if _is_healthy(pod) and healthy <= needed:
            raise _refused(budget["metadata"]["name"], healthy, needed)


def _is_healthy(pod: Obj) -> bool:
    told = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in told)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _count(wish: Any, of: int) -> int:
    if isinstance(wish, str) and wish.endswith("%"):
        return math.ceil(of * int(wish[:-1]) / 100)
    return int(wish)


def _refused(name: str, healthy: int, needed: int) -> ApiError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    why = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
    causes = [{"reason": "DisruptionBudget", "message": why}]
    return TooManyRequests(message, status_of(429, "TooManyRequests", message, {"causes": causes}))
