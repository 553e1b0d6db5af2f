"""The Service ``kubernetes``: the API server over TLS, asked from pods.

node1   192.168.49.2, control plane, API server on port 6443; Service 10.96.0.1:443
shell   a pod on node2, other a pod in namespace more without a token
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.objects import Obj
from topo.config import ClusterConfig
from topo.hosts import Pod
from topo.lab import Lab

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
URL = "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"


def pod(name: str, namespace: str = "default", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "curlimages/curl"}], **spec},
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "more"}},
            pod("shell", nodeName="node2"),
            pod("local", nodeName="node1"),
            pod("other", "more", automountServiceAccountToken=False),
        )
        lab.settle()
        yield lab


def curl(
    who: Pod, path: str, *, token: str = f"$(cat {ACCOUNT}/token)", method: str = "GET"
) -> tuple[int, Any]:
    """Status code and JSON body (or text) of a request from inside a pod."""
    words = f'curl -s -m 10 -X {method} --cacert {ACCOUNT}/ca.crt -w "\\n%{{http_code}}"'
    header = f' -H "Authorization: Bearer {token}"' if token else ""
    done = who.run(["sh", "-c", f"{words}{header} {URL}{path}"])
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), json.loads(body) if body.startswith("{") else body


@pytest.mark.parametrize("name", ["shell", "local"])
def test_a_pod_lists_services_with_its_token_over_tls_that_it_can_check(lab: Lab, name: str) -> None:
    code, found = curl(lab.pod(name), "/api/v1/services")
    assert code == 200
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found["items"]}
    assert ("default", "kubernetes") in names


def test_without_a_token_there_is_only_version_and_health(lab: Lab) -> None:
    shell = lab.pod("shell")
    code, status = curl(shell, "/api/v1/services", token="")
    assert (code, status["kind"], status["reason"], status["code"]) == (401, "Status", "Unauthorized", 401)
    assert [curl(shell, path, token="")[0] for path in ("/version", "/healthz", "/livez", "/readyz")] == [
        200
    ] * 4


def test_a_wrong_token_is_nobodys(lab: Lab) -> None:
    shell = lab.pod("shell")
    assert curl(shell, "/api/v1/services", token="wrong")[0] == 401
    forged = f"$(cat {ACCOUNT}/token)x"
    assert curl(shell, "/api/v1/services", token=forged)[0] == 401


def test_for_more_than_discovery_a_token_is_refused_in_kubernetes_words(lab: Lab) -> None:
    shell = lab.pod("shell")
    code, status = curl(shell, "/api/v1/namespaces/default/secrets")
    assert (code, status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        'secrets is forbidden: User "system:serviceaccount:default:default" cannot list resource "secrets" '
        'in API group "" in the namespace "default"'
    )
    assert curl(shell, "/api/v1/namespaces/default/pods/shell", method="DELETE")[0] == 403
    assert curl(shell, "/podwire/v1/progress")[0] == 403
    assert curl(shell, "/api/v1/namespaces/default%2Fsecrets")[0] == 403
    assert curl(shell, "/api/v1/namespaces/default/pods/shell/proxy/")[0] == 403


def test_a_pods_token_is_its_own_and_read_only_and_one_that_wants_none_has_none(lab: Lab) -> None:
    shell = lab.pod("shell")
    assert shell.run(["cat", f"{ACCOUNT}/namespace"]).stdout == "default"
    assert shell.run(["sh", "-c", f"echo x > {ACCOUNT}/token"]).returncode != 0
    tokens = {lab.pod(name).run(["cat", f"{ACCOUNT}/token"]).stdout for name in ("shell", "local")}
    assert len(tokens) == 2
    assert lab.pod("other", "more").run(["ls", ACCOUNT]).returncode != 0


def test_the_services_endpoint_is_the_mirror_pods_address(lab: Lab) -> None:
    address = lab.client.get("Pod", "kube-apiserver-node1", "kube-system")["status"]["podIP"]
    assert address == str(lab.node(1).ip)
    (slice_,) = lab.client.list("EndpointSlice", "default", labels="kubernetes.io/service-name=kubernetes")[0]
    assert [one["addresses"] for one in slice_["endpoints"]] == [[address]]
    (subset,) = lab.client.get("Endpoints", "kubernetes", "default")["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == [address]
    assert (subset["ports"][0]["port"], slice_["ports"][0]["port"]) == (6443, 6443)


def test_the_certificate_is_good_for_every_name_of_the_service(lab: Lab) -> None:
    context = ssl.create_default_context(cadata=(lab.run_dir / "pki" / "ca.crt").read_text())
    names = ["kubernetes" + end for end in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    for name in (*names, "10.96.0.1", "192.168.49.2", "127.0.0.1", "localhost"):
        with lab.node(1).socket() as plain:
            plain.settimeout(10)
            plain.connect(("127.0.0.1", 6443))
            with context.wrap_socket(plain, server_hostname=name) as secured:
                assert secured.version() == "TLSv1.3"


def test_static_pods_are_shown_on_their_nodes_and_nothing_runs_for_them(lab: Lab) -> None:
    found = lab.client.list("Pod", "kube-system")[0]
    pods = [one for one in found if one["metadata"]["name"].startswith("kube-")]
    assert {one["metadata"]["name"]: one["spec"]["nodeName"] for one in pods} == {
        "kube-apiserver-node1": "node1",
        "kube-proxy-node1": "node1",
        "kube-proxy-node2": "node2",
    }
    running = {one["pod"] for one in lab.runtime.containers()}
    assert running.isdisjoint(one["metadata"]["name"] for one in pods)
    lab.client.delete("Pod", "kube-proxy-node2", "kube-system")
    lab.settle()
    assert lab.client.get("Pod", "kube-proxy-node2", "kube-system")["status"]["phase"] == "Running"


def test_a_restarted_api_server_is_trusted_and_trusts_the_tokens_it_gave(lab: Lab) -> None:
    lab.kill("apiserver")
    lab.restart("apiserver")
    lab.settle()
    assert curl(lab.pod("shell"), "/api/v1/services")[0] == 200


def test_the_api_server_moves_with_its_node(lab: Lab) -> None:
    new = lab.node(1).readdress()
    lab.settle()
    assert curl(lab.pod("shell"), "/api/v1/services")[0] == 200
    done = lab.pod("shell").run(
        ["curl", "-s", "-m", "10", "--cacert", f"{ACCOUNT}/ca.crt", f"https://{new}:6443/version"]
    )
    assert '"gitVersion"' in done.stdout, done.stderr
    assert lab.client.get("Pod", "kube-apiserver-node1", "kube-system")["status"]["podIP"] == str(new)


def test_a_token_dies_with_its_pod(lab: Lab) -> None:
    token = lab.pod("local").run(["cat", f"{ACCOUNT}/token"]).stdout
    shell = lab.pod("shell")
    assert curl(shell, "/api/v1/services", token=token)[0] == 200
    lab.client.delete("Pod", "local", "default", grace=0)
    lab.settle()
    assert curl(shell, "/api/v1/services", token=token)[0] == 401
