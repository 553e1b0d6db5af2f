"""Where pods go, and what is said of those that can go nowhere."""

from __future__ import annotations

from collections import Counter

import pytest

from controller.api import objects
from controller.api.objects import Obj
from tests.unit.managers_kit import Cluster, deployment, node, pod

FRESH = {"metadata": {"uid": None}}


def placed(cluster: Cluster, name: str = "web-0") -> str:
    return str(cluster.get("Pod", name)["spec"].get("nodeName") or "")


def place(mutation: Obj, *nodes: Obj) -> Cluster:
    cluster = Cluster(nodes=0)
    return cluster.apply(*nodes).apply(pod("web-0", {**FRESH, **mutation}))


def test_replicas_spread_over_the_nodes_and_two_of_them_leave_one_of_three_empty() -> None:
    cluster = Cluster(nodes=3).apply(deployment("web"))
    assert [one["spec"]["nodeName"] for one in cluster.list("Pod")] != ["node1", "node1"]
    assert len({one["spec"]["nodeName"] for one in cluster.list("Pod")}) == 2


def test_a_second_deployment_prefers_the_emptier_node() -> None:
    cluster = Cluster(nodes=3).apply(deployment("a")).apply(deployment("b"))
    counts = Counter(one["spec"]["nodeName"] for one in cluster.list("Pod"))
    assert sorted(counts.values()) == [1, 1, 2]


def test_ties_go_to_the_first_node_by_number_not_by_spelling() -> None:
    cluster = Cluster(nodes=0).apply(node("node10"), node("node2")).apply(pod("web-0", FRESH))
    assert placed(cluster) == "node2"


PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def near_web(key: str = "kubernetes.io/hostname") -> Obj:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}}


def prefers(label: str, weight: int = 1) -> Obj:
    rule = {"key": label, "operator": "Exists"}
    return {PREFERRED: [{"weight": weight, "preference": {"matchExpressions": [rule]}}]}


def wishes(word: str, term: Obj) -> Obj:
    return {word: {PREFERRED: [{"weight": 100, "podAffinityTerm": term}]}}


def labelled(name: str, **labels: str) -> Obj:
    return node(name, {"metadata": {"labels": {"kubernetes.io/hostname": name, **labels}}})


def test_a_preferred_node_wins_over_an_emptier_one_and_is_not_required() -> None:
    affinity = {"spec": {"affinity": {"nodeAffinity": prefers("fast")}}}
    busy = [pod(f"old-{n}", {**FRESH, "spec": {"nodeName": "node2"}}) for n in range(2)]
    cluster = Cluster(nodes=0).apply(labelled("node1"), labelled("node2", fast=""), *busy)
    assert placed(cluster.apply(pod("web-0", {**FRESH, **affinity}))) == "node2"
    assert placed(place(affinity, labelled("node1"))) == "node1"


def test_the_first_pod_goes_where_it_prefers_and_the_next_away_from_it() -> None:
    affinity = {"nodeAffinity": prefers("fast"), **wishes("podAntiAffinity", near_web())}
    cluster = Cluster(nodes=0).apply(labelled("node1"), labelled("node2", fast=""), labelled("node3"))
    for name in ("web-0", "web-1", "web-2"):
        made = {**FRESH, "metadata": {"uid": None, "labels": {"app": "web"}}, "spec": {"affinity": affinity}}
        cluster.apply(pod(name, made))
    assert [placed(cluster, f"web-{n}") for n in range(3)] == ["node2", "node1", "node3"]


@pytest.mark.parametrize(("word", "expected"), [("podAffinity", "node3"), ("podAntiAffinity", "node1")])
def test_near_means_the_same_value_of_the_topology_key(word: str, expected: str) -> None:
    zones = {"node1": "a", "node2": "b", "node3": "b"}
    nodes = [labelled(name, zone=zone) for name, zone in zones.items()]
    cluster = Cluster(nodes=0).apply(*nodes)
    for app, name in (("other", "node1"), ("web", "node2")):
        there = {"metadata": {"uid": None, "labels": {"app": app}}, "spec": {"nodeName": name}}
        cluster.apply(pod(app, there))
    cluster.apply(pod("web-0", {**FRESH, "spec": {"affinity": wishes(word, near_web("zone"))}}))
    assert placed(cluster) == expected


