"""What a lab's cluster shows of itself: the Service ``kubernetes``, mirror Pods. On real store and runner.

node1 192.168.49.2 is the control plane, node2 192.168.49.3 is not; both are nodes of a lab.
"""

from __future__ import annotations

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import CONTROL_PLANE, DATAPATH_ID, MIRROR
from tests.unit.managers_kit import Cluster, deployment, merged, node


def lab_node(name: str, address: str, *, control_plane: bool = False) -> Obj:
    labels = {CONTROL_PLANE: ""} if control_plane else {}
    mutation = {
        "metadata": {"labels": labels, "annotations": {DATAPATH_ID: "1"}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
    return merged(node(name), mutation)


def lab() -> Cluster:
    return Cluster(nodes=0).apply(
        lab_node("node1", "192.168.49.2", control_plane=True), lab_node("node2", "192.168.49.3")
    )


def addresses(cluster: Cluster) -> tuple[list[str], list[str]]:
    """Those of the Endpoints and of the EndpointSlice ``kubernetes``."""
    elder, younger = cluster.get("Endpoints", "kubernetes"), cluster.get("EndpointSlice", "kubernetes")
    return (
        [one["ip"] for subset in elder["subsets"] for one in subset["addresses"]],
        [one for endpoint in younger["endpoints"] for one in endpoint["addresses"]],
    )


def moved(cluster: Cluster) -> Cluster:
    address = {"status": {"addresses": [{"type": "InternalIP", "address": "192.168.49.12"}]}}
    return cluster.patch("Node", "node1", address, subresource="status")


def mirrors(cluster: Cluster) -> dict[str, str]:
    return {objects.name(one): objects.status(one)["podIP"] for one in cluster.list("Pod")}


def test_the_service_kubernetes_points_at_the_control_planes_node() -> None:
    cluster = lab()
    spec = cluster.get("Service", "kubernetes")["spec"]
    assert (spec["clusterIP"], spec["ports"][0]["port"], spec["ports"][0]["targetPort"]) == (
        "10.96.0.1",
        443,
        6443,
    )
    assert addresses(cluster) == (["192.168.49.2"], ["192.168.49.2"])
    assert len(cluster.list("EndpointSlice")) == 1, "its Endpoints are not mirrored"


def test_its_endpoint_follows_the_node() -> None:
    assert addresses(moved(lab())) == (["192.168.49.12"], ["192.168.49.12"])


def test_it_comes_back_when_it_is_deleted_or_its_endpoints_are_meddled_with() -> None:
    cluster = lab()
    cluster.delete("Service", "kubernetes").delete("EndpointSlice", "kubernetes")
    cluster.patch("Endpoints", "kubernetes", {"subsets": []})
    assert cluster.get("Service", "kubernetes")["spec"]["clusterIP"] == "10.96.0.1"
    assert addresses(cluster) == (["192.168.49.2"], ["192.168.49.2"])


def test_without_a_control_plane_there_is_no_such_service() -> None:
    assert Cluster().settle().names("Service") == []


def test_the_labs_own_processes_are_mirror_pods_at_their_nodes_addresses() -> None:
    cluster = lab()
    assert mirrors(cluster) == {
        "kube-apiserver-node1": "192.168.49.2",
        "kube-proxy-node1": "192.168.49.2",
        "kube-proxy-node2": "192.168.49.3",
    }
    for one in cluster.list("Pod"):
        assert objects.annotation(one, MIRROR) is not None
        assert objects.annotation(one, "kubernetes.io/config.source") == "file"
        assert one["spec"]["hostNetwork"] is True
        assert objects.is_ready(one)
    assert mirrors(moved(cluster))["kube-apiserver-node1"] == "192.168.49.12"


def test_a_mirror_pod_that_is_deleted_comes_back_and_goes_only_with_its_node() -> None:
    cluster = lab()
    cluster.registry.delete("Pod", "kube-system", "kube-proxy-node2")
    assert "kube-proxy-node2" in mirrors(cluster.settle())
    assert "kube-proxy-node2" not in mirrors(cluster.delete("Node", "node2"))


def test_mirror_pods_change_nothing_of_where_other_pods_are_placed() -> None:
    cluster = lab().apply(deployment("web", {"spec": {"replicas": 1}}))
    (placed,) = [one for one in cluster.list("Pod") if objects.namespace(one) == "default"]
    assert placed["spec"]["nodeName"] == "node1"
