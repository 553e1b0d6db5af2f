"""The proxy subresources, asked as an administrator does: curl on the API server's Unix socket.

web     a Service 80 -> 8080 over agnhost pods; lonely a Service without endpoints
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from controller.api.objects import Obj
from topo.config import ClusterConfig
from topo.lab import Lab

DEFAULT = "/api/v1/namespaces/default"


def service(name: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def pod(name: str, node: str) -> Obj:
    container = {
        "name": "main",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
        "args": ["netexec", "--http-port=8080"],
        "ports": [{"containerPort": 8080}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [container]},
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(service("web"), service("lonely"), pod("web-1", "node1"), pod("web-2", "node2"))
        lab.settle()
        yield lab


def ask(lab: Lab, path: str, *words: str) -> tuple[int, str]:
    """Status code and body."""
    socket, url = str(lab.run_dir / "api.sock"), f"http://localhost{path}"
    argv = ["curl", "-s", "-m", "20", "-w", "\n%{http_code}", "--unix-socket", socket, *words, url]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


@pytest.mark.parametrize("words", ["pods/web-2", "pods/web-2:8080", "pods/http:web-2:8080"])
def test_a_request_is_proxied_to_a_pod_on_any_node(lab: Lab, words: str) -> None:
    assert ask(lab, f"{DEFAULT}/{words}/proxy/hostname") == (200, "web-2")


def test_a_request_is_proxied_to_any_of_a_services_pods(lab: Lab) -> None:
    answers = {ask(lab, f"{DEFAULT}/services/web:80/proxy/hostname") for _ in range(30)}
    assert answers == {(200, "web-1"), (200, "web-2")}


def test_method_body_query_and_status_go_through(lab: Lab) -> None:
    assert ask(lab, f"{DEFAULT}/services/web/proxy/echo?msg=hello%20there") == (200, "hello there")
    assert ask(lab, f"{DEFAULT}/services/web/proxy/echo?code=418&msg=x")[0] == 418


def test_the_pod_is_asked_from_the_control_planes_node(lab: Lab) -> None:
    code, body = ask(lab, f"{DEFAULT}/pods/web-2/proxy/clientip")
    assert (code, body.rpartition(":")[0]) == (200, str(lab.node(1).ip))


def test_without_the_slash_a_reader_is_sent_to_it(lab: Lab) -> None:
    path = f"{DEFAULT}/services/web/proxy"
    code, shown = ask(lab, f"{path}?a=b", "-D", "-")
    assert code == 301
    assert f"location: {path}/?a=b" in shown.lower().replace(path.lower(), path)
    assert ask(lab, path, "-L")[0] == 200


def test_nobody_there_is_a_status_that_says_so(lab: Lab) -> None:
    for path, text in (
        (f"{DEFAULT}/services/lonely/proxy/", 'no endpoints available for service "lonely"'),
        (f"{DEFAULT}/pods/web-2:81/proxy/", "connection refused"),
    ):
        code, body = ask(lab, path)
        status = json.loads(body)
        assert (code, status["kind"], status["reason"]) == (503, "Status", "ServiceUnavailable")
        assert text in status["message"]
    assert ask(lab, f"{DEFAULT}/pods/nobody/proxy/")[0] == 404


def test_a_token_can_be_asked_for_as_kubectl_create_token_does(lab: Lab) -> None:
    code, body = ask(lab, f"{DEFAULT}/serviceaccounts/default/token", "-X", "POST", "-d", "{}")
    token = json.loads(body)["status"]["token"]
    assert code == 201
    header, url = f"Authorization: Bearer {token}", "https://192.168.49.2:6443/api/v1/nodes"
    done = lab.node(2).run(
        ["curl", "-s", "-m", "10", "--cacert", str(lab.run_dir / "pki" / "ca.crt"), "-H", header, url]
    )
    assert len(json.loads(done.stdout)["items"]) == 2
