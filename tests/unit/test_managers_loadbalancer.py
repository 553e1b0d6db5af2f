"""External addresses: who gets one, which, when it goes back, and that none comes without a cloud."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from controller.api import objects
from controller.api.objects import Obj
from controller.api.wiring import CLOUD_LEASE, LOAD_BALANCER_NET
from controller.managers.loadbalancer import FINALIZER
from tests.unit.managers_kit import Cluster, merged, service

LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"namespace": CLOUD_LEASE[1], "name": CLOUD_LEASE[2]},
    "spec": {"holderIdentity": "fabric"},
}
BALANCED = {"spec": {"type": "LoadBalancer"}}


def balanced(name: str = "web", mutation: Obj | None = None) -> Obj:
    return service(name, merged(BALANCED, {"metadata": {"uid": None}}, mutation or {}))


def asks(address: str) -> Obj:
    return {"spec": {"loadBalancerIP": address}}


@pytest.fixture
def cloud() -> Cluster:
    return Cluster().apply(LEASE)


def status(cluster: Cluster, name: str = "web") -> list[Obj]:
    balancer = cluster.get("Service", name)["status"]["loadBalancer"]
    return list(balancer.get("ingress") or ())


def address(cluster: Cluster, name: str = "web") -> str:
    entries = status(cluster, name)
    return str(entries[0]["ip"]) if entries else "<pending>"


def finalizers(cluster: Cluster, name: str = "web") -> list[str]:
    return list(cluster.get("Service", name)["metadata"].get("finalizers") or ())


def test_a_service_gets_an_address_of_the_pool_and_the_finalizer(cloud: Cluster) -> None:
    cloud.apply(balanced())
    (entry,) = status(cloud)
    assert ip_address(entry["ip"]) in LOAD_BALANCER_NET
    assert entry["ipMode"] == "VIP"
    assert finalizers(cloud) == [FINALIZER]
    assert cloud.events("EnsuringLoadBalancer") == ["Ensuring load balancer"]
    assert cloud.events("EnsuredLoadBalancer") == ["Ensured load balancer"]


def test_without_a_cloud_it_stays_pending_and_gets_one_when_the_cloud_comes() -> None:
    cluster = Cluster().apply(balanced())
    assert (address(cluster), finalizers(cluster)) == ("<pending>", [])
    cluster.apply(LEASE)
    assert address(cluster) != "<pending>"


def test_a_lease_that_nobody_holds_is_no_cloud() -> None:
    cluster = Cluster().apply({**LEASE, "spec": {}}, balanced())
    assert address(cluster) == "<pending>"


def test_a_lease_of_another_name_is_no_cloud() -> None:
    other = merged(LEASE, {"metadata": {"name": "kube-scheduler"}})
    assert address(Cluster().apply(other, balanced())) == "<pending>"


def test_the_same_name_gets_the_same_address_on_every_run() -> None:
    runs = [Cluster().apply(LEASE, balanced("other"), balanced()) for _ in range(2)]
    assert address(runs[0]) == address(runs[1]) != address(runs[0], "other")


def test_the_asked_address_is_given(cloud: Cluster) -> None:
    assert address(cloud.apply(balanced("web", asks("203.0.113.77")))) == "203.0.113.77"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("203.0.113.77", "is already allocated"),
        ("10.96.0.7", "is not in the pool 203.0.113.0/24"),
        ("nonsense", "is not in the pool 203.0.113.0/24"),
    ],
)
def test_an_asked_address_that_cannot_be_had_is_an_event(cloud: Cluster, asked: str, why: str) -> None:
    cloud.apply(balanced("first", asks("203.0.113.77")), balanced("web", asks(asked)))
    assert address(cloud) == "<pending>"
    (said,) = cloud.events("SyncLoadBalancerFailed")
    assert said == f"Error syncing load balancer: failed to ensure load balancer: requested IP {asked} {why}"


def test_who_waits_for_an_address_gets_it_when_it_is_free(cloud: Cluster) -> None:
    cloud.apply(balanced("first", asks("203.0.113.77")), balanced("web", asks("203.0.113.77")))
    cloud.delete("Service", "first")
    assert address(cloud) == "203.0.113.77"


def test_an_address_among_external_ips_is_given_to_nobody_else(cloud: Cluster) -> None:
    cloud.apply(service("fixed", {"spec": {"externalIPs": ["203.0.113.77"]}}))
    cloud.apply(balanced("web", asks("203.0.113.77")))
    assert address(cloud) == "<pending>"


def test_another_wish_moves_the_service(cloud: Cluster) -> None:
    cloud.apply(balanced()).patch("Service", "web", asks("203.0.113.9"))
    assert address(cloud) == "203.0.113.9"


def test_a_full_pool_is_said_and_the_service_waits(cloud: Cluster) -> None:
    every = LOAD_BALANCER_NET.num_addresses - 2
    for number in range(every):
        cloud.registry.create(balanced(f"web-{number}"))
    cloud.settle()
    given = {address(cloud, f"web-{number}") for number in range(every)}
    assert len(given) == every
    assert all(ip_address(one) in list(LOAD_BALANCER_NET.hosts()) for one in given)
    cloud.apply(balanced("late"))
    assert address(cloud, "late") == "<pending>"
    (said,) = cloud.events("SyncLoadBalancerFailed")
    assert said.endswith("no free address is left in the pool 203.0.113.0/24")
    freed = address(cloud, "web-7")
    cloud.delete("Service", "web-7")
    assert address(cloud, "late") == freed


def test_a_deleted_service_goes_when_its_balancer_is_gone(cloud: Cluster) -> None:
    cloud.apply(balanced()).delete("Service", "web")
    assert cloud.names("Service") == []
    assert cloud.events("DeletingLoadBalancer") == ["Deleting load balancer"]
    assert cloud.events("DeletedLoadBalancer") == ["Deleted load balancer"]


def test_without_a_cloud_the_finalizer_holds_a_deleted_service(cloud: Cluster) -> None:
    cloud.apply(balanced())
    cloud.registry.delete("Lease", CLOUD_LEASE[1], CLOUD_LEASE[2])
    cloud.delete("Service", "web")
    assert objects.is_deleting(cloud.get("Service", "web"))
    assert address(cloud) != "<pending>"


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_another_type_gives_the_address_and_the_finalizer_back(cloud: Cluster, kind: str) -> None:
    cloud.apply(balanced()).patch("Service", "web", {"spec": {"type": kind}})
    assert (address(cloud), finalizers(cloud)) == ("<pending>", [])
    cloud.patch("Service", "web", BALANCED)
    assert address(cloud) != "<pending>"
    assert finalizers(cloud) == [FINALIZER]


def test_a_class_of_another_cloud_is_left_alone(cloud: Cluster) -> None:
    cloud.apply(balanced("web", {"spec": {"loadBalancerClass": "example.com/internal"}}))
    assert (address(cloud), finalizers(cloud), cloud.list("Event")) == ("<pending>", [], [])


def test_a_class_of_ours_is_served(cloud: Cluster) -> None:
    cloud.apply(balanced("web", {"spec": {"loadBalancerClass": "podwire.dev/fabric"}}))
    assert address(cloud) != "<pending>"


def test_other_finalizers_stay(cloud: Cluster) -> None:
    cloud.apply(balanced("web", {"metadata": {"finalizers": ["example.com/mine"]}}))
    cloud.patch("Service", "web", {"spec": {"type": "ClusterIP"}})
    assert finalizers(cloud) == ["example.com/mine"]


def test_a_namespace_with_a_balancer_can_be_deleted(cloud: Cluster) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    cloud.apply(space, balanced("web", {"metadata": {"namespace": "shop"}}))
    cloud.registry.delete("Namespace", None, "shop")
    cloud.settle()
    assert "shop" not in cloud.names("Namespace")


def test_at_rest_nothing_is_written_again(cloud: Cluster) -> None:
    cloud.apply(balanced())
    before = cloud.store.newest
    cloud.managers = cloud.new_managers()
    cloud.settle()
    assert cloud.store.newest == before


def test_node_ports_are_given_unless_the_service_declines_them(cloud: Cluster) -> None:
    cloud.apply(balanced(), balanced("bare", {"spec": {"allocateLoadBalancerNodePorts": False}}))
    ports: dict[str, Any] = {
        name: cloud.get("Service", name)["spec"]["ports"][0].get("nodePort") for name in ("web", "bare")
    }
    assert ports["web"] in range(30000, 32768)
    assert ports["bare"] is None
    cloud.patch("Service", "bare", {"spec": {"allocateLoadBalancerNodePorts": True}})
    assert cloud.get("Service", "bare")["spec"]["ports"][0]["nodePort"] in range(30000, 32768)


def test_policy_local_gets_a_health_check_node_port_and_policy_cluster_gives_it_back(cloud: Cluster) -> None:
    cloud.apply(balanced("web", {"spec": {"externalTrafficPolicy": "Local"}}))
    assert cloud.get("Service", "web")["spec"]["healthCheckNodePort"] in range(30000, 32768)
    cloud.patch("Service", "web", {"spec": {"externalTrafficPolicy": "Cluster"}})
    assert "healthCheckNodePort" not in cloud.get("Service", "web")["spec"]
