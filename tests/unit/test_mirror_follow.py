"""The first look at a cluster: what is asked of it, how the lab must be, what is refused in a sentence."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.api.errors import UserError
from controller.api.objects import Obj
from tests.unit.mirror_kit import Answer, Api, kubeconfig, refusal
from topo import mirror_source
from topo.mirror import Line, main
from topo.mirror_follow import Board, Follower, Found, Wish

NODES, PODS, SERVICES = "/api/v1/nodes", "/api/v1/pods", "/api/v1/services"


def listed(*items: Obj) -> Answer:
    return 200, [{"metadata": {"resourceVersion": "5"}, "items": list(items)}]


def pod(name: str, node: str = "a") -> Obj:
    metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "5"}
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "x"}]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": "10.42.0.5"}}


def service(name: str, *families: str) -> Obj:
    metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "5"}
    return {"metadata": metadata, "spec": {"ipFamilies": list(families), "ports": [{"port": 80}]}}


def node(name: str) -> Obj:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "5"}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(mirror_source, "_PACE", 0.0)
    made = Api()
    made.lists = [listed()]
    yield made
    made.close()


def looked(api: Api, tmp_path: Path, **wish: Any) -> tuple[Found, list[str]]:
    told: list[str] = []
    follower = Follower(Wish(kubeconfig=str(kubeconfig(api, tmp_path)), **wish), Board(), told.append)
    try:
        return follower.start(), told
    finally:
        follower.stop()


def test_the_lab_is_as_large_as_the_cluster_and_of_its_families(api: Api, tmp_path: Path) -> None:
    api.by_path = {
        NODES: listed(node("a"), node("b")),
        PODS: listed(pod("p")),
        SERVICES: listed(service("s", "IPv4"), service("t", "IPv4", "IPv6")),
    }
    found, told = looked(api, tmp_path)
    assert found == Found(nodes=2, ip_family="dual", text="2 nodes, 2 Services, 1 pod")
    assert told == []


def test_namespaces_are_asked_one_by_one_and_nodes_may_be_forbidden(api: Api, tmp_path: Path) -> None:
    api.by_path = {
        NODES: refusal(403, "nodes is forbidden"),
        "/api/v1/namespaces/shop/pods": listed(pod("p", "a"), pod("q", "b"), pod("r", "b")),
    }
    found, told = looked(api, tmp_path, namespaces=["shop", "empty"])
    assert found.nodes == 2
    assert told == [
        "nodes may not be listed with this kubeconfig: known by their pods, without zones",
        "namespace empty has nothing to play, so far",
    ]
    paths = {path for path, _, _ in api.asked} - {NODES}
    assert {path.split("/namespaces/")[1].split("/")[0] for path in paths} == {"shop", "empty"}
    assert {path.rsplit("/", 1)[1] for path in paths} == {"pods", "services", "endpointslices"}


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"namespaces": ["kube-system"]}, "namespace kube-system is not played"),
        ({"max_pods": 1}, "has 2 pods to play, more than --max-pods 1: choose namespaces by -n"),
    ],
)
def test_what_is_too_much_is_refused(api: Api, tmp_path: Path, wish: Any, told: str) -> None:
    api.by_path = {NODES: listed(node("a")), PODS: listed(pod("p"), pod("q"))}
    with pytest.raises(UserError, match=told):
        looked(api, tmp_path, **wish)


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        (
            NODES,
            refusal(401, "Unauthorized"),
            "the API server does not know the user of .*config: Unauthorized",
        ),
        (
            SERVICES,
            refusal(403, "services is forbidden"),
            r"may not read what is followed \(-n NAMESPACE .*: serv",
        ),
        (NODES, refusal(503, "etcd is away"), "config: etcd is away"),
    ],
)
def test_the_process_tells_its_errors_in_a_sentence(
    api: Api, tmp_path: Path, path: str, answer: Answer, told: str
) -> None:
    api.by_path = {path: answer}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(json.dumps({"kubeconfig": str(kubeconfig(api, tmp_path))}).encode() + b"\n")
        assert main(Line(theirs)) == 1
        message = json.loads(ours.recv(65536))
    assert message["error"] == "UserError"
    with pytest.raises(UserError, match=told):
        raise UserError(message["text"])
