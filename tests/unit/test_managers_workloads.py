"""Deployments, ReplicaSets and their pods, on the real store, registry and runner."""

from __future__ import annotations

import pytest

from controller.api import objects
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.managers.deployment import revision
from controller.managers.rollout import DESIRED, bounds, replicas
from tests.unit.managers_kit import Cluster, deployment, node, pod

NEW_IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "agnhost:2"}]}}}}
RECREATE = {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}


def scale(number: int) -> Obj:
    return {"spec": {"replicas": number}}


def conditions(obj: Obj) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in objects.status(obj)["conditions"]}


def images(cluster: Cluster) -> list[str]:
    return sorted(one["spec"]["containers"][0]["image"] for one in cluster.pods())


def test_a_deployment_makes_a_replica_set_named_by_its_template_and_pods_named_by_it() -> None:
    cluster = Cluster().apply(deployment("web"))
    (rs,) = cluster.list("ReplicaSet")
    digest = objects.labels(rs)["pod-template-hash"]
    assert objects.name(rs) == f"web-{digest}"
    assert rs["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert revision(rs) == revision(cluster.get("Deployment", "web")) == 1
    for one in cluster.pods():
        assert objects.name(one).rpartition("-")[0] == objects.name(rs)
        assert len(objects.name(one).rpartition("-")[2]) == 5
        assert (objects.controller_of(one) or {})["uid"] == objects.uid(rs)


def test_the_same_deployment_gets_the_same_names_in_every_lab() -> None:
    first, second = (Cluster().apply(deployment("web", scale(5))).names("Pod") for _ in range(2))
    assert first == second


def test_events_tell_what_the_real_controllers_tell() -> None:
    cluster = Cluster().apply(deployment("web"))
    (rs,) = cluster.names("ReplicaSet")
    assert cluster.events("ScalingReplicaSet") == [f"Scaled up replica set {rs} from 0 to 2"]
    assert sorted(cluster.events("SuccessfulCreate")) == [
        f"Created pod: {name}" for name in cluster.names("Pod")
    ]


def test_status_follows_the_pods() -> None:
    cluster = Cluster().apply(deployment("web"))
    status = objects.status(cluster.get("Deployment", "web"))
    assert (status["replicas"], status["unavailableReplicas"], status["observedGeneration"]) == (2, 2, 1)
    assert conditions(cluster.get("Deployment", "web")) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
    cluster.ready()
    status = objects.status(cluster.get("Deployment", "web"))
    assert (status["readyReplicas"], status["availableReplicas"]) == (2, 2)
    assert "unavailableReplicas" not in status
    assert conditions(cluster.get("Deployment", "web")) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }


def test_scaling_up_and_down_gives_new_pods_new_names() -> None:
    cluster = Cluster().apply(deployment("web")).ready()
    before = set(cluster.names("Pod"))
    cluster.patch("Deployment", "web", scale(0)).reap()
    assert cluster.list("Pod") == []
    cluster.patch("Deployment", "web", scale(2))
    assert len(cluster.list("Pod")) == 2
    assert not before & set(cluster.names("Pod"))


def test_a_pod_that_is_deleted_is_replaced_by_another_at_once() -> None:
    cluster = Cluster().apply(deployment("web")).ready()
    gone, kept = cluster.names("Pod")
    cluster.delete("Pod", gone)
    assert len(cluster.pods()) == 2
    assert kept in cluster.names("Pod")
    cluster.delete("Pod", gone, grace=0)
    assert gone not in cluster.names("Pod")


def test_a_rolling_update_replaces_every_pod_and_never_has_too_few_or_too_many() -> None:
    cluster = Cluster().apply(deployment("web", scale(4))).ready()
    cluster.patch("Deployment", "web", NEW_IMAGE)
    for _ in range(20):
        live = cluster.pods()
        assert len(live) <= 5
        assert sum(objects.is_ready(one) for one in live) >= 3
        if images(cluster) == ["agnhost:2"] * 4:
            break
        for one in live:
            if not objects.is_ready(one):
                cluster.ready(objects.name(one))
                break
        cluster.reap()
    cluster.roll()
    assert images(cluster) == ["agnhost:2"] * 4
    assert conditions(cluster.get("Deployment", "web"))["Progressing"] == ("True", "NewReplicaSetAvailable")
    assert sorted(map(replicas, cluster.list("ReplicaSet"))) == [0, 4]
    assert revision(cluster.get("Deployment", "web")) == 2


