"""Dual stack, as the objects show it: which families and addresses a Service gets, and its endpoints.

Nodes and pods have fd00:10:244::N beside 10.244.0.N; Services fd00:10:96::/112 beside 10.96.0.0/12.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from controller.api.errors import Invalid
from controller.api.objects import Obj
from controller.api.validate import problems
from controller.api.wiring import CLOUD_LEASE, CONTROL_PLANE, RANGES
from controller.managers.allocator import allocate_service, ranges_of
from tests.unit.managers_kit import Cluster, deployment, merged, node, service

ONE, TWO = ranges_of("ipv4"), ranges_of("dual")
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
PREFIX = 'Service "web" is invalid: '
V4, V6 = "10.96.5.5", "fd00:10:96::5"


def admitted(spec: Obj, *, dual: bool = True) -> Obj:
    """The spec of Service ``web`` as it is stored."""
    made: Obj = allocate_service(service("web", {"spec": spec}), [], ranges=TWO if dual else ONE)["spec"]
    return made


def stored(spec: Obj, *, dual: bool = True) -> Obj:
    return merged(service("web"), {"spec": admitted(spec, dual=dual)})


def families(spec: Obj) -> tuple[Any, Any, list[int]]:
    """Policy, families and the versions of the addresses."""
    versions: list[int] = [ip_address(one).version for one in spec["clusterIPs"] if one != "None"]
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    return spec["ipFamilyPolicy"], spec["ipFamilies"], versions


@pytest.mark.parametrize(
    ("spec", "policy", "versions"),
    [
        ({}, SINGLE, [4]),
        ({"ipFamilyPolicy": SINGLE}, SINGLE, [4]),
        ({"ipFamilyPolicy": PREFER}, PREFER, [4, 6]),
        ({"ipFamilyPolicy": REQUIRE}, REQUIRE, [4, 6]),
        ({"ipFamilies": ["IPv6"]}, SINGLE, [6]),
        ({"ipFamilies": ["IPv6"], "ipFamilyPolicy": PREFER}, PREFER, [6, 4]),
        ({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": REQUIRE}, REQUIRE, [6, 4]),
        ({"clusterIP": V6}, SINGLE, [6]),
        ({"clusterIP": V6, "ipFamilyPolicy": REQUIRE}, REQUIRE, [6, 4]),
        ({"clusterIP": V4, "clusterIPs": [V4, V6], "ipFamilyPolicy": REQUIRE}, REQUIRE, [4, 6]),
        ({"type": "NodePort", "ipFamilyPolicy": PREFER}, PREFER, [4, 6]),
    ],
)
def test_a_service_of_a_dual_stack_cluster_has_an_address_of_each_of_its_families(
    spec: Obj, policy: str, versions: list[int]
) -> None:
    made = admitted(spec)
    assert families(made) == (policy, [f"IPv{version}" for version in versions], versions)
    for address, family in zip(made["clusterIPs"], made["ipFamilies"], strict=True):
        assert ip_address(address) in RANGES[family].services
    for asked in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        assert asked is None or asked in made["clusterIPs"]


@pytest.mark.parametrize(
    ("spec", "dual", "policy", "wanted"),
    [
        ({"clusterIP": "None"}, True, SINGLE, ["IPv4"]),
        ({"clusterIP": "None", "ipFamilyPolicy": PREFER}, True, PREFER, ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "ipFamilyPolicy": PREFER}, False, PREFER, ["IPv4"]),
        ({"clusterIP": "None", "selector": None}, True, REQUIRE, ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "selector": None}, False, REQUIRE, ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "selector": None, "ipFamilyPolicy": SINGLE}, True, SINGLE, ["IPv4"]),
        ({"clusterIP": "None", "selector": None, "ipFamilies": ["IPv6"]}, False, REQUIRE, ["IPv6", "IPv4"]),
        ({"ipFamilyPolicy": PREFER}, False, PREFER, ["IPv4"]),
    ],
)
def test_a_headless_service_without_selector_may_have_every_family_others_only_the_clusters(
    spec: Obj, dual: bool, policy: str, wanted: list[str]
) -> None:
    made = admitted(spec, dual=dual)
    assert (made["ipFamilyPolicy"], made["ipFamilies"]) == (policy, wanted)
    assert len(made["clusterIPs"]) == 1


@pytest.mark.parametrize(
    ("spec", "dual", "message"),
    [
        (
            {"ipFamilyPolicy": REQUIRE}, False,
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
        ),
        (
            {"ipFamilies": ["IPv6"]}, False,
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (
            {"clusterIP": V6}, False,
            f'spec.clusterIPs[0]: Invalid value: ["{V6}"]: IPv6 is not configured on this cluster',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"]}, True,
            'spec.ipFamilyPolicy: Invalid value: "SingleStack": must be '
            "'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        (
            {"clusterIP": V4, "clusterIPs": [V4, V6]}, True,
            'spec.ipFamilyPolicy: Invalid value: "SingleStack": must be '
            "'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ),
        (
            {"clusterIP": V6, "ipFamilies": ["IPv4"]}, True,
            f'spec.clusterIPs[0]: Invalid value: "{V6}": '
            "expected an IPv4 value as indicated by `ipFamilies[0]`",
        ),
        (
            {"clusterIP": V4, "clusterIPs": [V6, V4]}, True,
            f'spec.clusterIPs: Invalid value: ["{V6}", "{V4}"]: first value must match `clusterIP`',
        ),
        (
            {"clusterIPs": [V4]}, True,
            f'spec.clusterIPs: Invalid value: ["{V4}"]: must be empty when `clusterIP` is not specified',
        ),
        (
            {"clusterIP": V4, "clusterIPs": [V4, "10.96.5.6"], "ipFamilyPolicy": REQUIRE}, True,
            f'spec.clusterIPs: Invalid value: ["{V4}", "10.96.5.6"]: '
            "may specify no more than one IP for each IP family",
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None", V4], "ipFamilyPolicy": REQUIRE}, True,
            f'spec.clusterIPs: Invalid value: ["None", "{V4}"]: \'None\' must be the first and only value',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": REQUIRE}, True,
            'spec.ipFamilies[1]: Duplicate value: "IPv4"',
        ),
        (
            {"ipFamilyPolicy": "Both"}, True,
            'spec.ipFamilyPolicy: Unsupported value: "Both": '
            'supported values: "PreferDualStack", "RequireDualStack", "SingleStack"',
        ),
        (
            {"clusterIP": "fd00:99::5"}, True,
            'spec.clusterIPs: Invalid value: ["fd00:99::5"]: failed to allocate IP fd00:99::5: the provided'
            " IP (fd00:99::5) is not in the valid range. The range of valid IPs is fd00:10:96::/112",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_kubernetes_words(spec: Obj, dual: bool, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        admitted(spec, dual=dual)
    assert str(caught.value) == PREFIX + message


@pytest.mark.parametrize(
    ("before", "change", "policy", "wanted"),
    [
        ({}, {"ipFamilyPolicy": PREFER}, PREFER, ["IPv4", "IPv6"]),
        ({}, {"ipFamilyPolicy": REQUIRE}, REQUIRE, ["IPv4", "IPv6"]),
        ({}, {"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv4", "IPv6"]}, REQUIRE, ["IPv4", "IPv6"]),
        ({"ipFamilies": ["IPv6"]}, {"ipFamilyPolicy": PREFER}, PREFER, ["IPv6", "IPv4"]),
        ({"ipFamilyPolicy": REQUIRE}, {"ipFamilyPolicy": SINGLE}, SINGLE, ["IPv4"]),
        ({"ipFamilyPolicy": PREFER}, {"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4"]}, SINGLE, ["IPv4"]),
        ({"ipFamilyPolicy": PREFER}, {"ipFamilyPolicy": REQUIRE}, REQUIRE, ["IPv4", "IPv6"]),
        ({"ipFamilyPolicy": PREFER}, {"sessionAffinity": "ClientIP"}, PREFER, ["IPv4", "IPv6"]),
    ],
)
def test_the_second_address_comes_and_goes_with_the_policy_and_the_first_one_stays(
    before: Obj, change: Obj, policy: str, wanted: list[str]
) -> None:
    old = stored(before)
    made = allocate_service(merged(old, {"spec": change}), [], old=old, ranges=TWO)["spec"]
    assert made["clusterIP"] == old["spec"]["clusterIP"]
    assert families(made) == (policy, wanted, [int(family[-1]) for family in wanted])


@pytest.mark.parametrize(
    ("before", "change", "message"),
    [
        (
            {"ipFamilyPolicy": REQUIRE}, {"ipFamilies": ["IPv4"]},
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the"
            " secondary IP family",
        ),
        (
            {}, {"ipFamilies": ["IPv6"]},
            'spec.clusterIPs[0]: Invalid value: "10.96.5.5": '
            "expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            {}, {"clusterIP": "10.96.5.6"},
            'spec.clusterIPs[0]: Invalid value: ["10.96.5.6"]: may not change once set',
        ),
        (
            {"ipFamilyPolicy": REQUIRE}, {"clusterIPs": [V4, "fd00:10:96::6"]},
            f'spec.clusterIPs[1]: Invalid value: ["{V4}", "fd00:10:96::6"]: may not change once set',
        ),
    ],
)  # fmt: skip
def test_the_primary_family_and_address_may_not_change(before: Obj, change: Obj, message: str) -> None:
    old = stored({"clusterIP": V4, **before})
    with pytest.raises(Invalid) as caught:
        allocate_service(merged(old, {"spec": change}), [], old=old, ranges=TWO)
    assert str(caught.value) == PREFIX + message


def test_a_prefer_dual_stack_service_does_not_follow_the_cluster_by_itself() -> None:
    old = stored({"ipFamilyPolicy": PREFER}, dual=False)
    changed = merged(old, {"spec": {"ports": [{"port": 81, "protocol": "TCP", "targetPort": 8080}]}})
    assert families(allocate_service(changed, [], old=old, ranges=TWO)["spec"])[2] == [4]


def test_a_manifest_that_mentions_no_address_keeps_both_of_them() -> None:
    old = stored({"ipFamilyPolicy": REQUIRE})
    again = allocate_service(service("web", {"spec": {"ipFamilyPolicy": REQUIRE}}), [], old=old, ranges=TWO)[
        "spec"
    ]
    assert again["clusterIPs"] == old["spec"]["clusterIPs"]
    assert again["ipFamilies"] == ["IPv4", "IPv6"]


def test_an_ipv6_address_is_stored_in_its_one_spelling() -> None:
    assert admitted({"clusterIP": "FD00:10:96:0::0005"})["clusterIPs"] == [V6]


def test_external_name_gives_both_addresses_back_and_gets_new_ones_when_it_returns() -> None:
    cluster = Cluster(ip_family="dual").apply(service("web", {"spec": {"ipFamilyPolicy": REQUIRE}}))
    assert len(cluster.list("IPAddress")) == 2
    cluster.patch("Service", "web", {"spec": {"type": "ExternalName", "externalName": "example.org"}})
    spec = cluster.get("Service", "web")["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(spec)
    assert cluster.list("IPAddress") == []
    cluster.patch("Service", "web", {"spec": {"type": "ClusterIP", "externalName": None}})
    assert families(cluster.get("Service", "web")["spec"]) == (SINGLE, ["IPv4"], [4])


def test_an_external_name_service_may_not_say_families() -> None:
    spec = {
        "type": "ExternalName",
        "externalName": "a.example",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": SINGLE,
    }
    found = [str(one.field) for one in problems(service("web", {"spec": {**spec, "selector": None}}))]
    assert found == ["spec.ipFamilies", "spec.ipFamilyPolicy"]


def test_the_service_cidr_and_the_addresses_are_of_both_families() -> None:
    cluster = Cluster(ip_family="dual").apply(service("web", {"spec": {"ipFamilyPolicy": REQUIRE}}))
    (cidr,) = cluster.list("ServiceCIDR")
    assert cidr["spec"]["cidrs"] == ["10.96.0.0/12", "fd00:10:96::/112"]
    addresses = {one["metadata"]["name"]: one for one in cluster.list("IPAddress")}
    assert sorted(addresses) == sorted(cluster.get("Service", "web")["spec"]["clusterIPs"])
    six = next(one for name, one in addresses.items() if ":" in name)
    assert six["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv6"


def test_a_dual_stack_service_has_slices_of_each_family_and_endpoints_of_the_first() -> None:
    cluster = Cluster(ip_family="dual").apply(service("web", {"spec": {"ipFamilyPolicy": PREFER}}))
    cluster.apply(deployment("web", {"spec": {"replicas": 2}})).ready()
    found = {
        one["addressType"]: sorted(a for e in one["endpoints"] for a in e["addresses"])
        for one in cluster.list("EndpointSlice")
    }
    assert found == {
        "IPv4": ["10.244.0.2", "10.244.0.3"],
        "IPv6": ["fd00:10:244::2", "fd00:10:244::3"],
    }
    (subset,) = cluster.get("Endpoints", "web")["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["10.244.0.2", "10.244.0.3"]
    cluster.patch("Service", "web", {"spec": {"ipFamilyPolicy": SINGLE}})
    assert [one["addressType"] for one in cluster.list("EndpointSlice")] == ["IPv4"]


def test_a_service_of_ipv6_alone_has_ipv6_slices_and_endpoints() -> None:
    cluster = Cluster(ip_family="dual").apply(service("web", {"spec": {"ipFamilies": ["IPv6"]}}))
    cluster.apply(deployment("web", {"spec": {"replicas": 1}})).ready()
    (slice_,) = cluster.list("EndpointSlice")
    assert (slice_["addressType"], slice_["endpoints"][0]["addresses"]) == ("IPv6", ["fd00:10:244::2"])
    (subset,) = cluster.get("Endpoints", "web")["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["fd00:10:244::2"]


def test_hand_written_endpoints_of_both_families_are_mirrored_family_by_family() -> None:
    cluster = Cluster(ip_family="dual").apply(service("web", {"spec": {"selector": None}}))
    rows = [{"ip": "198.51.100.7"}, {"ip": "2001:db8:198::7"}]
    cluster.apply({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web", "namespace": "default"},
        "subsets": [{"addresses": rows, "ports": [{"port": 80, "protocol": "TCP"}]}],
    })  # fmt: skip
    found = {one["addressType"]: one["endpoints"][0]["addresses"] for one in cluster.list("EndpointSlice")}
    assert found == {"IPv4": ["198.51.100.7"], "IPv6": ["2001:db8:198::7"]}


def test_the_service_kubernetes_and_its_endpoints_are_of_the_primary_family() -> None:
    cluster = Cluster(nodes=0, ip_family="dual")
    entries = [{"type": "InternalIP", "address": one} for one in ("192.168.49.2", "fd00:49::2")]
    control_plane = {"metadata": {"labels": {CONTROL_PLANE: ""}}, "status": {"addresses": entries}}
    cluster.apply(node("node1", control_plane))
    spec = cluster.get("Service", "kubernetes")["spec"]
    assert (spec["clusterIPs"], spec["ipFamilyPolicy"]) == (["10.96.0.1"], SINGLE)
    (slice_,) = cluster.list("EndpointSlice")
    assert (slice_["addressType"], slice_["endpoints"][0]["addresses"]) == ("IPv4", ["192.168.49.2"])


def test_a_load_balancer_has_an_external_address_of_each_family() -> None:
    cluster = Cluster(ip_family="dual")
    lease = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"holderIdentity": "fabric"},
        "metadata": {"name": CLOUD_LEASE[2], "namespace": CLOUD_LEASE[1]},
    }  # fmt: skip
    balancer = {"type": "LoadBalancer", "ipFamilyPolicy": REQUIRE, "loadBalancerIP": "203.0.113.77"}
    cluster.apply(lease, service("web", {"spec": balancer}))
    first, second = cluster.get("Service", "web")["status"]["loadBalancer"]["ingress"]
    assert first["ip"] == "203.0.113.77"
    assert ip_address(second["ip"]) in RANGES["IPv6"].load_balancers
