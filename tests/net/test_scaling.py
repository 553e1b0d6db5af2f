"""Scaling moves only what must: open connections keep their pod, flows that stay are not sent again."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from controller.api.objects import Obj
from tests.net.test_lab import NODE1, NODE_PORT, SERVICE, WEB
from topo.lab import ClusterConfig, Lab

OTHER: Obj = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "other", "namespace": "default"},
    "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
}
MOST_CONNECTIONS = 40
JITTER = 0.02
"""Seconds; ages are told to the millisecond, one after the other."""
_AGE = re.compile(r"duration=([0-9.]+)s, ")
_COUNTERS = re.compile(r"duration=[0-9.]+s, |n_packets=\d+, |n_bytes=\d+, |(?:idle|hard)_age=\d+, ")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=3)) as lab:
        lab.apply(WEB, SERVICE, OTHER)
        lab.settle()
        yield lab


def scale(lab: Lab, replicas: int) -> set[str]:
    lab.client.patch("Deployment", "web", {"spec": {"replicas": replicas}}, "default")
    lab.settle()
    return {pod.name for pod in lab.pods("app=web")}


def births(lab: Lab) -> dict[tuple[str, str], float]:
    """When each flow came, in seconds after its bridge's first one; sent again, it is born anew.

    Ages of one dump are compared with each other only, so no clock of ours takes part.
    """
    found = {}
    for node in lab.plan.nodes:
        lines = lab.ovs.ofctl("dump-flows", node.bridge).splitlines()
        aged = {
            _COUNTERS.sub("", line).strip(): float(age[1]) for line in lines if (age := _AGE.search(line))
        }
        first = max(aged.values())
        found.update({(node.name, flow): first - age for flow, age in aged.items()})
    return found


def unmoved(some: dict[tuple[str, str], float], before: dict[tuple[str, str], float]) -> bool:
    return all(abs(birth - before[flow]) < JITTER for flow, birth in some.items())


def ask(sock: socket.socket) -> str:
    """Which pod answers on an open connection."""
    sock.sendall(b"GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n")
    head, _, body = sock.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return body.decode().strip()


def connections(lab: Lab, pods: set[str], stack: ExitStack) -> dict[str, socket.socket]:
    """One open connection of the client's to each of the pods, through node1's port."""
    found: dict[str, socket.socket] = {}
    for _ in range(MOST_CONNECTIONS):
        sock = stack.enter_context(lab.outside().socket(socket.AF_INET, socket.SOCK_STREAM))
        sock.settimeout(5)
        sock.connect((NODE1, NODE_PORT))
        found.setdefault(ask(sock), sock)
        if set(found) == pods:
            return found
    raise AssertionError(f"{MOST_CONNECTIONS} connections reached {set(found)} of {pods} only")


def test_scaling_up_and_down_leaves_open_connections_and_other_flows_alone(lab: Lab) -> None:
    pods = {pod.name for pod in lab.pods("app=web")}
    with ExitStack() as stack:
        opened = connections(lab, pods, stack)
        before = births(lab)

        more = scale(lab, 3)
        grown = births(lab)
        assert pods < more
        assert {name: ask(sock) for name, sock in opened.items()} == {name: name for name in pods}
        assert set(before) < set(grown), "growing takes no flow away"
        assert unmoved({flow: grown[flow] for flow in before}, before), "nor sends one again"

        left = scale(lab, 1)
        shrunk = births(lab)
        assert len(left) == 1
        kept = left & pods
        assert {name: ask(opened[name]) for name in kept} == {name: name for name in kept}
        assert set(shrunk) < set(grown), "shrinking adds none"
        assert unmoved(shrunk, grown)
        gone = {text for _, text in set(grown) - set(shrunk)}
        assert not any("table=ServiceLB" in text or "group:" in text for text in gone), (
            "the Service's own flows lead to the same group, which alone has changed"
        )


def test_from_none_to_one_pod_only_its_own_services_flows_change(lab: Lab) -> None:
    scale(lab, 0)
    before = births(lab)
    scale(lab, 1)
    after = births(lab)
    address = lab.client.get("Service", "other", "default")["spec"]["clusterIP"]
    others = {flow: after[flow] for flow in before if address in flow[1]}
    assert others
    assert unmoved(others, before)