def test_going_back_to_an_old_template_uses_its_replica_set_under_a_new_revision() -> None:
    cluster = Cluster().apply(deployment("web")).ready()
    (first,) = cluster.names("ReplicaSet")
    old = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "agnhost:1"}]}}}}
    cluster.patch("Deployment", "web", NEW_IMAGE).roll()
    cluster.patch("Deployment", "web", old).roll()
    assert len(cluster.names("ReplicaSet")) == 2
    assert images(cluster) == ["agnhost:1"] * 2
    assert revision(cluster.get("ReplicaSet", first)) == revision(cluster.get("Deployment", "web")) == 3


def test_recreate_waits_until_the_last_old_pod_is_gone() -> None:
    cluster = Cluster().apply(deployment("web", RECREATE)).ready()
    cluster.patch("Deployment", "web", NEW_IMAGE)
    assert cluster.pods() == []
    assert len(cluster.list("Pod")) == 2
    cluster.reap()
    assert images(cluster) == ["agnhost:2"] * 2


def test_a_paused_deployment_scales_but_rolls_nothing_out() -> None:
    cluster = Cluster().apply(deployment("web")).ready()
    cluster.patch("Deployment", "web", {"spec": {"paused": True, "replicas": 3, **NEW_IMAGE["spec"]}})
    assert images(cluster) == ["agnhost:1"] * 3
    assert conditions(cluster.get("Deployment", "web"))["Progressing"] == ("Unknown", "DeploymentPaused")
    cluster.patch("Deployment", "web", {"spec": {"paused": False}}).roll()
    assert images(cluster) == ["agnhost:2"] * 3


def test_scaling_in_the_middle_of_a_rollout_keeps_its_proportions() -> None:
    cluster = Cluster().apply(deployment("web", scale(10))).ready()
    cluster.patch("Deployment", "web", NEW_IMAGE)
    assert images(cluster).count("agnhost:1") == 8
    assert images(cluster).count("agnhost:2") == 5
    cluster.patch("Deployment", "web", scale(30))
    assert len(cluster.pods()) == 38
    assert images(cluster).count("agnhost:2") == pytest.approx(38 * 5 / 13, abs=1)
    assert images(cluster.roll()) == ["agnhost:2"] * 30


def test_old_pods_go_when_the_new_replica_set_is_saturated_and_somebody_scaled_an_old_one_up() -> None:
    cluster = Cluster().apply(deployment("web")).ready()
    (first,) = cluster.names("ReplicaSet")
    cluster.patch("Deployment", "web", NEW_IMAGE).roll()
    notes = {"annotations": {DESIRED: "7"}}
    cluster.patch("ReplicaSet", first, {"metadata": notes, "spec": {"replicas": 3}}).roll()
    assert images(cluster) == ["agnhost:2"] * 2


def test_min_ready_seconds_delays_availability_and_nothing_polls() -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"minReadySeconds": 10}})).ready()
    assert "availableReplicas" not in objects.status(cluster.get("Deployment", "web"))
    version = cluster.store.newest
    assert cluster.pass_time(5).store.newest == version
    cluster.pass_time(6)
    assert objects.status(cluster.get("Deployment", "web"))["availableReplicas"] == 2


def test_a_rollout_that_does_not_progress_is_said_to_have_failed_after_its_deadline() -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"progressDeadlineSeconds": 60}}))
    cluster.pass_time(30)
    assert conditions(cluster.get("Deployment", "web"))["Progressing"][0] == "True"
    cluster.pass_time(40)
    failed = objects.condition(cluster.get("Deployment", "web"), "Progressing") or {}
    assert (failed["status"], failed["reason"]) == ("False", "ProgressDeadlineExceeded")
    cluster.pass_time(40).patch("Deployment", "web", {"metadata": {"labels": {"touched": "yes"}}})
    assert objects.condition(cluster.get("Deployment", "web"), "Progressing") == failed


