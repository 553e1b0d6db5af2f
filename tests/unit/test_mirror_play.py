"""What a mirror writes into a lab, against a real API server without managers or kubelets.

Service shop/cart 10.96.7.7, pod shop/cart-0 on node1 (10.42.1.5 there). The kubelet is played by ``reap``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.client import Client
from controller.api.errors import NotFound
from controller.api.objects import Key, Obj, key
from controller.api.patch import merge_patch
from tests.unit.api_kit import api_server, namespace
from topo.mirror_play import Player

CART = Key("Service", "shop", "cart")
POD = Key("Pod", "shop", "cart-0")
SLICE = Key("EndpointSlice", "shop", "cart-x")


def service(**changes: Any) -> Obj:
    base = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "cart",
            "namespace": "shop",
            "annotations": {"podwire.dev/mirrors": "10.96.7.7"},
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.7.7", "ports": [{"port": 80}]},
    }
    return dict(merge_patch(base, changes))


def pod(uid: str = "a", **changes: Any) -> Obj:
    notes = {"podwire.dev/mirrors": "10.42.1.5", "podwire.dev/mirrored-uid": uid}
    base = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "cart-0", "namespace": "shop", "labels": {"app": "cart"}, "annotations": notes},
        "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "x", "ports": []}]},
    }
    return dict(merge_patch(base, changes))


def endpoint_slice(*ready: bool) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "cart-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [f"10.244.1.{number}"], "conditions": {"ready": one}}
            for number, one in enumerate(ready, 2)
        ],
    }


def wanted(*objs: Obj) -> dict[Key, Obj]:
    return {key(obj): obj for obj in (namespace("shop"), *objs)}


class World:
    def __init__(self, client: Client) -> None:
        self.client, self.said = client, list[str]()
        self.player = Player(client, self.said.append)
        self.player.loud = True

    def rounds(self, held: dict[Key, Obj], **options: Any) -> list[str]:
        """Until everything is as wanted: what was said meanwhile."""
        self.said.clear()
        for _ in range(4):
            if self.player.play(held, **options):
                return self.said
            for at in (CART, POD, SLICE):
                self.reap(at)
        raise AssertionError(f"not done after four rounds: {self.said}")

    def reap(self, at: Key) -> None:
        """As the kubelet ends a pod that is told to, and the lab's informer tells it."""
        try:
            if self.client.get(at.kind, at.name, at.namespace)["metadata"].get("deletionTimestamp"):
                self.client.delete(at.kind, at.name, at.namespace, grace=0)
                self.player.gone(at)
        except NotFound:
            self.player.gone(at)

    def get(self, at: Key) -> Obj:
        return self.client.get(at.kind, at.name, at.namespace)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with api_server(tmp_path_factory.mktemp("api")) as server:
        yield server.client


@pytest.fixture
def world(client: Client) -> Iterator[World]:
    yield World(client)
    for kind in ("Service", "Pod", "EndpointSlice"):
        for obj in client.list(kind)[0]:
            client.delete(kind, obj["metadata"]["name"], obj["metadata"]["namespace"], grace=0)


def test_all_of_it_is_made_once_and_told(world: World) -> None:
    held = wanted(endpoint_slice(True, False), pod(), service())
    assert world.rounds(held) == [
        "+ service shop/cart (10.96.7.7 there)",
        "+ pod shop/cart-0 (10.42.1.5 there) on node1",
        "~ endpoints of shop/cart: 1 ready (were 0)",
    ]
    before = world.get(CART)["metadata"]["resourceVersion"]
    assert world.rounds(held) == []
    assert world.get(CART)["metadata"]["resourceVersion"] == before


def test_what_is_gone_there_goes_here(world: World) -> None:
    world.rounds(wanted(service(), pod(), endpoint_slice(True)))
    assert world.rounds(wanted()) == [
        "- pod shop/cart-0 (10.42.1.5 there) on node1",
        "- service shop/cart (10.96.7.7 there)",
        "~ endpoints of shop/cart: 0 ready (were 1)",
    ]
    for kind in ("Service", "Pod", "EndpointSlice"):
        assert world.client.list(kind, "shop")[0] == []


