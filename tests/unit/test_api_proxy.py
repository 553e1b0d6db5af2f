"""The proxy subresource: how its URLs are read and whom a request is forwarded to.

Service web   http 80 -> 8080, admin 81 -> 9090; endpoints 10.244.1.2 (ready) and 10.244.1.3 (not)
Pod web-0     10.244.1.2, ports http 8080 and admin 9090
"""

from __future__ import annotations

import random

import pytest

from controller.api import proxy
from controller.api.errors import BadRequest, NotFound, ServiceUnavailable
from controller.api.objects import Obj

HERE = {"namespace": "default"}
SERVICE: Obj = {
    "kind": "Service",
    "metadata": {"name": "web", **HERE},
    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]},
}
POD: Obj = {
    "kind": "Pod",
    "metadata": {"name": "web-0", **HERE},
    "spec": {
        "containers": [
            {"ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]}
        ]
    },
    "status": {"podIP": "10.244.1.2"},
}
SLICE: Obj = {
    "kind": "EndpointSlice",
    "metadata": {"name": "web-x", **HERE, "labels": {"kubernetes.io/service-name": "web"}},
    "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}],
    "endpoints": [
        {"addresses": ["10.244.1.2"], "conditions": {"ready": True}},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": False}},
    ],
}
HELD = {("Service", "default", "web"): SERVICE, ("Pod", "default", "web-0"): POD}


def target(words: str, *, slices: tuple[Obj, ...] = (SLICE,)) -> tuple[str, int]:
    """Where a request for ``services/WORDS`` or ``pods/WORDS`` goes."""
    where = proxy.parse(f"/api/v1/namespaces/default/{words}/proxy/")
    assert where is not None
    return proxy.resolve(where, lambda *at: HELD.get(at), lambda namespace: slices, random.Random(1))


@pytest.mark.parametrize(
    ("path", "scheme", "name", "port", "rest"),
    [
        ("/api/v1/namespaces/default/services/web/proxy/a/b", "http", "web", "", "/a/b"),
        ("/api/v1/namespaces/default/services/web:http/proxy/", "http", "web", "http", "/"),
        ("/api/v1/namespaces/default/services/https:web:443/proxy/", "https", "web", "443", "/"),
        ("/api/v1/namespaces/default/pods/https:web-0:/proxy/", "https", "web-0", "", "/"),
        ("/api/v1/namespaces/default/pods/web-0%3A80/proxy/a%2Fb", "http", "web-0", "80", "/a%2Fb"),
        ("/api/v1/namespaces/default/pods/web-0/proxy", "http", "web-0", "", ""),
    ],
)
def test_a_proxy_url_names_scheme_name_port_and_path(
    path: str, scheme: str, name: str, port: str, rest: str
) -> None:
    where = proxy.parse(path)
    assert where is not None
    assert (where.scheme, where.name, where.port, where.rest) == (scheme, name, port, rest)


def test_other_urls_are_no_proxy_urls_and_an_odd_scheme_is_refused() -> None:
    assert proxy.parse("/api/v1/namespaces/default/services/web") is None
    assert proxy.parse("/api/v1/nodes/node1/status") is None
    with pytest.raises(BadRequest, match='invalid services request "ftp:web:21"'):
        proxy.parse("/api/v1/namespaces/default/services/ftp:web:21/proxy/")


@pytest.mark.parametrize("words", ["services/web:http", "services/web:80", "pods/web-0", "pods/web-0:8080"])
def test_a_port_is_meant_by_name_or_by_number_and_a_pods_first_when_none_is(words: str) -> None:
    assert target(words) == ("10.244.1.2", 8080)


def test_only_ready_endpoints_are_asked() -> None:
    assert {target("services/web:admin") for _ in range(20)} == {("10.244.1.2", 9090)}


def test_what_cannot_be_reached_is_said_in_kubernetes_words() -> None:
    with pytest.raises(ServiceUnavailable, match='no endpoints available for service "web"'):
        target("services/web:http", slices=())
    with pytest.raises(ServiceUnavailable, match='no service port "" found for service "web"'):
        target("services/web")
    with pytest.raises(NotFound, match='services "other" not found'):
        target("services/other")


NODE: Obj = {
    "kind": "Node",
    "metadata": {"name": "node1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.49.2"}]},
}


@pytest.mark.parametrize(
    ("words", "at", "kubelet"),
    [
        ("node1", ("192.168.49.2", 10250), True),
        ("node1:10250", ("192.168.49.2", 10250), True),
        ("node1:10256", ("192.168.49.2", 10256), False),
    ],
)
def test_a_nodes_proxy_leads_to_its_kubelet_unless_another_port_is_asked(
    words: str, at: tuple[str, int], kubelet: bool
) -> None:
    where = proxy.parse(f"/api/v1/nodes/{words}/proxy/logs/")
    assert where is not None
    assert (where.kind, where.name, where.rest, where.is_for_kubelet) == ("Node", "node1", "/logs/", kubelet)
    found = proxy.resolve(where, lambda *named: NODE, lambda namespace: (), random.Random(1))
    assert found == at


def test_a_node_that_is_not_there_is_not_found() -> None:
    where = proxy.parse("/api/v1/nodes/node9/proxy/")
    assert where is not None
    with pytest.raises(NotFound, match='nodes "node9" not found'):
        proxy.resolve(where, lambda *named: None, lambda namespace: (), random.Random(1))
