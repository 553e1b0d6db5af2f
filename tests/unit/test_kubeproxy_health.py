"""What load balancers are told about a node, and that it stops with the process that knows it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.api.wiring import KUBE_PROXY_HEALTH_PORT as PORT
from controller.kubeproxy.health import METRICS_PORT, TIMEOUT, Answer, Health
from controller.kubeproxy.health_servers import HealthServers, encode

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CHECK = 31234
Obj = dict[str, Any]


def node(name: str = "node1", **spec: Any) -> Obj:
    return {"kind": "Node", "metadata": {"name": name}, "spec": spec}


def service(port: int | None = CHECK) -> Obj:
    spec: Obj = {"type": "LoadBalancer", "clusterIP": "10.96.0.80"}
    if port:
        spec["healthCheckNodePort"] = port
    return {"kind": "Service", "metadata": {"namespace": "default", "name": "web"}, "spec": spec}


def endpoint(address: str, node: str = "node1", **conditions: bool) -> Obj:
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True, **conditions}}


def endpoint_slice(*endpoints: Obj, name: str = "web-1") -> Obj:
    labels = {"kubernetes.io/service-name": "web"}
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
    }


def healthy(*objects: Obj) -> Health:
    """Two nodes whose flows are in force."""
    health = Health()
    for obj in (node(), node("node2"), *objects):
        health.apply("ADDED", obj)
    health.queued(7, NOW)
    for name in ("node1", "node2"):
        health.updated(name, 7, NOW)
    return health


def ask(
    health: Health, path: str = "/healthz", *, on: str = "node1", port: int = PORT, after: float = 0
) -> Answer:
    return health.answer(on, port, path, NOW + timedelta(seconds=after))


def local(health: Health, on: str) -> tuple[int, int]:
    answer = ask(health, on=on, port=CHECK)
    count = json.loads(answer.body)["localEndpoints"]
    assert answer.headers == {"X-Load-Balancing-Endpoint-Weight": str(count)}
    return answer.code, count


def test_a_node_whose_flows_are_in_force_is_healthy_in_kube_proxys_words() -> None:
    answer = ask(healthy())
    assert answer.code == 200
    assert json.loads(answer.body) == {
        "lastUpdated": "2026-01-01 12:00:00.000000 +0000 UTC",
        "currentTime": "2026-01-01 12:00:00.000000 +0000 UTC",
        "nodeEligible": True,
    }


def test_livez_does_not_speak_of_eligibility() -> None:
    answer = ask(healthy(), "/livez")
    assert answer.code == 200
    assert set(json.loads(answer.body)) == {"lastUpdated", "currentTime"}


def test_a_node_without_flows_yet_is_not_healthy() -> None:
    health = Health()
    health.apply("ADDED", node())
    health.queued(7, NOW)
    assert [ask(health, path).code for path in ("/healthz", "/livez")] == [503, 503]
    health.updated("node1", 7, NOW)
    assert ask(health).code == 200


@pytest.mark.parametrize(
    "going",
    [
        node(taints=[{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]),
        {**node(), "metadata": {"name": "node1", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_a_node_that_goes_is_alive_but_gets_nothing_new(going: Obj) -> None:
    health = healthy()
    health.apply("MODIFIED", going)
    assert ask(health).code == 503
    assert json.loads(ask(health).body)["nodeEligible"] is False
    assert ask(health, "/livez").code == 200
    health.apply("MODIFIED", node())
    assert ask(health).code == 200


def test_any_other_taint_does_not_matter() -> None:
    assert ask(healthy(node(taints=[{"key": "dedicated", "effect": "NoSchedule"}]))).code == 200


def test_changes_that_do_not_get_into_force_make_a_node_unhealthy_after_a_while() -> None:
    health = healthy()
    health.queued(8, NOW)
    health.updated("node2", 8, NOW)
    assert ask(health, after=TIMEOUT - 1).code == 200
    assert [ask(health, path, after=TIMEOUT).code for path in ("/healthz", "/livez")] == [503, 503]
    assert "2026-01-01 12:00:00" in json.loads(ask(health, after=TIMEOUT).body)["lastUpdated"]
    assert ask(health, on="node2", after=TIMEOUT).code == 200
    health.updated("node1", 8, NOW + timedelta(seconds=TIMEOUT))
    assert ask(health, after=TIMEOUT + 1).code == 200


def test_catching_up_in_part_starts_the_patience_anew() -> None:
    health = healthy()
    health.queued(8, NOW)
    health.queued(9, NOW)
    health.updated("node1", 8, NOW + timedelta(seconds=TIMEOUT - 1))
    assert ask(health, after=TIMEOUT + 1).code == 200
    assert ask(health, after=2 * TIMEOUT).code == 503


def test_other_paths_are_not_found() -> None:
    assert ask(healthy(), "/").code == 404


def test_a_service_answers_by_the_ready_endpoints_of_the_node() -> None:
    health = healthy(
        service(),
        endpoint_slice(endpoint("10.244.1.2"), endpoint("10.244.1.3"), endpoint("10.244.3.2", "node3")),
    )
    assert local(health, "node1") == (200, 2)
    assert local(health, "node2") == (503, 0)
    assert json.loads(ask(health, port=CHECK).body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }


def test_a_terminating_endpoint_that_serves_does_not_count() -> None:
    ending = endpoint("10.244.1.2", ready=False, serving=True, terminating=True)
    assert local(healthy(service(), endpoint_slice(ending)), "node1") == (503, 0)


def test_an_endpoint_in_two_slices_counts_once() -> None:
    slices = [endpoint_slice(endpoint("10.244.1.2"), name=name) for name in ("web-1", "web-2")]
    health = healthy(service(), *slices)
    assert local(health, "node1") == (200, 1)
    health.apply("DELETED", slices[0])
    assert local(health, "node1") == (200, 1)
    health.apply("DELETED", slices[1])
    assert local(health, "node1") == (503, 0)


def test_local_endpoints_of_a_stuck_proxy_are_no_use() -> None:
    health = healthy(service(), endpoint_slice(endpoint("10.244.1.2")))
    health.queued(8, NOW)
    answer = ask(health, port=CHECK, after=TIMEOUT)
    assert answer.code == 503
    assert json.loads(answer.body)["serviceProxyHealthy"] is False


def test_a_service_is_listened_for_on_every_node_as_long_as_it_has_the_port() -> None:
    health = healthy(service())
    own = (PORT, METRICS_PORT)
    assert health.listeners() == {(name, port) for name in ("node1", "node2") for port in (*own, CHECK)}
    health.apply("MODIFIED", service(None))
    assert health.listeners() == {(name, port) for name in ("node1", "node2") for port in own}
    health.apply("MODIFIED", service(CHECK + 1))
    assert ("node1", CHECK + 1) in health.listeners()
    health.apply("DELETED", service(CHECK + 1))
    health.apply("DELETED", node("node2"))
    assert health.listeners() == {("node1", port) for port in own}


# -- the servers, with listeners of this test's own


class Served:
    """Node1 on a port of the loopback."""

    def __init__(self, *objects: Obj) -> None:
        self.health = healthy(*objects)
        self.health.apply("DELETED", node("node2"))
        self.ports: dict[tuple[str, int], int] = {}
        self.opened = threading.Condition()
        self.failures = 0
        self.servers = HealthServers(self.health, self.listen, now=lambda: NOW)
        self.thread = threading.Thread(target=self.servers.run)

    def listen(self, node: str, port: int) -> socket.socket:
        if self.failures:
            self.failures -= 1
            raise FileNotFoundError(f"/run/netns/{node}")
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        with self.opened:
            self.ports[node, port] = listener.getsockname()[1]
            self.opened.notify_all()
        return listener

    def at(self, port: int) -> tuple[str, int]:
        """Where to ask for it, once it is listened on."""
        with self.opened:
            assert self.opened.wait_for(lambda: ("node1", port) in self.ports, 5)
        return "127.0.0.1", self.ports["node1", port]

    def ask(self, request: bytes, port: int = PORT) -> bytes:
        with socket.create_connection(self.at(port), timeout=5) as connection:
            for part in request.partition(b" "):
                connection.sendall(part)
            return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    made.thread.start()
    yield made
    made.servers.stop()
    made.thread.join(5)
    assert not made.thread.is_alive()


def test_a_request_gets_its_answer_and_the_connection_ends(served: Served) -> None:
    head, _, body = served.ask(b"GET /healthz HTTP/1.1\r\nHost: node1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["nodeEligible"] is True


def test_what_is_no_request_is_answered_too(served: Served) -> None:
    assert served.ask(b"nonsense here\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert served.ask(b"GET /healthz HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_silent_asker_keeps_nobody_waiting(served: Served) -> None:
    with socket.create_connection(served.at(PORT)):
        assert served.ask(b"GET /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_new_health_check_node_port_is_listened_on(served: Served) -> None:
    served.at(PORT)
    served.health.apply("ADDED", service())
    served.servers.sync()
    answer = served.ask(b"GET /healthz HTTP/1.1\r\n\r\n", CHECK)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"X-Load-Balancing-Endpoint-Weight: 0\r\n" in answer


def test_a_listener_that_cannot_be_opened_is_tried_again(served: Served) -> None:
    served.at(PORT), served.at(METRICS_PORT)
    served.failures = 2
    served.health.apply("ADDED", service())
    served.servers.sync()
    assert served.ask(b"GET /healthz HTTP/1.1\r\n\r\n", CHECK).startswith(b"HTTP/1.1 503 ")
    assert served.failures == 0


def test_an_answer_is_http() -> None:
    answer = Answer(code=503, body="{}", headers={"X-Load-Balancing-Endpoint-Weight": "0"})
    head, _, body = encode(answer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n")
    assert b"X-Load-Balancing-Endpoint-Weight: 0\r\n" in head
    assert body == b"{}"
    assert encode(answer, head=True) == head + b"\r\n\r\n"
