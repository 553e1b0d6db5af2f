"""PodDisruptionBudgets: what one allows, and the ``eviction`` subresource that one may refuse. Pure.

Counted when somebody asks: what a budget's status says is for people to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from controller.api.errors import ApiError, TooManyRequests
from controller.api.objects import Obj, matches
from controller.api.status import status_of


def check(pod: Obj, pods: Iterable[Obj], budgets: Iterable[Obj]) -> None:
    """Return when the pod may be evicted; TooManyRequests when a budget would be broken. ``pods`` and
    ``budgets`` are those of its namespace."""
    if not _counts(pod):
        return
    labels, pods = pod["metadata"].get("labels") or {}, list(pods)
    for budget in budgets:
        if not matches(budget["spec"].get("selector"), labels):
            continue
        told = status(budget, pods)
        if _is_healthy(pod) and not told["disruptionsAllowed"]:
            raise _refused(budget["metadata"]["name"], told["currentHealthy"], told["desiredHealthy"])


def status(budget: Obj, pods: Iterable[Obj]) -> dict[str, int]:
    """The counts of a budget's status; ``pods`` are those of its namespace."""
    spec = budget["spec"]
    covered = [
        pod for pod in pods
        if _counts(pod) and matches(spec.get("selector"), pod["metadata"].get("labels") or {})
    ]  # fmt: skip
    expected, healthy = len(covered), sum(map(_is_healthy, covered))
    if "maxUnavailable" in spec:
        needed = max(0, expected - _count(spec["maxUnavailable"], expected))
    else:
        needed = _count(spec.get("minAvailable", 1), expected)
    return {
        "disruptionsAllowed": max(0, healthy - needed),
        "currentHealthy": healthy,
        "desiredHealthy": needed,
        "expectedPods": expected,
    }


def _counts(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


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
