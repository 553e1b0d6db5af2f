"""Who is an endpoint, with which ports, in which slice; and that a small change stays small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api import objects
from controller.api.objects import Key, Obj
from controller.managers import endpoints, endpointslice
from controller.managers.endpoint import MANAGED_BY
from controller.managers.view import Change, Create, Delete, Ref, Update, View
from tests.unit.managers_kit import NAMESPACE, merged, node, running, service

WEB = Ref("Service", NAMESPACE, "web")
NAMED = {"spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}]}}
TERMINATING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
HEADLESS = {"spec": {"clusterIP": "None"}}


def container_port(number: int, name: str = "web") -> Obj:
    container = {"name": "main", "image": "a", "ports": [{"name": name, "containerPort": number}]}
    return {"spec": {"containers": [container]}}


def apply(view: View, changes: list[Change]) -> list[Change]:
    """The registry's part, as far as endpoints need it."""
    for change in changes:
        if isinstance(change, Create | Update):
            view.put(change.obj)
        elif isinstance(change, Delete):
            view.drop(Key(change.kind, change.namespace, change.name))
    return changes


def slices(view: View) -> list[Obj]:
    """The slices after one look; a second look finds nothing to do."""
    apply(view, endpointslice.reconcile(view, WEB))
    assert endpointslice.reconcile(view, WEB) == []
    return sorted(view.list("EndpointSlice"), key=objects.name)


def v1(view: View) -> Obj:
    apply(view, endpoints.reconcile(view, WEB))
    assert endpoints.reconcile(view, WEB) == []
    found = view.get("Endpoints", NAMESPACE, "web")
    assert found is not None
    return found


def many(count: int, start: int = 0, **more: Any) -> list[Obj]:
    return [
        running(f"web-{number:04}", f"10.244.{number // 250}.{number % 250 + 2}", **more)
        for number in range(start, start + count)
    ]


def test_a_ready_pod_is_an_endpoint_with_all_that_kubernetes_tells_of_it() -> None:
    zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
    view = View([service(), running("web-0", "10.244.1.2"), node("node1", zone)])
    (one,) = slices(view)
    assert one["addressType"] == "IPv4"
    assert one["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]
    assert one["endpoints"] == [
        {
            "addresses": ["10.244.1.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-0", "uid": "uid-web-0"},
            "nodeName": "node1",
            "zone": "a",
        }
    ]
    assert objects.labels(one) == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert objects.owners(one) == [objects.owner_reference(service())]


@pytest.mark.parametrize(
    ("wish", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "a"}]}),
        ("PreferSameZone", {"forZones": [{"name": "a"}]}),
        ("PreferSameNode", {"forZones": [{"name": "a"}], "forNodes": [{"name": "node1"}]}),
    ],
)
def test_traffic_distribution_gives_ready_endpoints_hints(wish: str | None, hints: Obj | None) -> None:
    zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}
    made = service()
    made["spec"] |= {"trafficDistribution": wish} if wish else {}
    (one,) = slices(View([made, running("web-0", "10.244.1.2"), node("node1", zone)]))
    assert one["endpoints"][0].get("hints") == hints


@pytest.mark.parametrize(
    ("on_service", "ready", "on_pod", "conditions"),
    [
        ({}, True, {}, (True, True, False)),
        ({}, False, {}, (False, False, False)),
        ({}, True, TERMINATING, (False, True, True)),
        ({}, False, TERMINATING, (False, False, True)),
        ({"spec": {"publishNotReadyAddresses": True}}, False, {}, (True, False, False)),
        ({"spec": {"publishNotReadyAddresses": True}}, True, TERMINATING, (True, True, True)),
    ],
)
def test_ready_serving_and_terminating_are_three_things(
    on_service: Obj, ready: bool, on_pod: Obj, conditions: tuple[bool, bool, bool]
) -> None:
    view = View([service("web", on_service), running("web-0", "10.244.1.2", on_pod, ready=ready)])
    (endpoint,) = slices(view)[0]["endpoints"]
    assert tuple(endpoint["conditions"].values()) == conditions


@pytest.mark.parametrize("publish", [True, False])
@pytest.mark.parametrize(
    "mutation",
    [
        {"status": {"phase": "Failed", "reason": "Evicted"}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"podIP": None, "podIPs": None}},
        {"metadata": {"labels": {"app": "other"}}},
        {"metadata": {"namespace": "elsewhere"}},
    ],
)
def test_who_is_no_endpoint_leaves_one_empty_slice(mutation: Obj, publish: bool) -> None:
    view = View(
        [
            service("web", {"spec": {"publishNotReadyAddresses": publish}}),
            running("web-0", "10.244.1.2", mutation),
        ]
    )
    (one,) = slices(view)
    assert one["endpoints"] == []
    assert "subsets" not in v1(view)


