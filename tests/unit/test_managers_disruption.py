"""What a PodDisruptionBudget's status says, and that an eviction goes by the same counts."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import eviction
from controller.api.errors import TooManyRequests
from controller.api.objects import Obj
from tests.unit.managers_kit import Cluster, deployment


def budget(**spec: Any) -> Obj:
    return {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }  # fmt: skip


def counts(cluster: Cluster) -> tuple[int, ...]:
    """Allowed, healthy, wanted, expected."""
    words = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    status = cluster.get("PodDisruptionBudget", "web")["status"]
    return tuple(status[word] for word in words)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 1}, (2, 3, 1, 3)),
        ({"minAvailable": 3}, (0, 3, 3, 3)),
        ({"minAvailable": "50%"}, (1, 3, 2, 3)),
        ({"maxUnavailable": 1}, (1, 3, 2, 3)),
        ({"maxUnavailable": "0%"}, (0, 3, 3, 3)),
    ],
)
def test_a_budget_counts_its_pods(spec: Obj, expected: tuple[int, ...]) -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"replicas": 3}}), budget(**spec)).ready()
    assert counts(cluster) == expected


def test_the_counts_follow_the_pods_and_the_condition_says_why() -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"replicas": 2}}), budget(minAvailable=1)).ready()
    assert counts(cluster) == (1, 2, 1, 2)
    (pod, other) = cluster.pods()
    cluster.ready(pod["metadata"]["name"], ready=False)
    assert counts(cluster) == (0, 1, 1, 2)
    (condition,) = cluster.get("PodDisruptionBudget", "web")["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "InsufficientPods")
    pods, budgets = cluster.list("Pod"), cluster.list("PodDisruptionBudget")
    with pytest.raises(TooManyRequests, match="would violate"):
        eviction.check(other, pods, budgets)
    eviction.check(
        next(one for one in pods if one["metadata"]["name"] == pod["metadata"]["name"]), pods, budgets
    )
