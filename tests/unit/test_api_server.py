"""The API over its Unix socket, in a process of its own: paths, verbs, codes, headers, discovery."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Invalid,
    MethodNotAllowed,
    NotFound,
)
from tests.unit.api_kit import ApiServer, api_server, deployment, namespace, pod, service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the namespace default as it found it."""
    yield
    server: ApiServer = request.getfixturevalue("server")
    for plural, group in (("pods", "api/v1"), ("services", "api/v1"), ("deployments", "apis/apps/v1")):
        raw(server, "DELETE", f"/{group}/namespaces/default/{plural}?gracePeriodSeconds=0")


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def raw(
    server: ApiServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    """(code, JSON or text, headers) of a request as it stands on the wire."""
    connection = Connection(server.socket)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {word.replace("_", "-"): text for word, text in headers.items()}
    connection.request(method, path, data, {"Content-Type": "application/json", **names})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    found = json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
    return response.status, found, response.headers


def test_the_socket_is_for_its_owner_alone(server: ApiServer) -> None:
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


def test_an_object_is_created_read_changed_and_deleted_under_its_real_path(server: ApiServer) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    code, made, _ = raw(server, "POST", path, deployment())
    assert code == 201
    assert raw(server, "GET", f"{path}/web")[1] == made
    made["spec"]["replicas"] = 2
    code, changed, _ = raw(server, "PUT", f"{path}/web", made)
    assert (code, changed["metadata"]["generation"]) == (200, 2)
    code, patched, _ = raw(
        server, "PATCH", f"{path}/web", {"spec": {"replicas": 3}}, Content_Type="application/merge-patch+json"
    )
    assert (code, patched["spec"]["replicas"]) == (200, 3)
    code, status, _ = raw(server, "DELETE", f"{path}/web")
    assert (code, status["kind"], status["status"]) == (200, "Status", "Success")
    assert status["details"]["uid"] == made["metadata"]["uid"]
    assert raw(server, "GET", f"{path}/web")[0] == 404


def test_a_list_is_a_list_kind_with_a_resource_version(server: ApiServer) -> None:
    server.client.create(pod("a"))
    server.client.create(pod("b", metadata={"labels": {"app": "db"}}))
    _, found, _ = raw(server, "GET", "/api/v1/pods")
    assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    newest = max(int(item["metadata"]["resourceVersion"]) for item in found["items"])
    assert int(found["metadata"]["resourceVersion"]) >= newest
    items, _ = server.client.list("Pod", "default", labels="app=db")
    assert [(item["kind"], item["metadata"]["name"]) for item in items] == [("Pod", "b")]
    assert server.client.list("Pod", "kube-system")[0] == []
    assert server.client.list("Pod", fields="metadata.name=a")[0][0]["metadata"]["name"] == "a"


def test_the_client_raises_the_error_the_server_means(server: ApiServer) -> None:
    client = server.client
    with pytest.raises(NotFound, match='pods "web" not found'):
        client.get("Pod", "web")
    made = client.create(pod())
    with pytest.raises(AlreadyExists):
        client.create(pod())
    client.patch("Pod", "web", {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(Conflict):
        client.update(made)
    with pytest.raises(Invalid) as invalid:
        client.create(service(spec={"ports": [{"port": 80}, {"port": 81}]}))
    causes = invalid.value.status["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["spec.ports[0].name", "spec.ports[1].name"]
    with pytest.raises(Invalid):
        client.patch("Pod", "web", [{"op": "remove", "path": "/spec/nosuch"}], patch_type="json")
    with pytest.raises(BadRequest, match="field label not supported"):
        client.list("Pod", fields="spec.nosuch=1")


def test_apply_creates_or_merges(server: ApiServer) -> None:
    client = server.client
    first = client.apply(service())
    assert client.apply(service()) == first
    assert client.apply(service(spec={"ports": [{"port": 81}]}))["spec"]["ports"][0]["port"] == 81


def test_a_deleted_pod_or_service_is_answered_with_the_object(server: ApiServer) -> None:
    server.client.create(service())
    assert server.client.delete("Service", "web")["kind"] == "Service"
    server.client.create(pod(spec={"nodeName": "node1"}))
    marked = server.client.delete("Pod", "web", grace=7)
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 7


def test_a_deletion_may_insist_on_the_object_that_was_meant(server: ApiServer) -> None:
    first = server.client.create(pod())
    server.client.delete("Pod", "web")
    server.client.create(pod())
    with pytest.raises(Conflict, match="deleted and then recreated"):
        server.client.delete("Pod", "web", uid=first["metadata"]["uid"])
    assert server.client.get("Pod", "web")


def test_a_collection_is_deleted_by_selector(server: ApiServer) -> None:
    server.client.create(pod("a"))
    server.client.create(pod("b", metadata={"labels": {"app": "db"}}))
    _, gone, _ = raw(server, "DELETE", "/api/v1/namespaces/default/pods?labelSelector=app%3Ddb")
    assert [item["metadata"]["name"] for item in gone["items"]] == ["b"]
    assert [item["metadata"]["name"] for item in server.client.list("Pod")[0]] == ["a"]


def test_status_scale_and_binding_are_subresources(server: ApiServer) -> None:
    client = server.client
    client.create(pod())
    path = "/api/v1/namespaces/default/pods/web/binding"
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "node1"}}
    assert raw(server, "POST", path, binding)[0] == 201
    assert raw(server, "POST", path, binding)[0] == 409
    assert client.get("Pod", "web")["spec"]["nodeName"] == "node1"
    running = client.patch("Pod", "web", {"status": {"phase": "Running"}}, subresource="status")
    assert running["status"]["phase"] == "Running"
    client.create(deployment())
    scale = client.patch("Deployment", "web", {"spec": {"replicas": 3}}, subresource="scale")
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 3})
    path = "/apis/apps/v1/namespaces/default/deployments/web/scale"
    scale["spec"]["replicas"] = 4
    assert raw(server, "PUT", path, scale)[0] == 200
    assert client.get("Deployment", "web")["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nosuch", 404),
        ("GET", "/apis/apps/v1beta1/deployments", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/pods/web", 404),
        ("GET", "/api/v1/namespaces/default/pods/web/nosuch", 404),
        ("GET", "/api/v1/namespaces//pods", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("POST", "/api/v1/namespaces/default/pods/web", 405),
        ("GET", "/api/v1/pods?watch=maybe", 400),
        ("GET", "/api/v1/pods?labelSelector=%3D", 400),
        ("GET", "/podwire/v1/nosuch", 404),
        ("GET", "/podwire/v1/settle?timeoutSeconds=soon", 400),
    ],
)
def test_a_request_that_means_nothing_is_answered_with_a_status(
    server: ApiServer, method: str, path: str, code: int
) -> None:
    found, status, _ = raw(server, method, path)
    assert (found, status["kind"], status["code"]) == (code, "Status", code)


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"metadata": []}', "application/json", 400),
        (b'{"kind": "Service"}', "application/json", 400),
        (b"{}", "application/vnd.kubernetes.protobuf", 400),
        (b"{}", "application/cbor", 415),
        (b"\xff\xfe", "application/json", 400),
        (b" " * 2_000_000, "application/json", 413),
    ],
)
def test_a_body_that_is_no_pod_is_refused(
    server: ApiServer, body: bytes, content_type: str, code: int
) -> None:
    found, status, _ = raw(server, "POST", "/api/v1/namespaces/default/pods", body, Content_Type=content_type)
    assert (found, status["kind"]) == (code, "Status")