@pytest.mark.parametrize(
    "mutation",
    [{"spec": {"selector": None}}, {"spec": {"type": "ExternalName", "externalName": "a.b"}}],
)
def test_a_service_without_selector_or_with_an_external_name_gets_none(mutation: Obj) -> None:
    view = View([service("web", mutation), running("web-0", "10.244.1.2")])
    assert slices(view) == []
    assert endpoints.reconcile(view, WEB) == []


def test_a_named_target_port_may_be_another_number_on_each_pod() -> None:
    view = View(
        [
            service("web", NAMED),
            running("web-0", "10.244.1.2", container_port(8080)),
            running("web-1", "10.244.1.3", container_port(8080)),
            running("web-2", "10.244.1.4", container_port(9090)),
            running("web-3", "10.244.1.5", container_port(7070, "unknown")),
        ]
    )
    found = {
        tuple(port["port"] for port in one["ports"]): [e["targetRef"]["name"] for e in one["endpoints"]]
        for one in slices(view)
    }
    assert found == {(8080,): ["web-0", "web-1"], (9090,): ["web-2"], (): ["web-3"]}
    assert [subset["ports"][0]["port"] for subset in v1(view)["subsets"]] == [8080, 9090]


def test_a_named_target_port_may_belong_to_a_sidecar_but_to_no_other_init_container() -> None:
    port = {"ports": [{"name": "web", "containerPort": 8443}]}
    sidecar = {"name": "proxy", "image": "a", "restartPolicy": "Always", **port}
    early = {"name": "setup", "image": "a", **port}
    view = View(
        [
            service("web", NAMED),
            running("web-0", "10.244.1.2", {"spec": {"initContainers": [sidecar]}}),
            running("web-1", "10.244.1.3", {"spec": {"initContainers": [early]}}),
        ]
    )
    assert [[port["port"] for port in one["ports"]] for one in slices(view) if one["ports"]] == [[8443]]


def test_one_number_with_tcp_and_udp_is_two_ports_of_one_slice() -> None:
    both = [{"name": "t", "port": 80, "protocol": "TCP"}, {"name": "u", "port": 80, "protocol": "UDP"}]
    (one,) = slices(View([service("web", {"spec": {"ports": both}}), running("web-0", "10.244.1.2")]))
    assert [(port["name"], port["protocol"]) for port in one["ports"]] == [("t", "TCP"), ("u", "UDP")]


def test_a_pod_on_the_host_network_is_an_endpoint_at_its_nodes_address() -> None:
    host = {"spec": {"hostNetwork": True}, "status": {"hostIP": "192.168.49.2"}}
    (one,) = slices(View([service(), running("web-0", "192.168.49.2", host)]))
    assert one["endpoints"][0]["addresses"] == ["192.168.49.2"]


def test_a_headless_service_says_so_and_names_the_hosts_of_its_subdomain() -> None:
    pod = running("web-0", "10.244.1.2", {"spec": {"hostname": "first", "subdomain": "web"}})
    view = View([service("web", HEADLESS), pod])
    (one,) = slices(view)
    assert objects.labels(one)["service.kubernetes.io/headless"] == ""
    assert one["endpoints"][0]["hostname"] == "first"
    assert v1(view)["subsets"][0]["addresses"][0]["hostname"] == "first"


def test_labels_of_the_service_are_carried_over() -> None:
    view = View([service("web", {"metadata": {"labels": {"team": "blue"}}})])
    assert objects.labels(slices(view)[0])["team"] == "blue"
    view.put(service("web", {"metadata": {"labels": {"team": "red"}}}))
    assert objects.labels(slices(view)[0])["team"] == "red"


def test_a_hundred_endpoints_fill_a_slice() -> None:
    view = View([service(), *many(250)])
    assert sorted(len(one["endpoints"]) for one in slices(view)) == [50, 100, 100]


@pytest.mark.parametrize("number", [0, 120, 249])
def test_a_change_of_one_pod_touches_one_slice(number: int) -> None:
    view = View([service(), *many(250)])
    slices(view)
    (pod,) = many(1, number, ready=False)
    view.put(pod)
    assert len(apply(view, endpointslice.reconcile(view, WEB))) == 1
    view.drop(objects.key(pod))
    assert len(apply(view, endpointslice.reconcile(view, WEB))) == 1
    view.put(many(1, 300)[0])
    assert len(apply(view, endpointslice.reconcile(view, WEB))) == 1


def test_a_new_pod_goes_where_there_is_room_before_a_slice_is_made() -> None:
    view = View([service(), *many(200)])
    slices(view)
    view.drop(objects.key(many(1, 7)[0]))
    slices(view)
    view.put(many(1, 500)[0])
    assert sorted(len(one["endpoints"]) for one in slices(view)) == [100, 100]


