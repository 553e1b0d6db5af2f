"""A lab that follows another lab as if that were a real cluster, by a token that may only read.

real   2 nodes; namespace shop: Deployment cart (2 pods, ready while there is no /tmp/sick), Services cart
       10.96.7.7 (ClusterIP), cart-node 30123 (NodePort), cart-lb (LoadBalancer), cart-pods (headless), other
       (ExternalName), and db with endpoints written by hand
copy   what follows it
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.client import Client
from controller.api.errors import NotFound
from controller.api.objects import Obj
from tests.net.leaks import Chain, nothing_left, said, until
from topo import dns
from topo.mirror_kubeconfig import load
from topo.mirror_source import Target

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "scenarios"]
CART = {
    "name": "main",
    "image": "busybox",
    "command": ["sleep", "10000"],
    "env": [{"name": "PASSWORD", "value": "hunter2"}],
    "readinessProbe": {
        "exec": {"command": ["test", "!", "-e", "/tmp/sick"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    },
}


def service(name: str, **spec: Any) -> Obj:
    base = {"selector": {"app": "cart"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return obj("v1", "Service", name, spec={**base, **spec})


def obj(version: str, kind: str, name: str, **more: Any) -> Obj:
    metadata = {"name": name, "namespace": "shop", **more.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


OBJECTS = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    obj("apps/v1", "Deployment", "cart", spec={
        "replicas": 2,
        "selector": {"matchLabels": {"app": "cart"}},
        "template": {"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [CART]}},
    }),
    service("cart", clusterIP="10.96.7.7"),
    service("cart-node", type="NodePort", ports=[{"port": 80, "targetPort": 8080, "nodePort": 30123}]),
    service("cart-lb", type="LoadBalancer", externalTrafficPolicy="Local"),
    service("cart-pods", clusterIP="None"),
    obj("v1", "Service", "other", spec={"type": "ExternalName", "externalName": "www.example.com"}),
    obj("v1", "Service", "db", spec={"clusterIP": "10.96.7.8", "ports": [{"port": 5432}]}),
    obj("discovery.k8s.io/v1", "EndpointSlice", "db-1", addressType="IPv4",
        metadata={"labels": {"kubernetes.io/service-name": "db"}}, ports=[{"port": 5432}],
        endpoints=[{"addresses": ["10.1.2.3"]}]),
]  # fmt: skip


def lab(*argv: str) -> str:
    done = subprocess.run([*LAB, *argv], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def api(name: str) -> Client:
    return Target(load(f"/run/podwire/{name}/kubeconfig"))


class Pair:
    """Both labs as their users see them. ``reading`` is the kubeconfig with the token that may only read."""

    def __init__(self, mirror: Chain, reading: Path) -> None:
        self.mirror, self.reading = mirror, reading
        self.real, self.copy = api("real"), api("copy")

    def pods(self, side: Client) -> set[str]:
        return {pod["metadata"]["name"] for pod in side.list("Pod", "shop")[0]}

    def ready(self, name: str = "cart") -> set[str]:
        """Whom the copy's slices lead to."""
        slices, _ = self.copy.list("EndpointSlice", "shop", labels=f"kubernetes.io/service-name={name}")
        endpoints = [one for piece in slices for one in piece["endpoints"]]
        return {one["targetRef"]["name"] for one in endpoints if one["conditions"]["ready"]}

    def same(self) -> bool:
        """The pods of both sides are the same, and serve."""
        return self.pods(self.real) == self.pods(self.copy) == self.ready()

    def ask(self, who: str, url: str, *, namespace: str = "shop") -> Obj:
        words = ["curl", "-sS", "--max-time", "10", url]
        found: Obj = json.loads(lab("exec", "--lab", "copy", "-n", namespace, who, "--", *words))
        return found

    def scale(self, replicas: int) -> None:
        self.real.patch("Deployment", "cart", {"spec": {"replicas": replicas}}, "shop")


def waits(condition: Callable[[], bool], what: str) -> None:
    until(what, condition, timeout=30)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with nothing_left() as start, tempfile.TemporaryDirectory(dir="/tmp") as place:
        manifest, reading = Path(place, "shop.yaml"), Path(place, "kubeconfig")
        manifest.write_text(yaml.safe_dump_all(OBJECTS))
        real = start([*LAB, "up", "--name", "real", "--nodes", "2", "--cloud", str(manifest)])
        real.reach(said("is up:"))
        assert real.said("is up:"), real.output
        config = json.loads(Path("/run/podwire/real/kubeconfig").read_text())
        config["users"][0]["user"]["token"] = lab(
            "kubectl", "--lab", "real", "create", "token", "default"
        ).strip()
        reading.write_text(json.dumps(config))
        mirror = start([*LAB, "mirror", "--name", "copy", "--kubeconfig", str(reading)])
        mirror.reach(said("Ctrl-C ends the lab"))
        assert mirror.said("Ctrl-C ends the lab"), mirror.output
        assert "2 nodes, 6 Services, 2 pods to play" in mirror.output, mirror.output
        yield Pair(mirror, reading)
        for chain, name in ((mirror, "copy"), (real, "real")):
            lab("down", "--lab", name)
            assert chain.end() == 128 + signal.SIGTERM, chain.output


