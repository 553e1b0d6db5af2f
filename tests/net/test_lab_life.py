"""A lab that loses a part: what goes on without it, what is back when it is started again."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from controller.api.errors import NotSettled, Unreachable
from tests.net.test_lab import NODE_PORT, SERVICE, WEB, answer
from topo.lab import ClusterConfig, Lab

NODE1, NODE2 = "192.168.49.2", "192.168.49.3"
TWO = ClusterConfig(nodes=2)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(TWO) as lab:
        lab.apply(WEB, SERVICE)
        lab.wait_dns()  # its flows come with it, and stay
        yield lab


def test_the_apiserver_killed_loses_nothing(lab: Lab) -> None:
    before = {pod.name for pod in lab.pods("app=web")}
    lab.kill("apiserver")
    assert answer(lab, NODE1) in before
    with pytest.raises(Unreachable):
        lab.client.list("Pod")
    lab.restart("apiserver")
    lab.client.patch("Deployment", "web", {"spec": {"replicas": 3}})
    lab.settle()
    after = {pod.name for pod in lab.pods("app=web")}
    assert before < after
    assert len(after) == 3


def test_the_kubeproxy_killed_traffic_goes_on_and_nothing_is_reprogrammed_that_was_right(lab: Lab) -> None:
    flows = steady(lab)
    with old_connection(lab) as still_open:
        lab.kill("kubeproxy")
        assert answer(lab, NODE2)
        assert still_open()
        assert refused(lab)
        patched_while_away(lab)
        lab.restart("kubeproxy")
        lab.settle()
        assert still_open()
    assert steady(lab) == flows
    assert answer(lab, NODE2)


def patched_while_away(lab: Lab) -> None:
    """The kubeproxy is dead: what it does not hear is told by name, and waits for it."""
    lab.client.patch("Service", "web", {"metadata": {"labels": {"seen": "no"}}})
    with pytest.raises(NotSettled, match="kubeproxy/node1") as caught:
        lab.settle(timeout=0.5)
    assert "not running: kubeproxy" in str(caught.value)


@contextmanager
def old_connection(lab: Lab) -> Iterator[Callable[[], bool]]:
    """A client's connection to a NodePort; gives what asks on it and tells whether the answer came."""
    with lab.outside().socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect((NODE2, NODE_PORT))

        def asks() -> bool:
            sock.sendall(b"GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n")
            return sock.recv(65536).startswith(b"HTTP/1.1 200")

        assert asks()
        yield asks


def refused(lab: Lab) -> bool:
    """Whether a node is refused at once at a port that the Service does not serve (7 is curl's word)."""
    address = lab.client.get("Service", "web", "default")["spec"]["clusterIP"]
    return lab.node(2).run(["curl", "-sS", "-m", "5", f"http://{address}:81/"]).returncode == 7


def steady(lab: Lab) -> dict[str, set[str]]:
    """Each bridge's flows by what does not change while they stay."""
    found: dict[str, set[str]] = {}
    for node in lab.plan.nodes:
        lines = lab.ovs.ofctl("--no-stats", "dump-flows", node.bridge).splitlines()[1:]
        found[node.name] = {line.strip() for line in lines}
    return found


def test_the_switch_killed_has_its_flows_back_when_the_lab_settles(lab: Lab) -> None:
    flows = steady(lab)
    lab.kill("vswitchd")
    assert answer(lab, NODE1) == ""
    lab.restart("vswitchd")
    lab.settle()
    assert steady(lab) == flows
    assert answer(lab, NODE1)


def test_the_runtime_killed_its_pods_are_started_again(lab: Lab) -> None:
    lab.kill("runtime")
    lab.restart("runtime")
    pods = lab.pods("app=web")
    for pod in pods:
        watch_until_ready(lab, pod.name)
    lab.settle()
    assert pods[0].run(["hostname"]).stdout == f"{pods[0].name}\n"
    assert answer(lab, NODE1) in {pod.name for pod in pods}


def watch_until_ready(lab: Lab, name: str) -> None:
    """Restarts have a back-off, so this is a condition to wait for and no part of settling."""
    events = lab.client.watch("Pod", "default", fields=f"metadata.name={name}", timeoutSeconds="60")
    for event in events:
        status = event["object"]["status"]
        ready = any(row["type"] == "Ready" and row["status"] == "True" for row in status["conditions"])
        if ready and all(row["restartCount"] for row in status["containerStatuses"]):
            events.close()
            return
    raise AssertionError(f"{name} was not started again")