def test_a_kind_without_behaviour_is_stored_with_a_warning(server: ApiServer) -> None:
    path = "/api/v1/namespaces/default/podtemplates"
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "kept"}}
    code, made, headers = raw(server, "POST", path, template)
    assert (code, made["metadata"]["name"]) == (201, "kept")
    assert headers["Warning"].startswith('299 - "podwire stores podtemplates')
    assert raw(server, "GET", f"{path}/kept")[2]["Warning"] is None


def test_unknown_fields_are_warnings_or_errors_as_asked(server: ApiServer) -> None:
    path, wrong = "/api/v1/namespaces/default/services", service(spec={"selektor": {}})
    code, status, _ = raw(server, "POST", f"{path}?fieldValidation=Strict", wrong)
    assert code == 400
    assert status["message"].endswith('strict decoding error: unknown field "spec.selektor"')
    wrong["spec"]["a\r\nSet-Cookie: b"] = 1
    code, made, headers = raw(server, "POST", path, wrong)
    assert (code, headers["Set-Cookie"]) == (201, None)
    assert headers.get_all("Warning") == [
        '299 - "unknown field \\"spec.selektor\\""', '299 - "unknown field \\"spec.a??Set-Cookie: b\\""'
    ]  # fmt: skip
    assert "selektor" not in made["spec"]


