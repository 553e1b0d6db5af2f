"""StatefulSets, DaemonSets and ReplicationControllers, on the real store, registry and runner."""

from __future__ import annotations

import pytest

from controller.api import objects
from controller.api.errors import Invalid
from controller.api.objects import Obj
from controller.managers.revisions import HASH
from tests.unit.managers_kit import Cluster, merged, node

TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "main", "image": "agnhost:1"}]},
}
NEW_IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "agnhost:2"}]}}}}


def stateful_set(mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 3,
            "serviceName": "nginx",
            "selector": {"matchLabels": {"app": "web"}},
            "template": TEMPLATE,
        },
    }
    return merged(plain, mutation or {})


def daemon_set(mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE},
    }
    return merged(plain, mutation or {})


def replication_controller(mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "template": TEMPLATE},
    }
    return merged(plain, mutation or {})


def nodes_of(cluster: Cluster) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in cluster.pods())


def images(cluster: Cluster) -> dict[str, str]:
    return {objects.name(pod): pod["spec"]["containers"][0]["image"] for pod in cluster.pods()}


# -- StatefulSet


def test_a_stateful_sets_pods_come_one_after_the_other_each_when_the_one_before_is_ready() -> None:
    cluster = Cluster().apply(stateful_set())
    assert cluster.names("Pod") == ["web-0"]
    assert cluster.ready().names("Pod") == ["web-0", "web-1"]
    assert cluster.ready().names("Pod") == ["web-0", "web-1", "web-2"]
    assert cluster.ready().names("Pod") == ["web-0", "web-1", "web-2"]


def test_a_stateful_sets_pod_has_its_own_host_name_in_the_domain_of_its_service() -> None:
    cluster = Cluster().apply(stateful_set())
    pod = cluster.get("Pod", "web-0")
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-0", "nginx")
    assert objects.labels(pod)["apps.kubernetes.io/pod-index"] == "0"
    assert objects.labels(pod)["statefulset.kubernetes.io/pod-name"] == "web-0"


def test_parallel_waits_for_nobody() -> None:
    cluster = Cluster().apply(stateful_set({"spec": {"podManagementPolicy": "Parallel"}}))
    assert cluster.names("Pod") == ["web-0", "web-1", "web-2"]


def test_a_claim_template_is_a_volume_of_each_pod_under_its_own_name() -> None:
    mounts = {
        "containers": [{"name": "main", "image": "a", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    spec = {"volumeClaimTemplates": [claim], "template": {"spec": mounts}}
    cluster = Cluster().apply(stateful_set({"spec": spec}))
    (volume,) = [v for v in cluster.get("Pod", "web-0")["spec"]["volumes"] if v["name"] == "data"]
    assert volume["persistentVolumeClaim"] == {"claimName": "data-web-0"}
    with pytest.raises(Invalid, match='Not found: "data"'):
        Cluster().apply(stateful_set({"spec": {"template": {"spec": mounts}}}))


def test_a_stateful_set_shrinks_from_the_highest_ordinal_one_at_a_time() -> None:
    cluster = Cluster().apply(stateful_set()).roll()
    cluster.patch("StatefulSet", "web", {"spec": {"replicas": 1}})
    assert [objects.name(pod) for pod in cluster.pods()] == ["web-0", "web-1"]
    assert [objects.name(pod) for pod in cluster.reap().pods()] == ["web-0"]
    assert cluster.roll().names("Pod") == ["web-0"]


def test_a_pod_that_goes_comes_back_under_its_own_name() -> None:
    cluster = Cluster().apply(stateful_set()).roll()
    before = objects.uid(cluster.get("Pod", "web-1"))
    cluster.delete("Pod", "web-1", grace=0)
    assert objects.uid(cluster.get("Pod", "web-1")) != before


def test_an_update_goes_from_the_highest_ordinal_and_waits_for_each() -> None:
    cluster = Cluster().apply(stateful_set()).roll()
    cluster.patch("StatefulSet", "web", NEW_IMAGE)
    cluster.reap()
    assert images(cluster) == {"web-0": "agnhost:1", "web-1": "agnhost:1", "web-2": "agnhost:2"}
    assert [pod for pod in cluster.list("Pod") if objects.is_deleting(pod)] == []
    cluster.roll()
    assert set(images(cluster).values()) == {"agnhost:2"}
    status = objects.status(cluster.get("StatefulSet", "web"))
    assert status["currentRevision"] == status["updateRevision"]
    assert (status["readyReplicas"], status["updatedReplicas"]) == (3, 3)


def test_below_the_partition_pods_stay_as_they_were_even_when_made_again() -> None:
    partition = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 2}}}}
    cluster = Cluster().apply(stateful_set(partition)).roll()
    cluster.patch("StatefulSet", "web", NEW_IMAGE).roll()
    cluster.delete("Pod", "web-0", grace=0)
    assert images(cluster) == {"web-0": "agnhost:1", "web-1": "agnhost:1", "web-2": "agnhost:2"}