def test_every_type_of_service_leads_to_a_stand_in_of_the_real_ones_name(pair: Pair) -> None:
    names = pair.pods(pair.real)
    assert len(names) == 2
    assert pair.same()
    shell = min(names)
    dns.wait_ready(pair.copy, 30)
    pair.copy.settle(["managers", "kubelet", "kubeproxy/node1", "kubeproxy/node2"])
    assert pair.ask(shell, "http://10.96.7.7/")["pod"] in names
    assert pair.ask(shell, "http://cart-pods:8080/")["pod"] in names
    assert pair.ask("client1", "http://192.168.49.2:30123/")["pod"] in names
    (balancer,) = pair.copy.get("Service", "cart-lb", "shop")["status"]["loadBalancer"]["ingress"]
    answer = pair.ask("client1", f"http://{balancer['ip']}/")
    assert answer["pod"] in names
    assert answer["client"].startswith("198.51.100.11:"), "policy Local"
    assert "www.example.com" in lab("exec", "--lab", "copy", "-n", "shop", shell, "--", "nslookup", "other")


def test_pods_and_nodes_are_where_they_are_there(pair: Pair) -> None:
    for pod in pair.real.list("Pod", "shop")[0]:
        mine = pair.copy.get("Pod", pod["metadata"]["name"], "shop")
        assert mine["metadata"]["annotations"]["podwire.dev/mirrors"] == pod["status"]["podIP"]
        node = pair.copy.get("Node", mine["spec"]["nodeName"])
        assert node["metadata"]["annotations"]["podwire.dev/mirrors"] == pod["spec"]["nodeName"]
        assert "hunter2" not in str(mine)
    (piece,) = pair.copy.list("EndpointSlice", "shop", labels="kubernetes.io/service-name=db")[0]
    assert piece["endpoints"][0]["addresses"] == ["10.1.2.3"], "a database that is no pod stays where it is"
    assert not pair.copy.list("Deployment", "shop")[0]


def test_more_and_fewer_pods_are_followed(pair: Pair) -> None:
    pair.scale(3)
    waits(lambda: len(pair.pods(pair.real)) == 3 and pair.same(), "three pods")
    pair.scale(2)
    waits(lambda: len(pair.pods(pair.real)) == 2 and pair.same(), "two pods")
    assert pair.mirror.said("+ pod shop/cart-")
    assert pair.mirror.said("~ endpoints of shop/cart: 3 ready (were 2)")


def test_a_pod_that_is_not_ready_there_is_not_asked_here(pair: Pair) -> None:
    sick, *others = sorted(pair.pods(pair.real))
    lab("exec", "--lab", "real", "-n", "shop", sick, "--", "touch", "/tmp/sick")
    waits(lambda: pair.ready() == set(others), "the sick one has left the endpoints")
    assert {pair.ask(sick, "http://10.96.7.7/")["pod"] for _ in range(8)} == set(others)
    lab("exec", "--lab", "real", "-n", "shop", sick, "--", "rm", "/tmp/sick")
    waits(pair.same, "it is back")


def test_a_service_that_is_deleted_there_is_gone_here(pair: Pair) -> None:
    pair.real.delete("Service", "cart-node", "shop")

    def gone() -> bool:
        try:
            pair.copy.get("Service", "cart-node", "shop")
        except NotFound:
            return not pair.copy.list("EndpointSlice", "shop", labels="kubernetes.io/service-name=cart-node")[
                0
            ]
        return False

    waits(gone, "cart-node has gone")


def test_what_happened_while_the_api_server_was_away_is_caught_up_with(pair: Pair) -> None:
    pair.real.create(service("late", clusterIP="10.96.7.9"))
    os.kill(_api_server("real"), signal.SIGKILL)
    waits(lambda: _serves(pair.real), "the lab has started it again")
    pair.scale(1)
    waits(lambda: len(pair.pods(pair.real)) == 1 and pair.same(), "one pod is left")
    (left,) = pair.pods(pair.real)
    waits(lambda: pair.ready("late") == {left}, "the Service that came last")
    assert pair.ask(left, "http://10.96.7.9/")["pod"] == left


def test_once_is_the_cluster_as_it_was_in_the_background(pair: Pair) -> None:
    words = "--kubeconfig", str(pair.reading), "-n", "shop", "--once", "-d", "--nodes", "1"
    told = lab("mirror", "--name", "still", *words)
    still = api("still")
    on_node1 = [pod for pod in pair.real.list("Pod", "shop")[0] if pod["spec"]["nodeName"] == "node1"]
    assert pair.pods(still) == {pod["metadata"]["name"] for pod in on_node1}
    assert "! node node2 has no place in the lab (see --nodes): its pods are not played" in told
    pair.real.delete("Service", "late", "shop")
    waits(lambda: not pair.ready("late"), "the one that follows has heard of it")
    assert still.get("Service", "late", "shop")["spec"]["clusterIP"] == "10.96.7.9"
    lab("down", "--lab", "still")


def _api_server(name: str) -> int:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if "controller.api.server" in words and f"/run/podwire/{name}/api.sock" in words:
                return int(process.name)
    raise AssertionError(f"no API server of {name}")


def _serves(client: Client) -> bool:
    try:
        client.list("Service", "shop")
    except Exception:
        return False
    return True