def test_a_bound_pod_says_that_it_is_scheduled() -> None:
    cluster = place({}, node())
    condition = objects.condition(cluster.get("Pod", "web-0"), "PodScheduled") or {}
    assert condition["status"] == "True"
    assert cluster.events("Scheduled") == ["Successfully assigned default/web-0 to node1"]


def test_a_pod_that_names_its_node_is_left_alone() -> None:
    assert placed(place({"spec": {"nodeName": "node2"}}, node("node1"))) == "node2"


@pytest.mark.parametrize(
    ("spec", "on_node", "reason"),
    [
        ({}, {"spec": {"unschedulable": True}}, "node(s) were unschedulable"),
        ({"nodeSelector": {"disk": "ssd"}}, {}, "node(s) didn't match Pod's node affinity/selector"),
        (
            {},
            {"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}},
            "node(s) had untolerated taint {gpu: yes}",
        ),
        (
            {},
            {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
            "node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        ),
        ({}, {"status": {"allocatable": {"pods": "0"}}}, "Too many pods"),
    ],
)
def test_a_pod_that_fits_nowhere_waits_and_says_why(spec: Obj, on_node: Obj, reason: str) -> None:
    cluster = place({"spec": spec}, node("node1", on_node), node("node2", on_node))
    message = f"0/2 nodes are available: 2 {reason}."
    condition = objects.condition(cluster.get("Pod", "web-0"), "PodScheduled") or {}
    assert placed(cluster) == ""
    assert (condition["status"], condition["reason"], condition["message"]) == (
        "False",
        "Unschedulable",
        message,
    )
    assert cluster.events("FailedScheduling") == [message]


def test_without_any_node_it_says_so() -> None:
    assert place({}).events("FailedScheduling") == ["no nodes available to schedule pods"]


@pytest.mark.parametrize(
    ("spec", "on_node"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, {"metadata": {"labels": {"disk": "ssd"}}}),
        (
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}},
        ),
        ({}, {"spec": {"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}}),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "rank", "operator": "Gt", "values": ["2"]}]}
                            ]
                        }
                    }
                }
            },
            {"metadata": {"labels": {"rank": "3"}}},
        ),
    ],
)
def test_a_pod_goes_where_it_fits(spec: Obj, on_node: Obj) -> None:
    assert placed(place({"spec": spec}, node("node1", on_node))) == "node1"


def test_two_pods_with_one_host_port_do_not_share_a_node() -> None:
    ports = {
        "spec": {
            "containers": [{"name": "main", "image": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]
        }
    }
    cluster = Cluster(nodes=1).apply(pod("a", {**FRESH, **ports})).apply(pod("b", {**FRESH, **ports}))
    assert (placed(cluster, "a"), placed(cluster, "b")) == ("node1", "")
    cluster.delete("Pod", "a", grace=0)
    assert placed(cluster, "b") == "node1"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"hostIP": "127.0.0.1"}, {"hostIP": "192.168.49.2"}, True),
        ({"protocol": "TCP"}, {"protocol": "UDP"}, True),
        ({"hostIP": "127.0.0.1"}, {}, False),
        ({"hostIP": "0.0.0.0"}, {"hostIP": "127.0.0.1"}, False),
        ({"hostIP": "127.0.0.1"}, {"hostIP": "127.0.0.1"}, False),
    ],
)
def test_host_ports_collide_by_protocol_and_address(one: Obj, other: Obj, together: bool) -> None:
    cluster = Cluster(nodes=1)
    for name, more in (("a", one), ("b", other)):
        port = {"containerPort": 80, "hostPort": 80, **more}
        spec = {"spec": {"containers": [{"name": "main", "image": "a", "ports": [port]}]}}
        cluster.apply(pod(name, {**FRESH, **spec}))
    assert (placed(cluster, "a"), placed(cluster, "b")) == ("node1", "node1" if together else "")


def test_a_waiting_pod_is_placed_when_a_node_is_uncordoned_or_added() -> None:
    cluster = place({}, node("node1", {"spec": {"unschedulable": True}}))
    cluster.patch("Node", "node1", {"spec": {"unschedulable": None}})
    assert placed(cluster) == "node1"
    late = Cluster(nodes=0).apply(pod("web-0", FRESH)).apply(node("node7"))
    assert placed(late) == "node7"
