"""UDP clients that keep their source port, while endpoints, Services and node ports come and go.

In both families; where IPv4 has localhost, IPv6 has the node's own address.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubeproxy_objects import both
from tests.ovs.world import Outcome, World

Obj = dict[str, Any]
PORT = 12345
pytestmark = pytest.mark.usefixtures("family")


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    world.switch.flush_conntrack()


def ask(world: World, sender: str, to: str, port: int) -> Outcome:
    if to == "localhost" and world.family == "IPv6":
        to = sender
    return world.connect(sender, to, port, "udp", PORT)


def set_ready(world: World, name: str, ready: bool) -> None:
    pod = world.objects["Pod", name]
    status = pod["status"] | {"conditions": [{"type": "Ready", "status": str(ready)}]}
    world.tell("MODIFIED", pod | {"status": status})
    world.update_slices()
    world.sync()


@pytest.mark.parametrize(
    ("sender", "to", "port"),
    [
        ("pod/bob", "svc/web", 80),
        ("node3", "svc/web", 80),
        ("client1", "node3", 30080),
        ("node3", "localhost", 30080),
        ("client1", "lb/lb@node3", 80),
        ("pod/bob", "ext/ext", 80),
        ("pod/alice", "svc/near", 80),
    ],
)
def test_a_client_leaves_an_endpoint_that_is_gone(world: World, sender: str, to: str, port: int) -> None:
    first = ask(world, sender, to, port).by
    others = {"web-0", "web-1"} - {first}
    set_ready(world, first, False)
    outcome = ask(world, sender, to, port)
    if to == "svc/near":
        assert outcome.kind == "dropped"
    else:
        assert {outcome.by} == others
    set_ready(world, first, True)


@pytest.mark.parametrize(("sender", "to", "port"), [("pod/bob", "svc/solo", 80), ("client1", "node3", 30081)])
def test_none_is_left_and_one_comes_back(world: World, sender: str, to: str, port: int) -> None:
    assert ask(world, sender, to, port).by == "solo-0"
    set_ready(world, "solo-0", False)
    assert ask(world, sender, to, port).kind == "refused"
    set_ready(world, "solo-0", True)
    assert ask(world, sender, to, port).by == "solo-0"


def test_a_deleted_service_is_not_served_and_a_new_one_is(world: World) -> None:
    service = world.objects["Service", "far"]
    assert ask(world, "pod/bob", "10.96.0.52", 80).by == "far-0"
    world.tell("DELETED", service)
    world.sync()
    assert ask(world, "pod/bob", "10.96.0.52", 80).kind == "dropped"
    world.tell("ADDED", service)
    world.update_slices()
    world.sync()
    assert ask(world, "pod/bob", "10.96.0.52", 80).by == "far-0"


def test_a_node_port_that_changed_is_refused_where_it_was(world: World) -> None:
    service = world.objects["Service", "far"]
    assert ask(world, "client1", "node3", 30082).by == "far-0"
    ports = [port | {"nodePort": 30182} for port in service["spec"]["ports"]]
    world.tell("MODIFIED", service | {"spec": service["spec"] | {"ports": ports}})
    world.sync()
    assert ask(world, "client1", "node3", 30082).kind == "refused"
    assert ask(world, "client1", "node3", 30182).by == "far-0"
    world.tell("MODIFIED", service)
    world.sync()


def test_a_client_that_asked_before_the_address_was_the_service_s_is_served(world: World) -> None:
    service = world.objects["Service", "far"]
    assert ask(world, "pod/bob", "192.0.2.99", 80).kind == "unreachable"
    world.tell("MODIFIED", service | {"spec": service["spec"] | {"externalIPs": both("192.0.2.99")}})
    world.sync()
    assert ask(world, "pod/bob", "192.0.2.99", 80).by == "far-0"
    world.tell("MODIFIED", service)
    world.sync()


def test_others_keep_their_connections(world: World) -> None:
    assert ask(world, "pod/alice", "svc/far", 80).by == "far-0"
    entries = [line for line in world.switch.conntrack() if world.resolve("svc/far") in line]
    set_ready(world, "web-0", False)
    set_ready(world, "web-0", True)
    assert entries
    assert set(entries) <= set(world.switch.conntrack())
