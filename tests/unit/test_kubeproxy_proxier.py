"""The proxier through whatever happens: it ends where a fresh one starts, and every step can be sent.

A model of the switch takes the messages: it refuses what a real one refuses, so a wrong order fails here.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api import wiring
from controller.kubeproxy import groups as kubeproxy_groups
from controller.kubeproxy import openflow
from controller.kubeproxy.actions import ToGroup
from controller.kubeproxy.diff import (
    AddFlow,
    AddGroup,
    DeleteFlow,
    DeleteGroup,
    Have,
    InsertBuckets,
    Message,
    ModifyGroup,
    RemoveBucket,
    after,
    applied,
    diff,
    messages,
)
from controller.kubeproxy.flow import Flow, Group, hash_bits
from controller.kubeproxy.groupids import GroupIds, group_hash
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.services import ServicePortName
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)
from tests.packets_dual import dual, in_ipv6

Obj = dict[str, Any]
Event = tuple[str, Obj] | dict[str, int] | None
"""A watch event, all ports of the bridge, or (None) someone who looks at what is desired so far."""

HTTP = port_object(80, 8080, "http")
DNS = port_object(53, 5353, "dns", "UDP")
HTTP_NODE_PORT = port_object(80, 8080, "http", node_port=30080)
ADDRESSES = ["10.244.1.2", "10.244.1.3", "10.244.2.2", "192.168.49.2", "192.168.49.3"]
PORTS = {"node1-host": 1, "node1-up": 2, "node1-p2": 3, "node1-p3": 4}


def few_bits(text: str) -> int:
    """A hash with so few values that group ids collide all the time; more than there can be names."""
    return 1 + hash_bits(text, 8)


class ModelSwitch:
    """What a switch would hold: flows by place, groups by id; it refuses what Open vSwitch refuses."""

    def __init__(self) -> None:
        self.flows: dict[tuple[int, int, str], Flow] = {}
        self.groups: dict[int, Group] = {}

    def take(self, sent: list[Message]) -> None:
        for message in sent:
            match message:
                case AddFlow(flow):
                    for action in flow.actions:
                        assert not isinstance(action, ToGroup) or action.group_id in self.groups, (
                            "no such group"
                        )
                    self.flows[flow.place] = flow
                case DeleteFlow(key):
                    self.flows = {
                        place: flow
                        for place, flow in self.flows.items()
                        if (flow.table.id, flow.cookie) != (key.table, key.cookie)
                    }
                case AddGroup(group):
                    assert group.group_id not in self.groups, "group exists"
                    self._refuse_parts_to_come(group)
                    self.groups[group.group_id] = group
                case ModifyGroup(group):
                    assert group.group_id in self.groups, "no such group"
                    self._refuse_parts_to_come(group)
                    self.groups[group.group_id] = group
                case DeleteGroup(group_id):
                    used = [f for f in self.flows.values() if ToGroup(group_id) in f.actions]
                    assert not used, f"Open vSwitch would delete {used} with the group"
                    del self.groups[group_id]
                case InsertBuckets() | RemoveBucket():
                    raise AssertionError("these groups are small")

    def _refuse_parts_to_come(self, group: Group) -> None:
        for bucket in group.buckets:
            for action in bucket.actions:
                assert not isinstance(action, ToGroup) or action.group_id in self.groups, "no such group"


def state(proxier: Proxier) -> tuple[list[bytes], list[bytes]]:
    """Everything desired, as bytes, sorted."""
    desired = proxier.desired()
    flows = sorted(openflow.encode(AddFlow(flow), 0) for flow in desired.flows.values())
    return flows, sorted(openflow.encode(AddGroup(group), 0) for group in desired.groups.values())


@st.composite
def services(draw: st.DrawFn) -> Obj:
    name = draw(st.sampled_from(["a", "b", "c"]))
    address = f"10.96.0.{draw(st.integers(10, 12))}"  # two Services may claim one address for a while
    ports = draw(st.sampled_from([[HTTP], [HTTP, DNS], [HTTP_NODE_PORT], [HTTP_NODE_PORT, DNS]]))
    more = draw(
        st.sampled_from([{}, {}, {}, {"clusterIP": "None"}, {"type": "ExternalName", "clusterIP": ""}])
    )
    made = service_object(name, address, *ports, **more)
    scheduler = draw(st.sampled_from(["", "", "", "rr", "lc", "sh", "fastest"]))
    made["metadata"]["annotations"] = {wiring.SCHEDULER: scheduler}
    family = draw(st.sampled_from(["IPv4", "dual", "dual", "IPv6"]))
    if family == "IPv4" or not made["spec"]["clusterIP"].startswith("10."):
        return made
    made = dual(made)
    if family == "IPv6":
        made["spec"] |= {"clusterIP": in_ipv6(address), "clusterIPs": [in_ipv6(address)]}
    return made


@st.composite
def slices(draw: st.DrawFn) -> Obj:
    name = draw(st.sampled_from(["a", "b", "c"]))
    addresses = draw(st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=4))
    endpoints = [
        endpoint_object(address, ready=draw(st.booleans()), terminating=draw(st.booleans()))
        | {"targetRef": {"kind": "Pod", "name": "pqr"[place % 3]}}
        for place, address in enumerate(addresses)
    ]
    ports = draw(st.sampled_from([[HTTP], [HTTP, DNS]]))
    family = draw(st.sampled_from(["IPv4", "IPv6"]))
    return slice_object(name, ports, endpoints, draw(st.sampled_from("xy")), family)


@st.composite
def pods(draw: st.DrawFn) -> Obj:
    k = draw(st.integers(2, 3))
    name, phase = draw(st.sampled_from(["p", "q"])), draw(st.sampled_from(["Running", "Running", "Failed"]))
    made = pod_object(
        name,
        draw(st.sampled_from(["node1", "node2"])),
        f"10.244.1.{k}",
        f"node1-p{k}",
        phase=phase,
        dual=draw(st.booleans()),
    )
    made["metadata"]["annotations"][wiring.WEIGHT] = draw(st.sampled_from(["1", "1", "0", "3", "heavy"]))
    return made


def nodes() -> st.SearchStrategy[Obj]:
    addresses = st.sampled_from(["", "192.168.49.77"])
    return st.builds(node_object, st.just("node1"), addresses, dual=st.sampled_from([True, True, False]))


def ports_of_the_bridge() -> st.SearchStrategy[dict[str, int]]:
    without = {name: port for name, port in PORTS.items() if name != "node1-p3"}
    return st.sampled_from([PORTS, PORTS | {"node1-p2": 9}, without, PORTS | {"node1-host": 7}])


BEGINNING: list[Event] = [
    ("ADDED", node_object("node1")),
    PORTS,
    ("ADDED", pod_object("p", "node1", "10.244.1.2", "node1-p2")),
    ("ADDED", service_object("a", "10.96.0.10", HTTP_NODE_PORT, DNS)),
    ("ADDED", slice_object("a", [HTTP, DNS], [endpoint_object(a) for a in ADDRESSES[:4]], "x")),
    ("ADDED", service_object("b", "10.96.0.11", HTTP, DNS)),
    ("ADDED", slice_object("b", [HTTP, DNS], [endpoint_object(a) for a in ADDRESSES[2:]], "x")),
    ("ADDED", service_object("c", "10.96.0.12", HTTP)),
]
DUAL_BEGINNING: list[Event] = [
    (event[0], obj) if isinstance(event, tuple) else event
    for event in BEGINNING
    for obj in (in_both_families([event[1]]) if isinstance(event, tuple) else [{}])
]


def histories() -> st.SearchStrategy[list[Event]]:
    objects = st.one_of(services(), slices(), slices(), pods(), nodes())
    event = st.tuples(st.sampled_from(["ADDED", "MODIFIED", "MODIFIED", "DELETED"]), objects)
    return st.lists(st.one_of(event, event, event, ports_of_the_bridge(), st.none()), max_size=25)


def remains(history: list[Event]) -> tuple[dict[tuple[str, str], Obj], dict[str, int]]:
    """The objects and ports that are there at the end."""
    objects: dict[tuple[str, str], Obj] = {}
    ports: dict[str, int] = {}
    for event in history:
        if isinstance(event, dict):
            ports = event
        if not isinstance(event, tuple):
            continue
        kind, obj = event
        key = obj["kind"], obj["metadata"]["name"]
        if kind == "DELETED":
            objects.pop(key, None)
        else:
            objects[key] = obj
    return objects, ports


def live(proxier: Proxier, history: list[Event]) -> None:
    """Tell the proxier all of it."""
    for event in history:
        if event is None:
            proxier.desired()
        elif isinstance(event, dict):
            proxier.set_ports(event)
        else:
            proxier.apply(*event)


@settings(max_examples=300)
@given(
    before=histories(),
    later=histories(),
    few=st.booleans(),
    small=st.booleans(),
    beginning=st.sampled_from([BEGINNING, DUAL_BEGINNING]),
)
def test_a_proxier_that_lived_through_anything_equals_a_fresh_one(
    before: list[Event], later: list[Event], few: bool, small: bool, beginning: list[Event]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if small:  # Services that need several groups are common
            patch.setattr(kubeproxy_groups, "LARGEST_GROUP", 2)
        live_through(before, later, few, beginning)


def live_through(before: list[Event], later: list[Event], few: bool, beginning: list[Event]) -> None:
    hash_of = few_bits if few else group_hash
    lived, switch, have = Proxier("node1", hash_of=hash_of), ModelSwitch(), Have()
    before = [*beginning, *before]
    for history in (before, later):
        live(lived, history)
        sent = messages(lived.changes(), have)
        switch.take(sent)
        applied(have, sent)
    fresh = Proxier("node1", hash_of=hash_of)
    objects, ports = remains(before + later)
    fresh.set_ports(ports)
    for obj in reversed(objects.values()):
        fresh.apply("ADDED", obj)
    assert state(lived) == state(fresh)
    assert lived.waiting() == fresh.waiting()
    assert lived.scheduled() == fresh.scheduled()
    desired = fresh.desired()
    assert {f.key for f in switch.flows.values()} == set(desired.flows)
    assert switch.groups == desired.groups
    assert diff(have, desired) == []


@settings(max_examples=100)
@given(first=histories(), second=histories())
def test_any_state_follows_any_other_by_one_diff(first: list[Event], second: list[Event]) -> None:
    switch, have = ModelSwitch(), Have()
    for history in (first, second):
        proxier = Proxier("node1")
        live(proxier, [("ADDED", node_object("node1", dual=True)), PORTS, *history])
        want = proxier.desired()
        switch.take(diff(have, want))
        have = after(have, want)
    assert {f.key for f in switch.flows.values()} == set(want.flows)
    assert switch.groups == want.groups


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefghijkl")), max_size=40))
def test_group_ids_do_not_depend_on_history(steps: list[tuple[bool, str]]) -> None:
    def name(letter: str) -> ServicePortName:
        return ServicePortName("default", letter, "", "TCP")

    def sixteen(text: str) -> int:
        return 1 + hash_bits(text, 8)

    lived, held = GroupIds(sixteen), set[str]()
    for add, letter in steps:
        (held.add if add else held.discard)(letter)
        (lived.add if add else lived.remove)(name(letter))
    fresh = GroupIds(sixteen)
    for letter in sorted(held):
        fresh.add(name(letter))
    ids = {letter: lived[name(letter)] for letter in held}
    assert ids == {letter: fresh[name(letter)] for letter in held}
    assert len(set(ids.values())) == len(held)


def cluster() -> Proxier:
    proxier = Proxier("node1")
    live(proxier, [
        ("ADDED", node_object("node1")), PORTS,
        ("ADDED", pod_object("p", "node1", "10.244.1.2", "node1-p2")),
        ("ADDED", service_object("a", "10.96.0.10", HTTP)),
        ("ADDED", slice_object("a", [HTTP], [endpoint_object("10.244.1.2"), endpoint_object("10.244.2.2")])),
    ])  # fmt: skip
    return proxier


def changed(proxier: Proxier, have: Have) -> list[str]:
    """The kinds of messages the last events cost."""
    sent = messages(proxier.changes(), have)
    applied(have, sent)
    return [type(m).__name__ for m in sent]


def settled(proxier: Proxier) -> Have:
    have = Have()
    applied(have, messages(proxier.changes(), have))
    return have


def test_one_more_endpoint_costs_a_group_and_its_own_flows() -> None:
    proxier = cluster()
    have = settled(proxier)
    more = [endpoint_object(a) for a in ("10.244.1.2", "10.244.2.2", "10.244.2.3")]
    proxier.apply("MODIFIED", slice_object("a", [HTTP], more))
    assert changed(proxier, have) == ["ModifyGroup", "AddFlow"]


def test_an_endpoint_of_two_services_lives_as_long_as_the_last_of_them() -> None:
    proxier = cluster()
    proxier.apply("ADDED", service_object("b", "10.96.0.11", HTTP))
    proxier.apply("ADDED", slice_object("b", [HTTP], [endpoint_object("10.244.1.2")]))
    have = settled(proxier)
    proxier.apply("DELETED", service_object("b", "10.96.0.11", HTTP))
    assert changed(proxier, have) == ["DeleteFlow", "DeleteFlow", "DeleteGroup"]
    assert any(f.table.name == "EndpointDNAT" and "10.244.1.2" in f.cause.name
               for f in proxier.desired().flows.values())  # fmt: skip


def test_an_event_that_changes_nothing_sends_nothing() -> None:
    proxier = cluster()
    have = settled(proxier)
    proxier.apply("MODIFIED", service_object("a", "10.96.0.10", HTTP))
    proxier.apply("MODIFIED", node_object("node1"))
    proxier.apply("MODIFIED", node_object("node2"))
    proxier.set_ports(PORTS)
    assert changed(proxier, have) == []


def test_the_last_endpoint_gone_means_refused_and_no_group() -> None:
    proxier = cluster()
    have = settled(proxier)
    proxier.apply("MODIFIED", slice_object("a", [HTTP], []))
    kinds = changed(proxier, have)
    assert kinds[0] == "AddFlow"
    assert kinds[-1] == "DeleteGroup"
    refused = [f for f in proxier.desired().flows.values() if "tp_dst=80" in f.match_text]
    assert [f.why for f in refused] == ["The Service has no endpoint: refused at once, not left to time out."]


def test_a_pod_whose_port_is_not_there_yet_is_waited_for_by_name() -> None:
    proxier = cluster()
    proxier.apply("ADDED", pod_object("late", "node1", "10.244.1.9", "node1-p9"))
    assert proxier.waiting() == ["no port node1-p9 on the bridge for pod default/late"]
    proxier.set_ports(PORTS | {"node1-p9": 12})
    assert proxier.waiting() == []


@pytest.mark.parametrize("missing", ["node", "ports"])
def test_without_its_node_it_says_so_and_wants_nothing(missing: str) -> None:
    proxier = Proxier("node1")
    if missing == "node":
        proxier.set_ports(PORTS)
        assert proxier.waiting() == ["no Node node1"]
    else:
        proxier.apply("ADDED", node_object("node1"))
        assert proxier.waiting() == [
            f"no port node1-{end} on the bridge of node node1" for end in ("host", "up")
        ]
    assert not proxier.desired().flows