def test_discovery_tells_what_is_served(server: ApiServer) -> None:
    assert raw(server, "GET", "/readyz")[1] == "ok"
    assert raw(server, "GET", "/version/")[1]["major"] == "1"
    assert raw(server, "GET", "/api")[1]["versions"] == ["v1"]
    groups = {group["name"] for group in raw(server, "GET", "/apis")[1]["groups"]}
    assert {"apps", "discovery.k8s.io", "networking.k8s.io"} <= groups
    resources = {entry["name"]: entry for entry in raw(server, "GET", "/apis/apps/v1")[1]["resources"]}
    assert resources["deployments"]["shortNames"] == ["deploy"]
    assert resources["deployments/scale"]["kind"] == "Scale"
    names = {entry["name"] for entry in raw(server, "GET", "/api/v1")[1]["resources"]}
    assert {"pods", "pods/status", "services", "namespaces", "nodes", "events", "configmaps"} <= names


def test_the_same_event_again_counts_up(server: ApiServer) -> None:
    client = server.client
    made = client.create(pod())
    for _ in range(3):
        client.event(made, "Unhealthy", "Readiness probe failed", type="Warning", component="kubelet")
    client.event(made, "Started", "Started container web", component="kubelet")
    events, _ = client.list("Event", "default", fields=f"involvedObject.uid={made['metadata']['uid']}")
    assert {(event["reason"], event["count"], event["type"]) for event in events} == {
        ("Unhealthy", 3, "Warning"), ("Started", 1, "Normal")
    }  # fmt: skip


def test_events_come_in_the_order_they_were_told(server: ApiServer) -> None:
    client = server.client
    made = client.create(pod(metadata={"name": "told"}))
    for reason in ("Scheduled", "Pulled", "Created", "Started", "Pulled"):
        client.event(made, reason, f"it was {reason}", component="test")
    uid = made["metadata"]["uid"]
    events, _ = client.list("Event", "default", fields=f"involvedObject.uid={uid}")
    assert [event["reason"] for event in events] == ["Scheduled", "Created", "Started", "Pulled"]
    everything = [one["reason"] for one in client.list("Event")[0] if one["involvedObject"]["uid"] == uid]
    assert everything == ["Scheduled", "Created", "Started", "Pulled"]


def test_an_older_version_is_answered_out_of_the_served_one(server: ApiServer) -> None:
    path = "/apis/extensions/v1beta1/namespaces/default/ingresses"
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec = {"defaultBackend": backend, "rules": [{"http": {"paths": paths}}]}
    server.client.create({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "old"}, "spec": spec,
    })  # fmt: skip
    code, told, _ = raw(server, "GET", path)
    assert (code, told["apiVersion"]) == (200, "extensions/v1beta1")
    (one,) = told["items"]
    assert one["spec"]["backend"] == {"serviceName": "web", "servicePort": 80}
    assert one["spec"]["rules"][0]["http"]["paths"][0]["backend"] == one["spec"]["backend"]
    code, status, _ = raw(server, "POST", path, one)
    assert (code, status["message"]) == (405, "use networking.k8s.io/v1 to write ingresses")
    code, status, _ = raw(server, "DELETE", f"{path}/old")
    assert (code, status["kind"]) == (200, "Status")


def test_events_recorded_at_once_are_all_counted(server: ApiServer) -> None:
    made = server.client.create(pod())

    def record() -> None:
        for _ in range(10):
            server.client.event(made, "BackOff", "Back-off restarting", component="kubelet")

    threads = [threading.Thread(target=record) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fields = f"involvedObject.uid={made['metadata']['uid']},reason=BackOff"
    (event,) = server.client.list("Event", "default", fields=fields)[0]
    assert event["count"] == 30


def test_a_namespace_holds_its_own_objects(server: ApiServer) -> None:
    client = server.client
    client.create(namespace("team"))
    client.create(pod(metadata={"namespace": "team"}))
    assert client.get("Pod", "web", "team")["metadata"]["namespace"] == "team"
    with pytest.raises(NotFound):
        client.get("Pod", "web")
    with pytest.raises(MethodNotAllowed):
        client._transport.request("POST", "/api/v1/namespaces/team/pods/web", body={})