def test_each_template_is_kept_as_a_controller_revision_and_a_rollback_makes_it_the_newest() -> None:
    cluster = Cluster().apply(stateful_set()).roll()
    cluster.patch("StatefulSet", "web", NEW_IMAGE).roll()
    first, second = sorted(cluster.list("ControllerRevision"), key=lambda one: int(one["revision"]))
    cluster.patch("StatefulSet", "web", {"spec": {"template": TEMPLATE}}).roll()
    assert cluster.get("ControllerRevision", objects.name(first))["revision"] == second["revision"] + 1
    assert set(images(cluster).values()) == {"agnhost:1"}
    assert len(cluster.list("ControllerRevision")) == 2


def test_a_stateful_set_takes_its_pods_and_revisions_along() -> None:
    cluster = Cluster().apply(stateful_set()).roll()
    cluster.delete("StatefulSet", "web").reap().reap()
    assert cluster.names("Pod") == cluster.names("ControllerRevision") == []


def test_what_a_stateful_set_is_cannot_be_changed() -> None:
    cluster = Cluster().apply(stateful_set())
    with pytest.raises(Invalid, match="updates to statefulset spec for fields other than 'replicas'"):
        cluster.patch("StatefulSet", "web", {"spec": {"serviceName": "other"}})


# -- DaemonSet


def test_a_daemon_set_has_one_pod_on_every_node() -> None:
    cluster = Cluster().apply(daemon_set())
    assert nodes_of(cluster) == ["node1", "node2", "node3"]
    status = objects.status(cluster.ready().get("DaemonSet", "agent"))
    assert (status["desiredNumberScheduled"], status["numberAvailable"]) == (3, 3)


def test_a_daemon_set_follows_nodes_as_they_come_and_go() -> None:
    cluster = Cluster().apply(daemon_set()).ready()
    cluster.apply(node("node4"))
    assert nodes_of(cluster) == ["node1", "node2", "node3", "node4"]
    cluster.delete("Node", "node2")
    assert nodes_of(cluster) == ["node1", "node3", "node4"]


def test_a_cordoned_node_keeps_its_daemon_and_a_node_selector_is_obeyed() -> None:
    cluster = Cluster().apply(daemon_set())
    cluster.patch("Node", "node2", {"spec": {"unschedulable": True}})
    assert nodes_of(cluster) == ["node1", "node2", "node3"]
    cluster.patch("Node", "node3", {"metadata": {"labels": {"disk": "ssd"}}})
    cluster.patch("DaemonSet", "agent", {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}})
    assert nodes_of(cluster.roll()) == ["node3"]


def test_an_update_of_a_daemon_set_goes_node_by_node() -> None:
    cluster = Cluster().apply(daemon_set()).ready()
    cluster.patch("DaemonSet", "agent", NEW_IMAGE)
    assert len(cluster.pods()) == 2
    assert len(cluster.reap().pods()) == 3
    cluster.roll()
    assert set(images(cluster).values()) == {"agnhost:2"}
    assert len({objects.labels(pod)[HASH] for pod in cluster.pods()}) == 1


def test_a_daemon_that_goes_is_made_again_on_its_node() -> None:
    cluster = Cluster().apply(daemon_set()).ready()
    (gone,) = [pod for pod in cluster.pods() if pod["spec"]["nodeName"] == "node2"]
    cluster.delete("Pod", objects.name(gone), grace=0)
    assert nodes_of(cluster) == ["node1", "node2", "node3"]


# -- ReplicationController


def test_a_replication_controller_takes_its_selector_from_its_template() -> None:
    cluster = Cluster().apply(replication_controller())
    assert cluster.get("ReplicationController", "web")["spec"]["selector"] == {"app": "web"}
    assert len(cluster.names("Pod")) == 2
    assert objects.status(cluster.ready().get("ReplicationController", "web"))["readyReplicas"] == 2


def test_a_replication_controller_can_be_scaled_and_keeps_its_number() -> None:
    cluster = Cluster().apply(replication_controller())
    cluster.patch("ReplicationController", "web", {"spec": {"replicas": 3}}, subresource="scale")
    first = objects.name(cluster.pods()[0])
    cluster.delete("Pod", first, grace=0)
    assert len(cluster.pods()) == 3
    assert first not in cluster.names("Pod")


def test_a_replication_controller_whose_selector_misses_its_template_is_refused() -> None:
    with pytest.raises(Invalid, match="`selector` does not match template `labels`"):
        Cluster().apply(replication_controller({"spec": {"selector": {"app": "other"}}}))