def test_a_service_changes_in_place_and_keeps_what_the_lab_gave_it(world: World) -> None:
    free = service(spec={"clusterIP": None})
    world.rounds(wanted(free))
    given = world.get(CART)["spec"]["clusterIP"]
    changed = service(spec={"clusterIP": None, "sessionAffinity": "ClientIP"})
    assert world.rounds(wanted(changed)) == ["~ service shop/cart (10.96.7.7 there)"]
    spec = world.get(CART)["spec"]
    assert (spec["clusterIP"], spec["sessionAffinity"]) == (given, "ClientIP")


def test_a_service_that_cannot_change_is_made_again(world: World) -> None:
    pending = {"type": "LoadBalancer", "loadBalancerClass": "none.podwire.dev/pending"}
    world.rounds(wanted(service(spec=pending)))
    world.rounds(wanted(service(spec={"type": "LoadBalancer"})))
    assert "loadBalancerClass" not in world.get(CART)["spec"]


def test_labels_of_a_pod_change_while_it_runs(world: World) -> None:
    world.rounds(wanted(pod()))
    uid = world.get(POD)["metadata"]["uid"]
    world.rounds(wanted(pod(metadata={"labels": {"app": None, "tier": "web"}})))
    metadata = world.get(POD)["metadata"]
    assert (metadata["labels"], metadata["uid"]) == ({"tier": "web"}, uid)


@pytest.mark.parametrize("successor", [pod("b"), pod(spec={"nodeName": "node2"})])
def test_another_pod_of_the_same_name_waits_until_the_first_is_gone(world: World, successor: Obj) -> None:
    world.rounds(wanted(pod()))
    uid = world.get(POD)["metadata"]["uid"]
    assert not world.player.play(wanted(successor))
    assert not world.player.play(wanted(successor)), "it still ends"
    assert world.get(POD)["metadata"]["uid"] == uid
    world.rounds(wanted(successor))
    assert world.get(POD)["metadata"]["uid"] != uid


def test_a_stand_in_that_must_listen_on_more_is_told_as_that(world: World) -> None:
    world.rounds(wanted(pod()))
    container = {"name": "main", "image": "x", "ports": [{"containerPort": 9000}]}
    assert world.rounds(wanted(pod(spec={"containers": [container]})))[0] == (
        "~ pod shop/cart-0: its stand-in begins anew, to listen on another port as well"
    )


def test_an_address_that_somebody_in_the_lab_has_is_exchanged_and_told(world: World) -> None:
    world.client.create(service(metadata={"name": "first", "namespace": "default"}))
    free = service(spec={"clusterIP": None})
    said = world.rounds(wanted(service()), otherwise=lambda at: free if at == CART else None)
    given = world.get(CART)["spec"]["clusterIP"]
    assert given != "10.96.7.7"
    assert "provided IP is already allocated" in said[0]
    assert f"instead it has {given}" in said[0]


def test_a_name_that_the_lab_has_itself_is_left_alone(world: World) -> None:
    world.rounds(wanted())
    world.client.create(service(spec={"clusterIP": "10.96.1.1"}))
    assert world.rounds(wanted(service())) == [
        "! service shop/cart is not played: the lab has one of that name of its own"
    ]
    assert world.rounds(wanted(service())) == [], "said once"
    world.rounds(wanted())
    assert world.get(CART)["spec"]["clusterIP"] == "10.96.1.1"


def test_what_the_lab_refuses_is_said_and_tried_again_when_it_changes(world: World) -> None:
    broken = service(spec={"ports": [{"port": 99999}]})
    (line,) = world.rounds(wanted(broken))
    assert line.startswith("! service shop/cart is not played: ")
    assert world.rounds(wanted(broken)) == []
    assert world.rounds(wanted(service())) == ["+ service shop/cart (10.96.7.7 there)"]


def test_what_somebody_deletes_in_the_lab_comes_back(world: World) -> None:
    world.rounds(wanted(service()))
    world.client.delete("Service", "cart", "shop")
    world.player.gone(CART)
    world.rounds(wanted(service()))
    assert world.get(CART)["spec"]["clusterIP"] == "10.96.7.7"
