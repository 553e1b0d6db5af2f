"""Our bytes in a real switch: what it then holds, read back; groups of any size."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from controller.api import wiring
from controller.kubeproxy import openflow
from controller.kubeproxy.diff import AddGroup, Have, applied, diff, messages
from controller.kubeproxy.flows_fragments import FRAGMENT_GROUP
from controller.kubeproxy.groups import LARGEST_GROUP
from controller.kubeproxy.pipeline import ENDPOINT_DNAT
from controller.kubeproxy.proxier import Proxier
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)
from tests.ovs.evenness import Spread
from tests.ovs.switch import DummySwitch, OpenFlowSocket, SwitchError
from tests.unit.test_kubeproxy_proxier import Event, histories, live

HTTP = port_object(80, 8080, "http", node_port=30080)
PORTS = {"node1-host": 1, "node1-up": 2, "node1-p2": 3, "node1-p3": 4}


@pytest.fixture(scope="module")
def bridge(switch: DummySwitch) -> OpenFlowSocket:
    switch.add_bridges({"br-node1": list(PORTS)})
    return switch.openflow("br-node1")


def read_back(bridge: OpenFlowSocket) -> Have:
    flows = {
        key for part in bridge.ask(openflow.flow_stats_request(1)) for key in openflow.decode_flow_stats(part)
    }
    parts = bridge.ask(openflow.group_desc_request(2))
    return Have(
        flows=flows, groups=dict(group for part in parts for group in openflow.decode_group_desc(part))
    )


def bring(bridge: OpenFlowSocket, proxier: Proxier) -> Have:
    """Make the switch hold what the proxier wants, whatever it holds now."""
    bridge.send(openflow.bundle(diff(read_back(bridge), proxier.desired()), 1, 1))
    return read_back(bridge)


def proxier_with(addresses: list[str], *, dual: bool = False) -> Proxier:
    """node1 with a pod and one Service over these endpoints."""
    proxier = Proxier("node1")
    proxier.set_ports(PORTS)
    objects = [
        node_object("node1"),
        pod_object("alice", "node1", "10.244.1.2", "node1-p2"),
        service_object("web", "10.96.0.50", HTTP),
        slice_object("web", [HTTP], [endpoint_object(address) for address in addresses]),
    ]
    for obj in in_both_families(objects) if dual else objects:
        proxier.apply("ADDED", obj)
    return proxier


def remote(count: int) -> list[str]:
    return [str(IPv4Address("10.244.2.2") + i) for i in range(count)]


@settings(max_examples=40)
@given(first=histories(), second=histories())
def test_a_switch_takes_every_change_and_then_holds_what_is_desired(
    bridge: OpenFlowSocket, first: list[Event], second: list[Event]
) -> None:
    proxier, have = Proxier("node1"), read_back(bridge)
    bridge.send(openflow.bundle(diff(have, proxier.desired()), 1, 1))
    have = read_back(bridge)
    assert (have.flows, have.groups) == (set(), {})
    live(proxier, [("ADDED", node_object("node1", dual=True)), PORTS])
    for history in (first, second):
        live(proxier, history)
        sent = messages(proxier.changes(), have)
        bridge.send(openflow.bundle(sent, 1, 1))
        applied(have, sent)
        assert read_back(bridge) == have
    assert diff(have, proxier.desired()) == []


def test_a_restarted_proxier_finds_nothing_to_send(bridge: OpenFlowSocket) -> None:
    bring(bridge, proxier_with(remote(3), dual=True))
    assert diff(read_back(bridge), proxier_with(remote(3), dual=True).desired()) == []


@pytest.mark.parametrize("count", [LARGEST_GROUP, 2 * LARGEST_GROUP])
def test_groups_of_ipv6_endpoints_are_as_large_and_read_back_whole(
    bridge: OpenFlowSocket, count: int
) -> None:
    """Their buckets are larger; one larger than 65,535 bytes in all would end ovs-vswitchd."""
    proxier = proxier_with(remote(count // 10), dual=True)
    for number in range(10):
        addresses = [f"fd00:10:244:2:{number}::{i:x}" for i in range(1, count // 10 + 1)]
        made = slice_object(
            "web", [HTTP], [endpoint_object(address) for address in addresses], f"six{number}"
        )
        proxier.apply("ADDED", made | {"addressType": "IPv6"})
    have = bring(bridge, proxier)
    assert sum(len(ids) for ids in have.groups.values()) > count
    assert diff(have, proxier.desired()) == []
    bring(bridge, proxier_with(remote(3)))


def test_flows_and_groups_removed_by_hand_come_back_and_nothing_else_is_touched(
    bridge: OpenFlowSocket, switch: DummySwitch
) -> None:
    proxier = proxier_with(remote(3), dual=True)
    whole = bring(bridge, proxier)
    switch.ovs.ofctl("del-groups", "br-node1")  # takes the flows that use it along
    switch.ovs.ofctl("del-flows", "br-node1", f"table={ENDPOINT_DNAT.id}")
    lost = read_back(bridge)
    assert len(whole.flows - lost.flows) > 2
    sent = diff(lost, proxier.desired())
    assert len(sent) == len(whole.flows - lost.flows) + len(whole.groups)
    assert bring(bridge, proxier) == whole


def test_flows_that_nobody_wants_are_deleted(bridge: OpenFlowSocket, switch: DummySwitch) -> None:
    proxier = proxier_with(remote(3))
    whole = bring(bridge, proxier)
    switch.ovs.ofctl("add-flow", "br-node1", "table=3,priority=7,cookie=0x99,ip,actions=drop")
    switch.ovs.ofctl("add-group", "br-node1", "group_id=9,type=select,bucket=bucket_id:1,actions=drop")
    assert len(diff(read_back(bridge), proxier.desired())) == 2
    assert bring(bridge, proxier) == whole


def test_a_bundle_with_one_bad_message_changes_nothing(bridge: OpenFlowSocket) -> None:
    whole = bring(bridge, proxier_with(remote(3)))
    proxier = proxier_with(remote(3))
    proxier.apply("ADDED", service_object("other", "10.96.0.51", port_object(81, 8080)))
    proxier.apply("ADDED", slice_object("other", [port_object(81, 8080)], [endpoint_object("10.244.2.2")]))
    flows_without_their_group = [m for m in diff(whole, proxier.desired()) if not isinstance(m, AddGroup)]
    with pytest.raises(SwitchError, match="OFPBAC_BAD_OUT_GROUP"):
        bridge.send(openflow.bundle(flows_without_their_group, 5, 1))
    assert read_back(bridge) == whole


@pytest.mark.parametrize("count", [LARGEST_GROUP, LARGEST_GROUP + 1, 5000])
def test_a_service_of_thousands_of_endpoints_is_whole_and_reaches_any_of_them(
    bridge: OpenFlowSocket, switch: DummySwitch, count: int
) -> None:
    """More buckets than a message holds are inserted, more than a group can be described with are several."""
    proxier = proxier_with(remote(count))
    have = bring(bridge, proxier)
    groups = {number: ids for number, ids in have.groups.items() if number != FRAGMENT_GROUP}
    parts = -(-count // LARGEST_GROUP)
    assert len(groups) == (parts + 1 if parts > 1 else 1)
    assert sum(map(len, groups.values())) == count + (parts if parts > 1 else 0)
    assert diff(have, proxier.desired()) == []
    chosen = [int(IPv4Address(a)) - int(IPv4Address("10.244.2.2")) for a in spread(switch, 400)]
    assert len(chosen) > 400 * 0.7
    assert {place * 8 // count for place in chosen} == set(range(8))
    assert bring(bridge, proxier_with(remote(3))).groups.keys() == {*proxier_groups(3), FRAGMENT_GROUP}


def proxier_groups(count: int) -> set[int]:
    return set(proxier_with(remote(count)).desired().groups) - {FRAGMENT_GROUP}


def test_endpoints_in_several_groups_share_as_evenly(bridge: OpenFlowSocket, switch: DummySwitch) -> None:
    bring(bridge, proxier_with(remote(2000)))
    counts = spread(switch, 4000)
    first = int(IPv4Address("10.244.2.2"))
    fifties = Counter((int(IPv4Address(a)) - first) * 50 // 2000 for a in counts.elements())
    assert Spread(tuple(fifties[n] for n in range(50))).p > 0.001


def spread(switch: DummySwitch, connections: int) -> Counter[str]:
    """How many of so many new connections each endpoint got; source ports are fixed, so always the same."""
    switch.flush_conntrack()
    switch.forget_megaflows()
    counts: Counter[str] = Counter()
    head = Ether(src=wiring.mac_of("10.244.1.2"), dst=wiring.GATEWAY_MAC) / IP(
        src="10.244.1.2", dst="10.96.0.50"
    )
    for source_port in range(20000, 20000 + connections):
        switch.receive("node1-p2", bytes(head / TCP(sport=source_port, dport=80, flags="S")))
    for frame in switch.sent("node1-up"):
        counts[str(IPv4Address(frame[30:34]))] += 1
    assert counts.total() == connections
    return counts
