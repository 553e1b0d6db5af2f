"""ClusterIPs and NodePorts: who gets which, who keeps which, who is refused and in which words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.api.errors import ApiError, Invalid
from controller.api.objects import Obj
from controller.managers.allocator import Ranges, allocate_service, ports_of, static_addresses, static_ports
from tests.unit.managers_kit import Cluster, merged, service

SERVICES = IPv4Network("10.96.0.0/12")
NODE_PORT = {"spec": {"type": "NodePort"}}
BALANCER_LOCAL = {"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}


def port(**more: object) -> Obj:
    return {"port": 80, "protocol": "TCP", **more}


def test_the_static_bands_are_those_of_the_keps() -> None:
    assert static_addresses(SERVICES.num_addresses) == 256
    assert static_addresses(256) == 16
    assert static_ports(2768) == 86


def test_an_address_nobody_asked_for_comes_from_the_dynamic_band_and_is_the_same_every_time() -> None:
    first, again = allocate_service(service(), []), allocate_service(service(), [])
    address = IPv4Address(first["spec"]["clusterIP"])
    assert first == again
    assert address in SERVICES
    assert int(address) - int(SERVICES[0]) > 256
    assert first["spec"]["clusterIPs"] == [str(address)]
    assert first["spec"]["ipFamilies"] == ["IPv4"]


def test_two_services_get_two_addresses_even_when_their_hashes_meet() -> None:
    ranges = Ranges(networks={"IPv4": IPv4Network("10.96.0.0/29")}, reserved={})
    held: list[Obj] = []
    for number in range(6):
        held.append(allocate_service(service(f"s{number}"), held, ranges=ranges))
    assert sorted(one["spec"]["clusterIP"] for one in held) == [f"10.96.0.{host}" for host in range(1, 7)]
    with pytest.raises(ApiError, match="failed to allocate a serviceIP: range is full"):
        allocate_service(service("one-too-many"), held, ranges=ranges)


def test_the_reserved_addresses_go_to_kubernetes_and_kube_dns_alone() -> None:
    kubernetes = service("kubernetes")
    dns = service("kube-dns", {"metadata": {"namespace": "kube-system"}})
    assert allocate_service(kubernetes, [])["spec"]["clusterIP"] == "10.96.0.1"
    assert allocate_service(dns, [])["spec"]["clusterIP"] == "10.96.0.10"
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        allocate_service(service("web", {"spec": {"clusterIP": "10.96.0.10"}}), [])


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (
            {"spec": {"clusterIP": "10.96.5.5"}},
            'Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.96.5.5"]: '
            "failed to allocate IP 10.96.5.5: provided IP is already allocated",
        ),
        (
            {"spec": {"clusterIP": "10.11.12.13"}},
            'Service "web" is invalid: spec.clusterIPs: Invalid value: ["10.11.12.13"]: failed to allocate '
            "IP 10.11.12.13: the provided IP (10.11.12.13) is not in the valid range. "
            "The range of valid IPs is 10.96.0.0/12",
        ),
        (
            {"spec": {"type": "NodePort", "ports": [port(nodePort=30000)]}},
            'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 30000: '
            "provided port is already allocated",
        ),
        (
            {"spec": {"type": "NodePort", "ports": [port(nodePort=30000, protocol="UDP")]}},
            'Service "web" is invalid: spec.ports[0].nodePort: Invalid value: 30000: '
            "provided port is already allocated",
        ),
        (
            {"spec": {"type": "NodePort", "ports": [port(), port(port=81, nodePort=8080)]}},
            'Service "web" is invalid: spec.ports[1].nodePort: Invalid value: 8080: provided port is not in '
            "the valid range. The range of valid ports is 30000-32767",
        ),
    ],
)
def test_what_is_taken_or_out_of_range_is_refused_in_kubernetes_words(mutation: Obj, message: str) -> None:
    other = service(
        "other",
        {"spec": {"type": "NodePort", "clusterIP": "10.96.5.5", "ports": [port(nodePort=30000)]}},
    )
    with pytest.raises(Invalid) as refused:
        allocate_service(service("web", mutation), [other])
    assert str(refused.value) == message
    assert refused.value.status["code"] == 422


def test_a_headless_service_has_no_address_and_an_external_name_neither() -> None:
    headless = allocate_service(service("web", {"spec": {"clusterIP": "None"}}), [])["spec"]
    alias = allocate_service(service("web", {"spec": {"type": "ExternalName", "externalName": "a.b"}}), [])
    assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
    assert "clusterIP" not in alias["spec"]


def test_node_ports_come_from_the_dynamic_band() -> None:
    (number,) = ports_of(allocate_service(service("web", NODE_PORT), []))
    assert 30086 <= number <= 32767


def test_tcp_and_udp_of_one_port_share_a_node_port() -> None:
    dns = service(
        "web", {"spec": {"type": "NodePort", "ports": [port(name="t"), port(name="u", protocol="UDP")]}}
    )
    first, second = ports_of(allocate_service(dns, []))
    assert first == second


def test_two_ports_of_one_protocol_get_two_node_ports() -> None:
    both = service("web", {"spec": {"type": "NodePort", "ports": [port(name="a"), port(name="b", port=81)]}})
    first, second = ports_of(allocate_service(both, []))
    assert first != second


def test_a_local_load_balancer_gets_a_health_check_port_of_its_own() -> None:
    spec = allocate_service(service("web", BALANCER_LOCAL), [])["spec"]
    assert spec["healthCheckNodePort"] not in (0, spec["ports"][0]["nodePort"])
    plain = allocate_service(service("web", {"spec": {"type": "LoadBalancer"}}), [])["spec"]
    assert "healthCheckNodePort" not in plain


def test_a_load_balancer_may_do_without_node_ports() -> None:
    quiet = {"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}}
    assert ports_of(allocate_service(service("web", quiet), [])) == []


def test_a_manifest_applied_again_changes_no_address_and_no_port() -> None:
    stored = allocate_service(service("web", NODE_PORT), [])
    assert allocate_service(service("web", NODE_PORT), [stored]) == stored


def test_a_port_added_leaves_the_other_node_port_as_it_was() -> None:
    one = service("web", {"spec": {"type": "NodePort", "ports": [port(name="a")]}})
    stored = allocate_service(one, [])
    two = service("web", {"spec": {"type": "NodePort", "ports": [port(name="b", port=81), port(name="a")]}})
    made = allocate_service(two, [stored])["spec"]["ports"]
    assert made[1]["nodePort"] == stored["spec"]["ports"][0]["nodePort"]
    assert made[0]["nodePort"] != made[1]["nodePort"]


def test_becoming_an_external_name_releases_address_and_port() -> None:
    stored = allocate_service(service("web", BALANCER_LOCAL), [])
    changed = merged(
        stored, {"spec": {"type": "ExternalName", "externalName": "a.b", "externalTrafficPolicy": None}}
    )
    spec = allocate_service(changed, [stored])["spec"]
    assert "clusterIP" not in spec
    assert "clusterIPs" not in spec
    assert "healthCheckNodePort" not in spec
    assert "nodePort" not in spec["ports"][0]


def test_becoming_a_cluster_ip_keeps_the_address_and_releases_the_port() -> None:
    stored = allocate_service(service("web", NODE_PORT), [])
    made = allocate_service(merged(stored, {"spec": {"type": "ClusterIP"}}), [stored])
    assert made["spec"]["clusterIP"] == stored["spec"]["clusterIP"]
    assert ports_of(made) == []


def test_an_address_once_set_cannot_be_changed() -> None:
    stored = allocate_service(service(), [])
    with pytest.raises(Invalid) as refused:
        allocate_service(merged(stored, {"spec": {"clusterIP": "None"}}), [stored])
    assert str(refused.value) == (
        'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set'
    )


def test_the_registry_admits_by_what_the_store_holds_now() -> None:
    cluster = Cluster()
    cluster.apply(service("a", {"spec": {"type": "NodePort", "ports": [port(nodePort=30000)]}}))
    clash = service("b", {"spec": {"type": "NodePort", "ports": [port(nodePort=30000)]}})
    with pytest.raises(Invalid, match="provided port is already allocated"):
        cluster.apply(clash)
    cluster.patch("Service", "a", {"spec": {"type": "ClusterIP"}})
    cluster.apply(clash)
    cluster.delete("Service", "b")
    cluster.patch("Service", "a", {"spec": {"type": "NodePort", "ports": [port(nodePort=30000)]}})
    assert ports_of(cluster.get("Service", "a")) == [30000]


def test_a_port_that_takes_its_neighbours_number_leaves_the_neighbour_another() -> None:
    def ports(first: Obj, second: Obj) -> Obj:
        spec = {"type": "NodePort", "ports": [port(name="a", **first), port(name="b", port=81, **second)]}
        return service("web", {"spec": spec})

    stored = allocate_service(ports({"nodePort": 30001}, {"nodePort": 30002}), [])
    first, second = ports_of(allocate_service(ports({"nodePort": 30002}, {}), [stored]))
    assert first == 30002
    assert second != 30002


def test_a_port_held_from_before_the_range_changed_may_be_kept() -> None:
    stored = allocate_service(
        service("web", {"spec": {"type": "NodePort", "ports": [port(nodePort=30000)]}}), []
    )
    narrow = Ranges(node_ports=range(31000, 32000))
    assert ports_of(allocate_service(stored, [stored], ranges=narrow)) == [30000]


def test_leading_zeros_of_an_address_are_no_octal_number() -> None:
    made = allocate_service(service("web", {"spec": {"clusterIP": "10.96.0.011"}}), [])
    assert made["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]] == ["10.96.0.11"]
    again = allocate_service(service("web", {"spec": {"clusterIP": "10.96.0.011"}}), [made])
    assert again["spec"]["clusterIP"] == "10.96.0.11"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"ipFamilies": ["IPv6"]}, r'spec.ipFamilies\[0\]: Invalid value: "IPv6": not configured'),
        (
            {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"},
            r"spec.ipFamilies\[1\].*not configured on this cluster",
        ),
        ({"ipFamilyPolicy": "RequireDualStack"}, "not configured for dual-stack services"),
    ],
)
def test_a_family_that_the_cluster_does_not_have_is_refused(spec: Obj, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        allocate_service(service("web", {"spec": spec}), [])


def test_a_headless_service_without_selector_may_be_of_any_family() -> None:
    spec = {"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    made = allocate_service(service("web", {"spec": {**spec, "selector": None}}), [])
    assert made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
