"""Services of one family, of both in either order, and of both with half of what they need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubeproxy_objects import endpoint_object, slice_object
from tests.ovs.world import World
from tests.packets import Obj, service
from tests.packets_dual import dual, in_ipv6


def ipv6_alone(obj: Obj) -> Obj:
    address = in_ipv6(obj["spec"]["clusterIP"])
    more = {"clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv6"]}
    return obj | {"spec": obj["spec"] | more}


def ipv6_first(obj: Obj) -> Obj:
    spec = dual(obj)["spec"]
    addresses = spec["clusterIPs"][::-1]
    more = {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": ["IPv6", "IPv4"]}
    return obj | {"spec": spec | more}


SERVICES = [
    service("four", "10.96.0.80", 30180, app="web"),
    ipv6_alone(service("six", "10.96.0.81", 30181, app="web")),
    ipv6_first(service("turned", "10.96.0.82", 30182, app="web")),
    dual(service("half", "10.96.0.83", 30183, app="web")),
]
FENCED = dual(service("fenced4", "10.96.0.84", 30184, app="web", balancer="203.0.113.84"))
FENCED["spec"]["loadBalancerSourceRanges"] = ["10.244.1.0/24"]


@pytest.fixture(scope="module")
def dual_world(world: World) -> Iterator[World]:
    made = [*SERVICES, FENCED]
    world.add(made)
    world.tell("MODIFIED", slice_object("half", SERVICES[3]["spec"]["ports"], [], family="IPv6"))
    world.sync()
    yield world
    for obj in made:
        world.tell("DELETED", obj)
    world.sync()


ROWS = [
    ("svc/four", "10.96.0.80", 80, "answered", "dropped"),
    ("its NodePort", "node1", 30180, "answered", "refused"),
    ("svc/six", "10.96.0.81", 80, "dropped", "answered"),
    ("its NodePort", "node1", 30181, "refused", "answered"),
    ("svc/turned", "10.96.0.82", 80, "answered", "answered"),
    ("its NodePort", "node1", 30182, "answered", "answered"),
    ("svc/half", "10.96.0.83", 80, "answered", "refused"),
    ("its NodePort", "node3", 30183, "answered", "refused"),
    ("ranges of IPv4 alone leave IPv6 open", "203.0.113.84", 80, "dropped", "answered"),
]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(("name", "to", "port", "ipv4", "ipv6"), ROWS, ids=[f"{r[0]} {r[2]}" for r in ROWS])
def test_each_family_is_served_where_the_service_has_it(
    dual_world: World, protocol: str, name: str, to: str, port: int, ipv4: str, ipv6: str
) -> None:
    dual_world.switch.flush_conntrack()
    for family, expect in (("IPv4", ipv4), ("IPv6", ipv6)):
        outcome = dual_world.connect("pod/bob", to, port, protocol, 10001, family=family)
        assert outcome.kind == expect, family


def test_a_service_that_gets_a_second_family_and_loses_it_is_served_so(dual_world: World) -> None:
    """UDP with one client port: what was tracked before does not stand in the way."""
    world, single = dual_world, SERVICES[0]
    far = [endpoint_object(world.host("pod/far-0").address, "node2")]

    def ask(family: str) -> str:
        return world.connect("pod/bob", "10.96.0.80", 80, "udp", 12345, family=family).kind

    for obj, ipv6 in ((dual(single), "answered"), (single, "dropped"), (dual(single), "answered")):
        world.tell("MODIFIED", obj)
        world.set_endpoints("four", far)
        world.sync()
        assert (ask("IPv4"), ask("IPv6")) == ("answered", ipv6)
    world.tell("MODIFIED", single)


def test_a_node_that_gets_ipv6_serves_it_and_one_that_loses_it_wants_nothing_of_it(dual_world: World) -> None:
    proxier = dual_world.proxiers["node1"]
    node = dual_world.objects["Node", "node1"]
    status = {"addresses": [a for a in node["status"]["addresses"] if ":" not in a["address"]]}
    before = dict(proxier.desired().flows)
    proxier.apply("MODIFIED", node | {"status": status})
    without = [str(flow) for flow in proxier.desired().flows.values()]
    assert without
    assert not [text for text in without if "ipv6" in text or "p6," in text or "fd00:" in text]
    proxier.apply("MODIFIED", node)
    assert dict(proxier.desired().flows) == before