def test_old_replica_sets_are_kept_up_to_the_limit() -> None:
    cluster = Cluster().apply(deployment("web", {"spec": {"revisionHistoryLimit": 2}})).ready()
    for number in range(2, 7):
        image = {"name": "main", "image": f"agnhost:{number}"}
        cluster.patch("Deployment", "web", {"spec": {"template": {"spec": {"containers": [image]}}}}).roll()
    assert sorted(map(revision, cluster.list("ReplicaSet"))) == [4, 5, 6]


@pytest.mark.parametrize(
    ("total", "surge", "unavailable", "expected"),
    [(4, "25%", "25%", (1, 1)), (2, "25%", "25%", (1, 0)), (3, 0, 0, (0, 1)), (10, "30%", 2, (3, 2))],
)
def test_surge_rounds_up_and_unavailable_down(
    total: int, surge: object, unavailable: object, expected: tuple[int, int]
) -> None:
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert bounds(deployment("web", {"spec": {"replicas": total, "strategy": rolling}})) == expected


def test_pods_that_cost_least_go_first_when_scaling_down() -> None:
    cluster = Cluster(nodes=2).apply(deployment("web", scale(4)))
    names = cluster.names("Pod")
    cluster.ready(*names[1:])
    cluster.patch(
        "Pod", names[3], {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}
    )
    cluster.patch("Deployment", "web", scale(3))
    assert names[0] not in [objects.name(one) for one in cluster.pods()]
    cluster.patch("Deployment", "web", scale(2))
    assert [objects.name(one) for one in cluster.pods()] == names[1:3]


def test_scaling_down_thins_the_crowded_node() -> None:
    cluster = Cluster(nodes=1).apply(deployment("web", scale(3))).ready()
    cluster.apply(node("node2"))
    cluster.patch("Deployment", "web", scale(4)).ready()
    cluster.patch("Deployment", "web", scale(2))
    assert sorted(one["spec"]["nodeName"] for one in cluster.pods()) == ["node1", "node2"]


def test_a_pod_without_a_controller_that_matches_is_adopted() -> None:
    cluster = Cluster().apply(deployment("web", scale(1)))
    (rs,) = cluster.list("ReplicaSet")
    stray = {"metadata": {"uid": None, "labels": dict(objects.labels(rs))}}
    cluster.apply(pod("stray", stray))
    owned = [one for one in cluster.pods() if objects.controller_of(one)]
    assert len(owned) == 1
    assert len(cluster.pods()) == 1


def test_a_pod_that_no_longer_matches_is_released_and_replaced() -> None:
    cluster = Cluster().apply(deployment("web", scale(1))).ready()
    (name,) = cluster.names("Pod")
    cluster.patch("Pod", name, {"metadata": {"labels": {"app": "debug"}}})
    assert len(cluster.pods()) == 2
    assert objects.owners(cluster.get("Pod", name)) == []


def test_a_replica_set_in_the_way_makes_the_deployment_choose_another_hash() -> None:
    (taken,) = Cluster().apply(deployment("web")).list("ReplicaSet")
    cluster = Cluster()
    labels = {"app": "stranger"}
    template = {"metadata": {"labels": labels}, "spec": taken["spec"]["template"]["spec"]}
    stranger = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": objects.name(taken), "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    cluster.apply(stranger).apply(deployment("web"))
    assert len(cluster.names("ReplicaSet")) == 2
    assert objects.status(cluster.get("Deployment", "web"))["collisionCount"] == 1
    assert len(cluster.pods()) == 2


def test_a_template_that_is_refused_is_told_as_an_event_and_tried_again_later() -> None:
    cluster = Cluster()
    labels = {"app": "web"}
    broken = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "agnhost"}]}}
    rs = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": broken},
    }
    create = cluster.registry.create

    def refuse(obj: Obj, **more: object) -> Obj:
        if obj["kind"] == "Pod":
            raise BadRequest("no pods today")
        return create(obj)

    cluster.registry.create = refuse  # type: ignore[method-assign]
    cluster.apply(rs)
    assert cluster.events("FailedCreate") == ["Error creating: no pods today"]
    assert cluster.managers.work.idle
    cluster.registry.create = create  # type: ignore[method-assign]
    cluster.pass_time(1)
    assert len(cluster.list("Pod")) == 1