def test_a_pod_replaced_by_another_touches_one_slice_though_a_second_has_room() -> None:
    view = View([service(), *many(150)])
    slices(view)
    fullest = max(view.list("EndpointSlice"), key=lambda one: len(one["endpoints"]))
    name = fullest["endpoints"][0]["targetRef"]["name"]
    view.drop(Key("Pod", NAMESPACE, name))
    view.put(many(1, 400)[0])
    (change,) = apply(view, endpointslice.reconcile(view, WEB))
    assert isinstance(change, Update)
    assert objects.name(change.obj) == objects.name(fullest)


def test_slices_that_became_empty_go_and_the_last_one_stays() -> None:
    view = View([service(), *many(150)])
    assert len(slices(view)) == 2
    for pod in many(150):
        view.drop(objects.key(pod))
    (one,) = slices(view)
    assert one["endpoints"] == []


def test_a_slice_meddled_with_is_put_right_and_hand_written_ones_are_left_alone() -> None:
    view = View([service(), running("web-0", "10.244.1.2")])
    (one,) = slices(view)
    broken = {**one, "endpoints": []}
    own = merged(one, {"metadata": {"name": "mine", "labels": {MANAGED_BY: "me"}}, "endpoints": []})
    view.put(broken)
    view.put(own)
    assert list(endpointslice.refs(view, one, broken)) == [WEB]
    assert list(endpointslice.refs(view, None, own)) == []
    assert sorted(len(found["endpoints"]) for found in slices(view)) == [0, 1]


def test_v1_endpoints_part_ready_from_not_ready_addresses() -> None:
    view = View([service(), running("web-0", "10.244.1.10"), running("web-1", "10.244.1.9", ready=False)])
    (subset,) = v1(view)["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["10.244.1.10"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.244.1.9"]
    assert subset["ports"] == [{"protocol": "TCP", "port": 8080}]


def test_v1_endpoints_end_at_a_thousand_and_say_so() -> None:
    view = View([service(), *many(1001)])
    assert len(v1(view)["subsets"][0]["addresses"]) == 1000
    assert objects.annotation(v1(view), endpoints.OVER_CAPACITY) == "truncated"
    view.drop(objects.key(many(1)[0]))
    assert len(v1(view)["subsets"][0]["addresses"]) == 1000
    assert objects.annotation(v1(view), endpoints.OVER_CAPACITY) is None


def test_only_changes_that_matter_wake_a_service() -> None:
    pod = running("web-0", "10.244.1.2")
    view = View([service(), service("all", {"spec": {"selector": {"app": "web", "x": "y"}}}), pod])
    restarted = merged(pod, {"status": {"containerStatuses": [{"restartCount": 1}]}})
    assert list(endpointslice.refs(view, pod, restarted)) == []
    assert set(endpointslice.refs(view, pod, None)) == {WEB}
    assert list(endpointslice.refs(view, None, merged(pod, {"status": {"podIP": None}}))) == []


def test_v1_endpoints_prefer_ready_addresses_at_the_limit() -> None:
    view = View([service(), *many(600), *many(600, 600, ready=False)])
    (subset,) = v1(view)["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (600, 400)


ADDRESSES = st.integers(0, 259)
STATES = st.sampled_from(["gone", "ready", "unready", "terminating", "other port", "finished"])


def in_state(number: int, state: str) -> Obj:
    mutation = container_port(9090 if state == "other port" else 8080)
    if state == "terminating":
        mutation = merged(mutation, TERMINATING)
    if state == "finished":
        mutation = merged(mutation, {"status": {"phase": "Succeeded"}})
    (pod,) = many(1, number, mutation=mutation, ready=state != "unready")
    return pod


def content(found: list[Obj]) -> dict[tuple[Any, ...], dict[str, Obj]]:
    packed: dict[tuple[Any, ...], dict[str, Obj]] = {}
    for one in found:
        ports = tuple((port["name"], port["protocol"], port["port"]) for port in one["ports"])
        for endpoint in one["endpoints"]:
            held = packed.setdefault(ports, {})
            assert endpoint["targetRef"]["name"] not in held
            held[endpoint["targetRef"]["name"]] = endpoint
    return packed


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(ADDRESSES, STATES), min_size=1, max_size=60), max_size=8))
def test_living_through_changes_ends_where_a_fresh_start_ends(rounds: list[list[tuple[int, str]]]) -> None:
    start = [in_state(number, "ready") for number in range(0, 220, 2)]
    view = View([service("web", NAMED), *start])
    slices(view)
    for changes in rounds:
        for number, state in changes:
            pod = in_state(number, state)
            if state == "gone":
                view.drop(objects.key(pod))
            else:
                view.put(pod)
        slices(view)
        v1(view)
    fresh = View([service("web", NAMED), *view.list("Pod")])
    lived, made = slices(view), slices(fresh)
    assert content(lived) == content(made)
    assert all(len(one["endpoints"]) <= 100 for one in lived)
    assert v1(view) == v1(fresh)
    if len(lived) == len(made) and all(len(found) <= 100 for found in content(made).values()):
        assert lived == made
