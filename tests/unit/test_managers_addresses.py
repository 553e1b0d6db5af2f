"""What stands beside Services as objects: mirrored Endpoints, IPAddresses, ServiceCIDR, accounts."""

from __future__ import annotations

import pytest

from controller.api import objects
from controller.api.errors import Invalid
from controller.api.objects import Obj
from controller.managers.endpoint import MANAGED_BY, SERVICE_NAME
from tests.unit.managers_kit import Cluster, merged, service

WITHOUT_SELECTOR = {"spec": {"selector": None}}


def endpoints(mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "default", "labels": {"tier": "db"}},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "http", "port": 80}]}],
    }
    return merged(plain, mutation or {})


def mirrored() -> Cluster:
    return Cluster().apply(service("web", WITHOUT_SELECTOR), endpoints())


def slices(cluster: Cluster) -> list[tuple[list[str], list[int]]]:
    return sorted(
        (
            [address for endpoint in one["endpoints"] for address in endpoint["addresses"]],
            [port["port"] for port in one["ports"]],
        )
        for one in cluster.list("EndpointSlice")
    )


def test_hand_written_endpoints_are_mirrored_to_a_slice() -> None:
    (one,) = mirrored().list("EndpointSlice")
    assert objects.labels(one) == {
        "tier": "db",
        SERVICE_NAME: "web",
        MANAGED_BY: "endpointslicemirroring-controller.k8s.io",
    }
    assert (one["addressType"], one["endpoints"]) == (
        "IPv4",
        [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
    )
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 80}]
    assert (objects.controller_of(one) or {})["kind"] == "Endpoints"


def test_the_mirror_follows_update_and_delete() -> None:
    cluster = mirrored()
    name = cluster.names("EndpointSlice")
    subsets = [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"name": "http", "port": 80}]}]
    cluster.patch("Endpoints", "web", {"subsets": subsets})
    assert slices(cluster) == [(["10.2.3.4"], [80])]
    assert cluster.names("EndpointSlice") == name
    cluster.delete("Endpoints", "web")
    assert slices(cluster) == []


def test_one_address_in_two_subsets_is_in_a_slice_for_each_set_of_ports() -> None:
    subsets = [
        {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "http", "port": port}]} for port in (80, 81)
    ]
    cluster = Cluster().apply(service("web", WITHOUT_SELECTOR), endpoints({"subsets": subsets}))
    assert slices(cluster) == [(["10.1.2.3"], [80]), (["10.1.2.3"], [81])]


def test_addresses_that_are_not_ready_are_mirrored_as_such() -> None:
    not_ready = {"subsets": [{"notReadyAddresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]}
    (one,) = Cluster().apply(service("web", WITHOUT_SELECTOR), endpoints(not_ready)).list("EndpointSlice")
    assert one["endpoints"][0]["conditions"] == {"ready": False}


@pytest.mark.parametrize(
    "mutation",
    [
        {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}},
        {"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "somebody"}}},
    ],
)
def test_endpoints_that_ask_for_it_are_not_mirrored(mutation: Obj) -> None:
    assert slices(Cluster().apply(service("web", WITHOUT_SELECTOR), endpoints(mutation))) == []


def test_endpoints_without_a_service_or_of_one_with_a_selector_are_not_mirrored() -> None:
    assert slices(Cluster().apply(endpoints())) == []
    cluster = Cluster().apply(service("web"))
    managed = {objects.labels(one)[MANAGED_BY] for one in cluster.list("EndpointSlice")}
    assert managed == {"endpointslice-controller.k8s.io"}


def test_each_cluster_ip_is_an_ip_address_that_names_its_service_until_that_goes() -> None:
    cluster = Cluster().apply(service("web"))
    address = cluster.get("Service", "web")["spec"]["clusterIP"]
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "web"}
    found = cluster.get("IPAddress", address)
    assert found["spec"] == {"parentRef": parent}
    assert objects.labels(found)["ipaddress.kubernetes.io/ip-family"] == "IPv4"
    cluster.delete("IPAddress", address)
    assert cluster.names("IPAddress") == [address]
    cluster.delete("Service", "web")
    assert cluster.names("IPAddress") == []


def test_an_address_that_changes_hands_names_its_new_service() -> None:
    cluster = Cluster().apply(service("web", {"spec": {"clusterIP": "10.96.7.7"}}))
    cluster.registry.delete("Service", "default", "web")
    cluster.apply(service("other", {"spec": {"clusterIP": "10.96.7.7"}}))
    assert cluster.get("IPAddress", "10.96.7.7")["spec"]["parentRef"]["name"] == "other"


def test_somebody_elses_ip_address_is_left_alone() -> None:
    own = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": "192.168.9.9"},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "gone"}},
    }
    assert Cluster().apply(own).names("IPAddress") == ["192.168.9.9"]
    with pytest.raises(Invalid, match="must be a valid IP address in canonical form"):
        Cluster().apply(merged(own, {"metadata": {"name": "010.1.1.1"}}))


def test_the_range_of_cluster_ips_is_a_ready_service_cidr_and_another_says_it_is_not_used() -> None:
    cluster = Cluster().settle()
    found = cluster.get("ServiceCIDR", "kubernetes")
    assert found["spec"]["cidrs"] == ["10.96.0.0/12"]
    assert objects.is_ready(found)
    other = merged(found, {"metadata": {"name": "more", "resourceVersion": None, "uid": None}})
    cluster.apply(merged(other, {"spec": {"cidrs": ["10.200.0.0/16"]}}))
    assert not objects.is_ready(cluster.get("ServiceCIDR", "more"))
    assert cluster.delete("ServiceCIDR", "kubernetes").names("ServiceCIDR") == ["kubernetes", "more"]


def test_every_namespace_has_a_default_service_account_and_gets_it_back() -> None:
    cluster = Cluster().settle()
    spaces = {objects.namespace(one) for one in cluster.list("ServiceAccount")}
    assert spaces == set(cluster.names("Namespace"))
    cluster.delete("ServiceAccount", "default")
    assert cluster.get("ServiceAccount", "default")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "more"}})
    cluster.delete("Namespace", "more")
    assert "more" not in cluster.names("Namespace")
