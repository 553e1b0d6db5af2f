"""The TLS port on the user's loopback: who gets in, and that what is answered suits typed clients."""

from __future__ import annotations

import http.client
import json
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from controller.api.kinds import KINDS
from controller.api.objects import Obj
from controller.api.schema import clean, document
from tests.unit.kubectl_kit import Cluster, cluster

TEMPLATE: Obj = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SETS = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
JOB = {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
SAMPLES: dict[str, Obj] = {
    "Pod": {"spec": {**TEMPLATE["spec"], "nodeName": "node1"}},
    "Service": {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "10.244.1.2"}], "ports": [{"port": 80}]}]},
    "Event": {"involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"}},
    "Deployment": {"spec": SETS},
    "ReplicaSet": {"spec": SETS},
    "ReplicationController": {"spec": {"selector": {"a": "b"}, "template": TEMPLATE}},
    "StatefulSet": {"spec": {**SETS, "serviceName": "a"}},
    "DaemonSet": {"spec": SETS},
    "ControllerRevision": {"revision": 1},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.244.1.2"]}]},
    "ServiceCIDR": {"spec": {"cidrs": ["10.111.0.0/16"]}},
    "PersistentVolumeClaim": {"spec": CLAIM},
    "PersistentVolume": {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}},
    "Job": {"spec": JOB},
    "CronJob": {"spec": {"schedule": "@daily", "jobTemplate": {"spec": JOB}}},
    "HorizontalPodAutoscaler": {
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "a"}, "maxReplicas": 2}
    },
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}},
    "IngressClass": {"spec": {"controller": "a.example/b"}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "RoleBinding": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}},
    "ClusterRoleBinding": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"}
    },
    "StorageClass": {"provisioner": "a.example/b"},
    "PriorityClass": {"value": 1},
}  # fmt: skip
"""Of every kind that needs more than a name: the least that is accepted."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("loopback")) as made:
        yield made


def ask(
    server: Cluster, method: str, path: str, body: Any = None, *, token: str = "", **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    url = urlsplit(server.url)
    assert url.hostname
    context = ssl.create_default_context(cadata=server.ca.decode())
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=20)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"Content-Type": "application/json", **headers})
    with connection.getresponse() as response:
        text = response.read()
        connection.close()
        told = json.loads(text) if text.startswith(b"{") else text.decode()
        return response.status, told, response.headers


def test_without_a_token_only_health_and_version_answer(server: Cluster) -> None:
    for path in ("/version", "/healthz", "/livez", "/readyz"):
        assert ask(server, "GET", path)[0] == 200
    for path in ("/api/v1/pods", "/openapi/v2", "/api", "/podwire/v1/progress", "/nothing"):
        code, status, _ = ask(server, "GET", path)
        assert (code, status["kind"], status["reason"]) == (401, "Status", "Unauthorized")
    assert ask(server, "GET", "/api/v1/pods", token="wrong")[0] == 401
    assert ask(server, "GET", "/api/v1/pods", token="wröng".encode().decode("latin-1"))[0] == 401
    assert ask(server, "GET", "/api/v1/pods", token=server.token)[0] == 200


def test_a_reading_token_does_not_write(server: Cluster) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    code, made, _ = ask(server, "POST", path, {}, token=server.token)
    assert code == 201
    reader = made["status"]["token"]
    assert ask(server, "GET", "/api/v1/services", token=reader)[0] == 200
    code, status, _ = ask(server, "POST", "/api/v1/namespaces/default/pods", {}, token=reader)
    assert (code, status["reason"]) == (403, "Forbidden")
    assert 'User "system:serviceaccount:default:default" cannot create resource "pods"' in status["message"]
    for word in ("exec", "attach", "portforward"):  # which are asked for by GET, too
        code, status, _ = ask(server, "GET", f"/api/v1/namespaces/default/pods/web/{word}", token=reader)
        assert (code, f'cannot get resource "pods/{word}"' in status["message"]) == (403, True)
    # To impersonate is the administrator's alone.
    impersonated = ask(
        server, "GET", "/api/v1/secrets", token=reader, **{"Impersonate-User": "kubernetes-admin"}
    )
    assert impersonated[0] == 403


def test_a_name_that_leads_to_the_loopback_is_not_served(server: Cluster) -> None:
    code, status, _ = ask(server, "GET", "/api/v1/pods", token=server.token, Host="attacker.example")
    assert (code, status["reason"]) == (403, "Forbidden")
    assert ask(server, "GET", "/version", Host="attacker.example")[0] == 403
    port = urlsplit(server.url).port
    assert ask(server, "GET", "/api/v1/pods", token=server.token, Host=f"localhost:{port}")[0] == 200


def test_keys_and_tokens_are_their_owners_alone(server: Cluster) -> None:
    for file in (server.directory / "pki").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_every_kind_is_answered_with_the_fields_typed_clients_require(server: Cluster) -> None:
    for row in KINDS.values():
        if row.kind in ("Namespace", "Node", "IPAddress"):  # made by the lab itself
            continue
        name = {"metadata": {"name": f"a-{row.kind.lower()}"}}
        obj = {"apiVersion": row.api_version, "kind": row.kind, **name, **SAMPLES.get(row.kind, {})}
        server.client.create(obj)
    server.client.settle(["managers"])
    seen = set()
    for row in KINDS.values():
        for obj in server.client.list(row.kind)[0]:
            seen.add(row.kind)
            assert missing(obj) == [], obj
    assert seen == KINDS.keys()


def missing(obj: Obj) -> list[str]:
    """Fields that the published definition requires and the object does not have."""
    assert obj["kind"] in document()["kinds"]
    _, report = clean(obj)
    assert not report.unknown
    assert not report.wrong
    absent = list(report.missing)
    if obj["kind"] == "EndpointSlice" and not isinstance(obj.get("endpoints"), list):
        absent.append("endpoints")  # clean() takes it as filled in
    return absent


def test_a_warning_tells_that_nothing_acts_on_a_kind(server: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "w"}}
    path = "/api/v1/namespaces/default/limitranges"
    _, _, headers = ask(server, "POST", path, body, token=server.token)
    assert headers["Warning"].startswith('299 - "podwire stores limitranges')


def test_the_kubeconfig_of_a_lab_is_valid_yaml_for_one_cluster(server: Cluster, tmp_path: Path) -> None:
    told = json.loads(server.kubeconfig.read_text())
    assert told["clusters"][0]["cluster"]["server"] == server.url
    assert told["users"][0]["user"] == {"token": server.token}
