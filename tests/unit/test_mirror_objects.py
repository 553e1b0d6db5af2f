"""What a lab plays for a real cluster's objects: values in, values out.

there   nodes worker-1 172.18.0.3 and worker-2 172.18.0.4; pods shop/cart-0 10.42.1.5 (worker-1) and
        shop/cart-1 10.42.2.5 (worker-2); Service shop/cart 10.43.7.7 as k3s gives it, or 10.96.7.7
here    node1 192.168.49.2, node2 192.168.49.3; stand-ins 10.244.1.9 and 10.244.2.9
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.errors import UserError
from controller.api.objects import Obj
from controller.api.patch import merge_patch
from controller.api.schema import clean
from topo import mirror_objects as mapping
from topo.mirror_nodes import UNASKED, how_many, in_order, seat
from topo.mirror_objects import Stage
from topo.mirror_theirs import is_played, ports_by_pod, ports_by_selector, trim

STAGE = Stage(
    nodes={"worker-1": "node1", "worker-2": "node2"},
    node_addresses={"172.18.0.3": {"IPv4": "192.168.49.2"}, "172.18.0.4": {"IPv4": "192.168.49.3"}},
    pods={("shop", "cart-0"): {"IPv4": "10.244.1.9"}, ("shop", "cart-1"): {"IPv4": "10.244.2.9"}},
)
DUAL = Stage(
    families=("IPv4", "IPv6"),
    nodes=STAGE.nodes,
    pods={("shop", "cart-0"): {"IPv4": "10.244.1.9", "IPv6": "fd00:10:244:1::9"}},
)


def pod(name: str = "cart-0", **changes: Any) -> Obj:
    """As a real API server gives it, secrets and all."""
    container = {
        "name": "main",
        "image": "example.com/cart:1",
        "command": ["/cart", "--password=hunter2"],
        "args": ["--key=hunter2"],
        "env": [{"name": "PASSWORD", "value": "hunter2"}],
        "envFrom": [{"secretRef": {"name": "hunter2"}}],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "volumeMounts": [{"name": "hunter2", "mountPath": "/x"}],
        "livenessProbe": {"exec": {"command": ["hunter2"]}},
    }
    base = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "labels": {"app": "cart"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"},
            "ownerReferences": [{"kind": "StatefulSet", "name": "cart"}],
        },
        "spec": {
            "nodeName": "worker-1",
            "containers": [container],
            "volumes": [{"name": "hunter2", "secret": {"secretName": "hunter2"}}],
            "serviceAccountName": "cart",
        },
        "status": {"phase": "Running", "podIP": "10.42.1.5", "podIPs": [{"ip": "10.42.1.5"}]},
    }
    return dict(merge_patch(base, changes))


def service(**spec: Any) -> Obj:
    base = {
        "type": "ClusterIP",
        "clusterIP": "10.96.7.7",
        "clusterIPs": ["10.96.7.7"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "selector": {"app": "cart"},
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
    }
    metadata = {"name": "cart", "namespace": "shop", "uid": "s", "resourceVersion": "3"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**base, **spec}}


def endpoint(name: str = "cart-0", address: str = "10.42.1.5", **more: Any) -> Obj:
    conditions = {"ready": True, "serving": True, "terminating": False}
    target = {"kind": "Pod", "namespace": "shop", "name": name, "uid": f"uid-{name}"}
    made = {"addresses": [address], "conditions": conditions, "targetRef": target, "nodeName": "worker-1"}
    return {**made, **more}


def slice_of(*endpoints: Obj, family: str = "IPv4", port: int = 8080) -> Obj:
    labels = {"kubernetes.io/service-name": "cart",
              "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}  # fmt: skip
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "cart-x", "namespace": "shop", "labels": labels, "generateName": "cart-"},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
    }


def played(theirs: Obj, stage: Stage = STAGE) -> Obj:
    made = mapping.service(trim(theirs), stage)
    assert made is not None
    return made


def endpoints(theirs: Obj, stage: Stage = STAGE) -> list[Obj]:
    made = mapping.endpoint_slice(trim(theirs), stage)
    assert made is not None
    return list(made["endpoints"])


# -- pods


def test_nothing_that_could_be_a_secret_is_kept_of_a_pod() -> None:
    assert "hunter2" in str(pod())
    assert "hunter2" not in str(trim(pod()))
    assert "hunter2" not in str(mapping.pod(trim(pod()), STAGE, ()))


def test_a_pod_is_pinned_to_its_nodes_counterpart_and_nobodys() -> None:
    made = mapping.pod(trim(pod()), STAGE, ())
    assert made["spec"]["nodeName"] == "node1"
    assert "ownerReferences" not in made["metadata"]
    assert made["metadata"]["labels"] == {"app": "cart"}
    assert made["metadata"]["annotations"] == {
        "podwire.dev/mirrors": "10.42.1.5",
        "podwire.dev/mirrored-uid": "uid-cart-0",
    }
    assert made["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("example.com/cart:1", "example.com/cart:1"),
        ("busybox", "podwire/echo"),
        ("coredns/coredns:1", "podwire/echo"),
    ],
)
def test_every_container_is_the_echo_stand_in(image: str, shown: str) -> None:
    theirs = pod(spec={"containers": [{"name": "main", "image": image}]})
    assert [one["image"] for one in mapping.pod(trim(theirs), STAGE, ())["spec"]["containers"]] == [shown]


def test_it_listens_where_services_lead_though_it_does_not_say_so() -> None:
    found = ports_by_pod([slice_of(endpoint(), port=9000)])
    assert found == {("shop", "cart-0"): {("TCP", 9000)}}
    made = mapping.pod(trim(pod()), STAGE, found["shop", "cart-0"] | {("TCP", 8080)})
    assert made["spec"]["containers"][0]["ports"] == [
        {"containerPort": 8080, "protocol": "TCP", "name": "http"},
        {"containerPort": 9000, "protocol": "TCP"},
    ]


def test_a_services_selector_tells_the_port_before_its_slice_does() -> None:
    other = service(selector={"app": "cart", "tier": "none"}, ports=[{"port": 81}])
    by_name = service(ports=[{"port": 82, "targetPort": "http"}])
    assert ports_by_selector(pod(), [service(), other, by_name]) == {("TCP", 8080)}


def test_sidecars_play_too_and_a_port_is_listened_on_once() -> None:
    sidecar = {"name": "mesh", "image": "mesh", "restartPolicy": "Always",
               "ports": [{"containerPort": 8080}, {"containerPort": 15001}]}  # fmt: skip
    theirs = pod(spec={"initContainers": [{"name": "setup", "image": "setup"}, sidecar]})
    main, mesh = mapping.pod(trim(theirs), STAGE, ())["spec"]["containers"]
    assert (main["name"], mesh["name"]) == ("main", "mesh")
    assert [port["containerPort"] for port in mesh["ports"]] == [15001]


def test_on_the_nodes_own_network_the_labs_ports_are_taken() -> None:
    container = {"name": "main", "image": "x", "ports": [{"containerPort": 10256}, {"containerPort": 9100}]}
    made = mapping.pod(trim(pod(spec={"hostNetwork": True, "containers": [container]})), STAGE, ())
    assert made["spec"]["hostNetwork"] is True
    assert [port["containerPort"] for port in made["spec"]["containers"][0]["ports"]] == [9100]


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (pod(), True),
        (pod(status={"phase": "Succeeded"}), False),
        (pod(status={"podIP": None, "podIPs": None}), False),
        (pod(spec={"nodeName": None}), False),
        (pod(metadata={"namespace": "kube-system"}), False),
        (pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), False),
        (pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), True),
        (service(), True),
        ({**service(), "metadata": {"name": "kubernetes", "namespace": "default"}}, False),
        (slice_of(), True),
        (slice_of(family="FQDN"), False),
    ],
)
def test_what_is_played(theirs: Obj, expected: bool) -> None:
    assert is_played(trim(theirs)) is expected


# -- Services


def test_a_service_keeps_its_address_and_has_no_selector_that_would_make_slices() -> None:
    made = played(service(sessionAffinity="ClientIP", internalTrafficPolicy="Local"))
    assert (made["spec"]["clusterIP"], made["spec"]["clusterIPs"]) == ("10.96.7.7", ["10.96.7.7"])
    assert "selector" not in made["spec"]
    assert made["metadata"]["annotations"]["podwire.dev/mirrored-selector"] == "app=cart"
    assert (made["spec"]["sessionAffinity"], made["spec"]["internalTrafficPolicy"]) == ("ClientIP", "Local")


def test_an_address_outside_of_the_labs_range_is_exchanged_and_told() -> None:
    made = played(service(clusterIP="10.43.7.7", clusterIPs=["10.43.7.7"]))
    assert not {"clusterIP", "clusterIPs"} & made["spec"].keys()
    assert made["metadata"]["annotations"]["podwire.dev/mirrors"] == "10.43.7.7"


def test_a_headless_service_stays_one() -> None:
    assert played(service(clusterIP="None", clusterIPs=["None"]))["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(("port", "kept"), [(30080, {"nodePort": 30080}), (8080, {}), (None, {})])
def test_a_node_port_is_kept_if_the_lab_has_it(port: int | None, kept: Obj) -> None:
    (made,) = played(service(type="NodePort", ports=[{"port": 80, "nodePort": port}]))["spec"]["ports"]
    assert made == {"port": 80, **kept}


def test_external_name_is_kept_as_it_is() -> None:
    theirs = service(type="ExternalName", externalName="db.example.com", clusterIP=None, clusterIPs=None)
    theirs["spec"] = {word: theirs["spec"][word] for word in ("type", "externalName")}
    assert played(theirs)["spec"] == {"type": "ExternalName", "externalName": "db.example.com"}


def test_a_balancers_address_is_the_labs_unless_it_is_of_the_labs_pool() -> None:
    def spec(*ips: str) -> Obj:
        status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}
        return dict(played({**service(type="LoadBalancer"), "status": status})["spec"])

    assert "loadBalancerIP" not in spec("34.1.2.3")
    assert spec("203.0.113.9")["loadBalancerIP"] == "203.0.113.9"
    assert not spec("34.1.2.3").get("loadBalancerClass")
    assert spec()["loadBalancerClass"] == "none.podwire.dev/pending", "pending there is pending here"


def test_a_family_that_the_lab_has_not_is_left_out() -> None:
    both = service(ipFamilies=["IPv6", "IPv4"], clusterIP="fd00::7", clusterIPs=["fd00::7", "10.96.7.7"])
    here = played(both)["spec"]
    assert (here["ipFamilies"], here["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert here["clusterIPs"] == ["10.96.7.7"]
    assert mapping.service(trim(service(ipFamilies=["IPv6"])), STAGE) is None
    assert played(both, DUAL)["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    assert mapping.endpoint_slice(trim(slice_of(family="IPv6")), STAGE) is None


# -- EndpointSlices


def test_a_slice_leads_to_the_stand_ins_with_everything_else_as_it_is() -> None:
    conditions = {"ready": False, "serving": True, "terminating": True}
    theirs = slice_of(endpoint(conditions=conditions, zone="a", hostname="cart-0"))
    assert endpoints(theirs) == [
        {
            "addresses": ["10.244.1.9"],
            "conditions": conditions,
            "zone": "a",
            "hostname": "cart-0",
            "nodeName": "node1",
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "cart-0"},
        }
    ]


def test_no_manager_of_the_lab_takes_a_slice_for_its_own() -> None:
    made = mapping.endpoint_slice(trim(slice_of()), STAGE)
    assert made is not None
    assert made["metadata"]["labels"] == {
        "kubernetes.io/service-name": "cart",
        "endpointslice.kubernetes.io/managed-by": "mirror.podwire.dev",
    }


def test_an_endpoint_waits_for_its_stand_in() -> None:
    assert endpoints(slice_of(endpoint("cart-9", "10.42.1.77"))) == []


def test_hints_name_the_labs_nodes() -> None:
    hints = {"forZones": [{"name": "a"}], "forNodes": [{"name": "worker-2"}, {"name": "worker-9"}]}
    (made,) = endpoints(slice_of(endpoint(hints=hints)))
    assert made["hints"] == {"forZones": [{"name": "a"}], "forNodes": [{"name": "node2"}]}


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("172.18.0.4", ["192.168.49.3"]),  # a node's own
        ("10.0.0.5", ["10.0.0.5"]),  # a database somewhere else
        ("10.244.1.9", []),  # means somebody in the lab
        ("192.168.49.2", []),
    ],
)
def test_an_address_that_is_no_pods(there: str, here: list[str]) -> None:
    found = endpoints(slice_of({"addresses": [there], "conditions": {"ready": True}}))
    assert [address for one in found for address in one["addresses"]] == here


def test_each_family_has_the_stand_ins_address_of_that_family() -> None:
    (made,) = endpoints(slice_of(endpoint(address="fd42::5"), family="IPv6"), DUAL)
    assert made["addresses"] == ["fd00:10:244:1::9"]


def test_what_is_made_has_no_field_that_kubernetes_does_not_know() -> None:
    made = [
        mapping.pod(trim(pod()), STAGE, {("UDP", 53)}),
        played(service(type="LoadBalancer")),
        mapping.endpoint_slice(trim(slice_of(endpoint())), STAGE),
    ]
    for obj in made:
        assert obj is not None
        _, report = clean(obj)
        assert (report.missing, report.unknown, report.wrong) == ([], [], [])


# -- nodes


def test_the_control_plane_is_node1_and_busy_nodes_come_before_idle_ones() -> None:
    def node(name: str, **labels: str) -> Obj:
        return {"kind": "Node", "metadata": {"name": name, "labels": labels}}

    nodes = [node("idle"), node("worker-1"), node("z", **{"node-role.kubernetes.io/control-plane": ""})]
    assert in_order(nodes, [trim(pod())]) == ["z", "worker-1", "idle"]
    assert in_order([], [trim(pod())]) == ["worker-1"], "known by its pods"


def test_a_large_cluster_asks_how_many_nodes_are_wanted() -> None:
    assert how_many(UNASKED, None) == UNASKED
    assert (how_many(500, 7), how_many(0, None)) == (7, 1)
    with pytest.raises(UserError, match="has 21 nodes: say by --nodes N"):
        how_many(UNASKED + 1, None)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), min_size=1, max_size=8))
def test_whoever_has_a_place_keeps_it_and_no_place_is_given_twice(rounds: list[list[str]]) -> None:
    ours, held = ["node1", "node2", "node3"], dict[str, str]()
    for theirs in rounds:
        after = seat(held, theirs, ours)
        assert all(after[name] == place for name, place in held.items() if name in theirs)
        assert len(set(after.values())) == len(after) == min(len(theirs), len(ours))
        held = after


def test_a_node_is_labelled_like_the_one_it_stands_for_until_it_stands_for_nobody() -> None:
    theirs = {"metadata": {"name": "worker-1", "labels": {"topology.kubernetes.io/zone": "a", "x": "y"}}}
    told = mapping.node_patch("worker-1", theirs)["metadata"]
    assert told["labels"]["topology.kubernetes.io/zone"] == "a"
    assert "x" not in told["labels"]
    assert told["annotations"] == {"podwire.dev/mirrors": "worker-1"}
    nobody = mapping.node_patch("", None)["metadata"]
    assert set(nobody["labels"].values()) == {None}
