"""What goes when something else goes: dependents, namespaces, pods of vanished nodes."""

from __future__ import annotations

from controller.api import objects
from controller.api.objects import Obj
from tests.unit.managers_kit import Cluster, deployment, pod, service

FRESH = {"metadata": {"uid": None}}


def web(cluster: Cluster) -> Cluster:
    return cluster.apply(deployment("web"), service("web", FRESH)).ready()


def test_deleting_a_deployment_takes_its_replica_sets_and_pods_along() -> None:
    cluster = web(Cluster()).delete("Deployment", "web", propagation="Background")
    assert cluster.names("Deployment") == cluster.names("ReplicaSet") == []
    assert cluster.pods() == []
    assert cluster.reap().names("Pod") == []


def test_foreground_deletion_keeps_the_owner_until_the_last_pod_is_gone() -> None:
    cluster = web(Cluster()).delete("Deployment", "web", propagation="Foreground")
    assert cluster.names("Deployment") == ["web"]
    assert len(cluster.names("Pod")) == 2
    cluster.reap()
    assert cluster.names("Deployment") == cluster.names("ReplicaSet") == cluster.names("Pod") == []


def test_orphaned_pods_stay_without_an_owner() -> None:
    cluster = web(Cluster()).delete("Deployment", "web", propagation="Orphan")
    assert cluster.names("Deployment") == []
    (rs,) = cluster.list("ReplicaSet")
    assert objects.owners(rs) == []
    cluster.delete("ReplicaSet", objects.name(rs), propagation="Orphan")
    assert cluster.names("ReplicaSet") == []
    assert [objects.owners(one) for one in cluster.pods()] == [[], []]


def test_an_orphaned_replica_set_is_adopted_by_a_deployment_that_matches() -> None:
    cluster = web(Cluster()).delete("Deployment", "web", propagation="Orphan")
    before = cluster.names("Pod")
    cluster.apply(deployment("web"))
    assert cluster.names("Pod") == before
    (rs,) = cluster.list("ReplicaSet")
    assert (objects.controller_of(rs) or {})["name"] == "web"


def test_the_slices_and_endpoints_of_a_service_go_with_it() -> None:
    cluster = web(Cluster())
    assert len(cluster.names("EndpointSlice")) == 1
    assert cluster.names("Endpoints") == ["web"]
    cluster.delete("Service", "web")
    assert cluster.names("EndpointSlice") == cluster.names("Endpoints") == []


def test_an_object_whose_owner_never_existed_is_collected() -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "nobody"}
    cluster = Cluster().apply(pod("child", {"metadata": {"uid": None, "ownerReferences": [owner]}}))
    assert cluster.pods() == []


def test_a_namespace_is_emptied_before_it_goes() -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    inside = {"metadata": {"namespace": "team", "uid": None}}
    cluster = Cluster().apply(space).apply(deployment("web", inside), service("web", inside)).ready()
    cluster.delete("Namespace", "team")
    assert cluster.get("Namespace", "team")["status"]["phase"] == "Terminating"
    assert {objects.namespace(one) for one in cluster.list("Pod")} == {"team"}
    cluster.reap()
    assert "team" not in cluster.names("Namespace")
    everything: list[Obj] = [one for kind in objects.KINDS for one in cluster.list(kind)]
    assert not [one for one in everything if objects.namespace(one) == "team"]


def test_pods_of_a_deleted_node_are_removed_and_replaced_elsewhere() -> None:
    cluster = web(Cluster(nodes=2)).delete("Node", "node2")
    assert [one["spec"]["nodeName"] for one in cluster.list("Pod")] == ["node1", "node1"]


def test_a_pod_for_a_node_that_is_not_there_yet_waits_for_it_for_a_while() -> None:
    early = {"metadata": {"uid": None}, "spec": {"nodeName": "node9"}}
    cluster = Cluster().apply(pod("early", early)).pass_time(30)
    assert cluster.names("Pod") == ["early"]
    assert cluster.pass_time(20).names("Pod") == []


def test_pods_leave_a_node_with_a_no_execute_taint_unless_they_tolerate_it() -> None:
    cluster = web(Cluster(nodes=2))
    forever = {"key": "k", "operator": "Exists"}
    for name, more in (("stays", {}), ("waits", {"tolerationSeconds": 60})):
        spec = {"nodeName": "node2", "tolerations": [{**forever, **more}]}
        cluster.apply(pod(name, {"metadata": {"uid": None, "labels": {"app": name}}, "spec": spec}))
    taint = {"key": "k", "effect": "NoExecute"}
    cluster.patch("Node", "node2", {"spec": {"taints": [taint]}}).reap()
    by_node = {one["spec"].get("nodeName") for one in cluster.list("Pod") if objects.name(one)[:4] == "web-"}
    assert by_node == {"node1"}
    assert {"stays", "waits"} <= set(cluster.names("Pod"))
    assert cluster.events("TaintManagerEviction")
    cluster.pass_time(61).reap()
    assert "waits" not in cluster.names("Pod")
    assert "stays" in cluster.names("Pod")


def test_an_event_goes_an_hour_after_it_was_last_seen() -> None:
    cluster = web(Cluster()).pass_time(3000)
    assert cluster.events("Scheduled")
    assert cluster.pass_time(700).list("Event") == []
