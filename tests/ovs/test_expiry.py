"""What happens as time goes by; the switch's clock is warped, so this module has a switch of its own."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from controller.kubeproxy import openflow
from controller.kubeproxy.explain import explain_flows
from controller.kubeproxy.readback import learned
from tests.ovs.switch import DummySwitch
from tests.ovs.world import World

in_both = pytest.mark.usefixtures("family")


@pytest.fixture(autouse=True)
def stopped(switch: DummySwitch) -> None:
    """No connections, and a clock that only ``warp`` moves."""
    switch.appctl("time/stop")
    switch.flush_conntrack()


@in_both
def test_connections_that_expired_unswept_do_not_end_the_switch(switch: DummySwitch, world: World) -> None:
    """A null translation did: conntrack then met its own entry for the replies (about one round in ten)."""
    targets = [
        ("node1", "pod/web-1", 8080),  # the node's own connection
        ("node1", "svc/web", 80),
        ("client1", "node2", 30086),  # a NodePort with the number of its hostNetwork endpoint's port
    ]
    for _ in range(40):
        for sender, host, number in targets:
            assert world.connect(sender, host, number, "udp", 10001).kind == "answered"
        switch.warp(61)


def answers(
    world: World, to: str, port: int, ports: range, sender: str = "pod/bob", protocol: str = "tcp"
) -> list[str]:
    outcomes = [world.connect(sender, to, port, protocol, source) for source in ports]
    assert {outcome.kind for outcome in outcomes} == {"answered"}
    return [outcome.by for outcome in outcomes]


def forget(world: World) -> None:
    """The switch has learned nothing: as after the Service is made anew."""
    for name in ("sticky", "stay"):
        service = world.objects["Service", name]
        world.tell("DELETED", service)
        world.sync()
        world.tell("ADDED", service)
    world.update_slices()
    world.sync()


@in_both
@pytest.mark.parametrize("sender", ["pod/bob", "node1", "pod/web-0"])
@pytest.mark.parametrize(("to", "port"), [("svc/sticky", 80), ("node3", 30070), ("svc/stay", 80)])
def test_a_client_stays_with_its_endpoint(world: World, sender: str, to: str, port: int) -> None:
    for protocol in ("tcp", "udp"):
        assert len(set(answers(world, to, port, range(10001, 10013), sender, protocol))) == 1


@in_both
def test_different_clients_of_a_node_may_have_different_endpoints(switch: DummySwitch, world: World) -> None:
    found = set()
    for turn in range(12):
        forget(world)
        found |= set(answers(world, "svc/sticky", 80, range(10001 + turn, 10002 + turn)))
    assert found == {"web-0", "web-1"}


@in_both
def test_each_connection_renews_the_time_and_without_one_it_ends(switch: DummySwitch, world: World) -> None:
    forget(world)
    (first,) = answers(world, "svc/sticky", 80, range(10001, 10002))
    for port in range(10002, 10014):
        switch.warp(60)
        assert answers(world, "svc/sticky", 80, range(port, port + 1)) == [first]
    after = set()
    for port in range(10014, 10034):
        switch.warp(105)
        after |= set(answers(world, "svc/sticky", 80, range(port, port + 1)))
    assert after == {"web-0", "web-1"}


@in_both
def test_a_timeout_longer_than_a_flow_can_have_lasts_as_long_as_the_endpoint(
    switch: DummySwitch, world: World
) -> None:
    (first,) = answers(world, "svc/stay", 80, range(10001, 10002))
    for port in range(10002, 10014):
        switch.warp(6 * 3600)
        assert answers(world, "svc/stay", 80, range(port, port + 1)) == [first]


@in_both
@pytest.mark.parametrize("to", ["svc/sticky", "svc/stay"])
def test_a_client_leaves_an_endpoint_that_goes_and_keeps_the_other(world: World, to: str) -> None:
    (first,) = set(answers(world, to, 80, range(10001, 10005)))
    (other,) = {"web-0", "web-1"} - {first}
    pod = world.objects["Pod", first]
    gone = pod | {"status": pod["status"] | {"conditions": [{"type": "Ready", "status": "False"}]}}
    world.tell("MODIFIED", gone)
    world.update_slices()
    world.sync()
    assert set(answers(world, to, 80, range(10005, 10010))) == {other}
    world.tell("MODIFIED", pod)
    world.update_slices()
    world.sync()
    assert set(answers(world, to, 80, range(10010, 10020))) == {other}


@in_both
def test_affinity_taken_away_and_given_back_is_obeyed(world: World) -> None:
    service = world.objects["Service", "sticky"]
    without = service | {"spec": {k: v for k, v in service["spec"].items() if not k.startswith("session")}}
    world.tell("MODIFIED", without)
    world.sync()
    assert set(answers(world, "svc/sticky", 80, range(10001, 10021))) == {"web-0", "web-1"}
    world.tell("MODIFIED", service)
    world.sync()
    assert len(set(answers(world, "svc/sticky", 80, range(10021, 10041)))) == 1


@in_both
def test_what_was_learned_is_not_taken_for_left_over(switch: DummySwitch, world: World) -> None:
    forget(world)
    answers(world, "svc/sticky", 80, range(10001, 10002))
    parts = switch.openflow("br-node3").ask(openflow.flow_stats_request(9))
    keys = [key for part in parts for key in openflow.decode_flow_stats(part)]
    assert [key for key in keys if learned(key)]
    assert {key for key in keys if not learned(key)} == set(world.proxiers["node3"].desired().flows)
    rows = explain_flows(world.dump("node3"), world.proxiers["node3"])
    assert {r.cause for r in rows if r.table == "SessionAffinity"} == {"Service default/sticky"}


def test_fragments_that_never_become_whole_are_forgotten(switch: DummySwitch, world: World) -> None:
    """Nothing of them comes out later, by whatever packet the switch uses to sweep."""
    for lost in (0, 1, 2):
        world.in_order = lambda pieces: [p for n, p in enumerate(pieces) if n != lost]  # noqa: B023
        assert world.connect("pod/bob", "svc/web", 80, "udp", 10001, 4000).kind == "dropped"
    world.in_order = list
    switch.warp(20)
    for sender, to, port in (("pod/bob", "svc/far", 80), ("client1", "node3", 30082)):
        before = len(world.trace)
        for source in range(10001, 10004):
            assert world.connect(sender, to, port, "udp", source, 4000).by == "far-0"
        ids = {p[IP].id for p in (Ether(data) for _, data in world.trace[before:]) if p[IP].frag}
        assert len(ids) == 3
