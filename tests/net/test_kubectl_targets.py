"""What kubectl takes for a pod: a Service, a Deployment, a label, a container, all of them.

Deployment talk   two pods on two nodes, labels app=talk, containers one (says hello on port 7777, named
                  hi) and two; each logs its own name and its pod's
Service talk      port 80 to hi, port 90 to 7778, where nobody listens
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios import kubeconfig
from tests.net.streams_kit import Kubectl
from tests.unit.kubectl_kit import newest, oldest
from topo.config import ClusterConfig
from topo.lab import Lab

SAYS = "for n in 1 2 3; do echo $0 $n of $HOSTNAME; done;"
HELLO = "exec /busybox/nc -ll -p 7777 -e echo hello from $HOSTNAME"


def container(name: str, then: str) -> dict[str, object]:
    environment = [{"name": "BOX", "value": name}]
    return {"name": name, "image": "busybox", "command": ["sh", "-c", SAYS + then, name], "env": environment}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    labels = {"app": "talk"}
    one = {**container("one", HELLO), "ports": [{"containerPort": 7777, "name": "hi"}]}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [one, container("two", "exec sleep 1000")],
            "terminationGracePeriodSeconds": 0,
        },
    }
    ports = [{"name": "a", "port": 80, "targetPort": "hi"}, {"name": "b", "port": 90, "targetPort": 7778}]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Lab(ClusterConfig(nodes=2, dns="none"), listener=listener.fileno()) as lab,
    ):
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        ca, token = ((lab.run_dir / "pki" / name).read_bytes() for name in ("ca.crt", "admin.token"))
        text = kubeconfig.config("test", url, ca=ca, token=token.decode())
        (lab.run_dir / "config").write_text(text)
        lab.apply(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "talk"},
                "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "talk"},
                "spec": {"selector": labels, "ports": ports},
            },
        )
        lab.settle()
        yield lab


@pytest.fixture(params=["1.20", "newest"])
def kubectl(request: pytest.FixtureRequest, lab: Lab) -> Kubectl:
    return Kubectl(oldest() if request.param == "1.20" else newest(), Path(lab.run_dir))


@pytest.fixture
def pods(lab: Lab) -> list[str]:
    found = sorted(pod.pod for pod in lab.pods("app=talk"))
    assert len(found) == 2
    return found


def lines(pod: str, container: str) -> list[str]:
    return [f"{container} {n} of {pod}" for n in (1, 2, 3)]


@pytest.mark.parametrize("target", ["deploy/talk", "deployment/talk", "svc/talk"])
def test_exec_into_a_deployment_or_a_service_is_into_one_of_its_pods(
    kubectl: Kubectl, pods: list[str], target: str
) -> None:
    assert kubectl("exec", target, "-c", "two", "--", "hostname").strip() in pods
    assert kubectl("exec", target, "-c", "two", "--", "printenv", "BOX") == "two\n"


def test_exec_without_a_container_goes_into_the_first(kubectl: Kubectl, pods: list[str]) -> None:
    done = kubectl.run("exec", "deploy/talk", "--", "printenv", "BOX")
    assert (done.returncode, done.stdout) == (0, b"one\n")
    assert re.search(r"[Dd]efault(ed|ing) container", done.stderr.decode())


@pytest.mark.parametrize(
    ("target", "port"), [("svc/talk", "80"), ("deploy/talk", "7777"), ("deploy/talk", "hi")]
)
def test_a_forward_to_a_service_or_deployment_ends_in_one_pod(
    kubectl: Kubectl, pods: list[str], target: str, port: str
) -> None:
    with kubectl.started("port-forward", target, f":{port}") as running:
        assert running.stdout
        found = re.search(r"127\.0\.0\.1:(\d+) -> 7777", running.stdout.readline())
        assert found
        said = set()
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as sock:
                said.add(sock.makefile().readline())
    (one,) = said
    assert one in [f"hello from {pod}\n" for pod in pods]


def test_a_forward_to_a_port_that_the_service_has_not_is_refused_by_name(kubectl: Kubectl) -> None:
    done = kubectl.run("port-forward", "svc/talk", ":81")
    assert done.returncode == 1
    assert "Service talk does not have a service port 81" in done.stderr.decode()


def test_a_forward_to_a_port_nobody_listens_on_says_so_and_closes(kubectl: Kubectl) -> None:
    with kubectl.started("port-forward", "svc/talk", ":90") as running:
        assert running.stdout
        found = re.search(r"127\.0\.0\.1:(\d+) -> 7778", running.stdout.readline())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=10) as sock:
            assert sock.recv(10) == b""
        told = ""
        while "refused" not in told:
            line = running.stdout.readline()
            assert line, told
            told += line


@pytest.mark.parametrize("target", ["deploy/talk", "svc/talk"])
def test_logs_of_a_deployment_are_those_of_its_first_pod(
    kubectl: Kubectl, pods: list[str], target: str
) -> None:
    done = kubectl.run("logs", target, "-c", "two")
    chosen = re.search(r"Found 2 pods, using pod/(\S+)", done.stderr.decode())
    assert chosen
    assert chosen[1] in pods
    assert done.stdout.decode().splitlines() == lines(chosen[1], "two")


def test_logs_by_label_are_those_of_all_the_pods(kubectl: Kubectl, pods: list[str]) -> None:
    said = kubectl("logs", "-l", "app=talk", "-c", "one").splitlines()
    assert sorted(said) == sorted(lines(pods[0], "one") + lines(pods[1], "one"))
    last = kubectl("logs", "-l", "app=talk", "-c", "one", "--tail=1").splitlines()
    assert sorted(last) == [f"one 3 of {pod}" for pod in pods]


def test_logs_of_all_containers_say_whose_they_are_when_asked(kubectl: Kubectl, pods: list[str]) -> None:
    one, two = (lines(pods[0], name) for name in ("one", "two"))
    said = kubectl("logs", pods[0], "--all-containers").splitlines()
    assert said in (one + two, two + one)  # the newest kubectl takes containers in any order
    said = kubectl("logs", "-l", "app=talk", "--all-containers", "--prefix").splitlines()
    wanted = [
        f"[pod/{name}/{box}] {line}" for name in pods for box in ("one", "two") for line in lines(name, box)
    ]
    assert sorted(said) == sorted(wanted)


def test_logs_of_a_container_that_the_pod_has_not_are_refused_in_kubernetes_words(
    kubectl: Kubectl, pods: list[str]
) -> None:
    done = kubectl.run("logs", pods[0], "-c", "three")
    assert done.returncode == 1
    assert f"container three is not valid for pod {pods[0]}" in done.stderr.decode()
