"""When a switch is read, sent to, waited for and reported; the switch itself is a few lines below.

Node node1 is 192.168.49.2 with pods 10.244.1.0/24; time is a number the tests choose.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.api.wiring import DATAPATH_ID, HOST_INTERFACE, INTERFACE, UPLINK_INTERFACE
from controller.kubeproxy import hub, openflow
from controller.kubeproxy.channel import (
    BarrierAnswered,
    Connected,
    Described,
    Disconnected,
    PortChanged,
    Refused,
)
from controller.kubeproxy.progress import Reporter
from controller.kubeproxy.switch import Settings, Switch, SwitchRefuses
from controller.kubeproxy.worker import Objects, Worker
from tests.kubeproxy_objects import endpoint_object, port_object, service_object, slice_object

Obj = dict[str, Any]
PORTS = {"node1-host": 1, "node1-up": 2, "node1-p2": 3}
READ_EVERY = 3.0


@dataclass(eq=False)
class Wire:
    """A channel and the switch behind it: flow-mods change ``flows``, requests are kept to be answered."""

    flows: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    """By table, priority and cookie: the instructions (what they say does not matter here)."""
    groups: dict[int, bytes] = field(default_factory=dict)
    """Its buckets, as they were sent."""
    barriers: list[int] = field(default_factory=list)
    asked: list[tuple[int, bool]] = field(default_factory=list)
    bundles: int = 0
    mods: int = 0
    flushes: int = 0
    reads: int = 0
    hung_up: bool = False

    def send(self, data: bytes) -> bool:
        messages, rest = openflow.split(data)
        assert rest == b""
        for message in messages:
            kind, xid = message[1], int.from_bytes(message[4:8], "big")
            if kind == openflow.OFPT_BARRIER_REQUEST:
                self.barriers.append(xid)
            elif kind == openflow.OFPT_MULTIPART_REQUEST:
                self.asked.append((xid, message[9] == openflow.OFPMP_GROUP_DESC))
            elif kind == openflow.OFPT_BUNDLE_CONTROL:
                self.bundles += message[13] == 0
            elif kind == openflow.OFPT_EXPERIMENTER:
                self.flushes += 1
            elif kind == openflow.OFPT_BUNDLE_ADD_MESSAGE:
                self.mods += 1
                self._mod(message[16:])
        return True

    def _mod(self, message: bytes) -> None:
        if message[1] == openflow.OFPT_GROUP_MOD:
            command, group = struct.unpack_from("!H2xI", message, 8)
            self.groups.pop(group, None)
            if command in (0, 1):
                (size,) = struct.unpack_from("!H", message, 16)
                self.groups[group] = message[24 : 24 + size]
            return
        cookie, _, table, command = struct.unpack_from("!QQBB", message, 8)
        if command == 0:
            self.flows[table, struct.unpack_from("!H", message, 30)[0], cookie] = b"as sent."
        else:
            self.flows = {k: v for k, v in self.flows.items() if (k[0], k[2]) != (table, cookie)}

    def hang_up(self) -> None:
        self.hung_up = True

    def expect(self, xid: int) -> None:
        pass

    def descriptions(self, at: float) -> list[Described]:
        """The answers to what was asked since the last time."""
        asked, self.asked = self.asked, []
        entry = struct.Struct("!HxxBxHHHHHQ")
        no_match, counted = struct.pack("!HH4x", 1, 4), struct.pack("!HHI", 0x8002, 8, self.reads)
        flows = b"".join(
            entry.pack(48, table, priority, 0, 0, 0, 0, cookie) + no_match + counted + instructions
            for (table, priority, cookie), instructions in self.flows.items()
        )
        self.reads += 1
        groups = b"".join(
            struct.pack("!HBxIH6x", 16 + len(buckets), 1, group, len(buckets)) + buckets
            for group, buckets in self.groups.items()
        )
        bodies = [(xid, bytes(16) + (groups if of_groups else flows)) for xid, of_groups in asked]
        return [Described(channel=self, at=at, xid=xid, message=body, more=False) for xid, body in bodies]


def node(datapath_id: int = 1) -> Obj:
    notes = {
        DATAPATH_ID: f"{datapath_id:016x}",
        HOST_INTERFACE: "node1-host",
        UPLINK_INTERFACE: "node1-up",
    }
    return {
        "kind": "Node",
        "metadata": {"name": "node1", "annotations": notes},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.49.2"}]},
    }


def pod(number: int) -> Obj:
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"pod{number}",
            "namespace": "default",
            "annotations": {INTERFACE: f"node1-p{number}"},
        },
        "spec": {"nodeName": "node1"},
        "status": {"phase": "Running", "podIP": f"10.244.1.{number}"},
    }


class Bench:
    """A Switch of node1 on a Wire; ``versions`` is what it reported."""

    def __init__(self, wire: Wire | None = None, ports: dict[str, int] = PORTS) -> None:
        self.wire = wire or Wire()
        self.versions: list[int] = []
        self.switch = Switch("node1", self.versions.append, settings=Settings(read_every=READ_EVERY))
        self.switch.apply("ADDED", node(), 0.0)
        self.switch.connected(self.wire, ports, 0.0)
        self.switch.synced(1)

    def read(self, now: float = 0.0) -> None:
        """Let it ask and answer it."""
        self.switch.work(now)
        for described in self.wire.descriptions(now):
            self.switch.described(described)

    def answer(self, now: float = 0.0) -> None:
        self.switch.barrier_answered(BarrierAnswered(channel=self.wire, at=now, xid=self.wire.barriers[-1]))

    def settled(self) -> Bench:
        self.read()
        self.switch.work(0.0)
        self.answer()
        self.switch.work(0.0)
        assert self.versions == [1]
        return self


def test_nothing_is_sent_before_the_objects_are_known():
    wire = Wire()
    switch = Switch("node1", print)
    switch.connected(wire, PORTS, 0.0)
    assert switch.work(0.0) is None
    assert not wire.asked
    assert not wire.bundles


def test_a_connected_switch_is_read_before_anything_is_sent():
    bench = Bench()
    bench.switch.work(0.0)
    assert len(bench.wire.asked) == 2
    assert bench.wire.bundles == 0
    bench.read()
    bench.switch.work(0.0)
    assert bench.wire.bundles == 1


def test_progress_is_reported_when_the_barrier_is_answered_and_not_before():
    bench = Bench()
    bench.read()
    bench.switch.work(0.0)
    assert bench.versions == []
    bench.answer()
    assert bench.versions == [1]


def test_what_happens_while_a_change_is_under_way_becomes_one_next_change():
    bench = Bench(ports=PORTS | {"node1-p4": 5, "node1-p5": 6}).settled()
    for number, version in ((2, 2), (4, 3), (5, 4)):
        bench.switch.apply("ADDED", pod(number), 0.0)
        bench.switch.synced(version)
        bench.switch.work(0.0)
    assert bench.wire.bundles == 2
    bench.answer()
    assert bench.versions == [1, 2]
    bench.switch.work(0.0)
    assert bench.wire.bundles == 3
    bench.answer()
    assert bench.versions == [1, 2, 4]


def test_a_switch_that_holds_all_of_it_gets_no_message():
    first = Bench().settled()
    again = Bench(first.wire)
    mods = again.wire.mods
    again.read()
    again.switch.work(0.0)
    assert again.wire.mods == mods > 0
    assert again.versions == [1]


def test_the_same_version_told_again_is_reported_again():
    bench = Bench().settled()
    bench.switch.synced(1)
    bench.switch.work(0.0)
    assert bench.versions == [1, 1]


def test_a_pod_without_its_port_holds_progress_back_until_the_port_comes():
    bench = Bench().settled()
    bench.switch.apply("ADDED", pod(7), 0.0)
    bench.switch.synced(2)
    bench.switch.work(0.0)
    assert bench.versions == [1]
    bench.switch.port_changed("node1-p7", 9, 0.0)
    bench.switch.work(0.0)
    bench.answer()
    assert bench.versions == [1, 2]


@pytest.mark.parametrize("release", ["the port comes", "time passes"])
def test_leftovers_stay_while_a_reconnected_switch_still_waits_for_a_port(release):
    with_pod = Bench()
    with_pod.switch.apply("ADDED", pod(2), 0.0)
    with_pod.settled()
    held = len(with_pod.wire.flows)
    with_pod.wire.flows[0, 1, 0xDEAD] = bytes(8)  # what an earlier life left over

    bench = Bench(with_pod.wire, {name: number for name, number in PORTS.items() if name != "node1-p2"})
    bench.switch.apply("ADDED", pod(2), 0.0)
    bench.read()
    bench.switch.work(0.0)
    assert len(bench.wire.flows) == held + 1
    assert bench.versions == []
    now = 0.0
    if release == "the port comes":
        bench.switch.port_changed("node1-p2", 3, now)
    else:
        now = 11.0
        bench.read(now)
    bench.switch.work(now)
    bench.answer(now)
    assert (0, 1, 0xDEAD) not in bench.wire.flows
    if release == "the port comes":
        assert len(bench.wire.flows) == held
        assert bench.versions == [1]


def test_a_flow_that_vanished_is_found_by_the_next_read_and_sent_again():
    bench = Bench().settled()
    key = next(iter(bench.wire.flows))
    del bench.wire.flows[key]
    assert bench.switch.work(READ_EVERY - 1) == READ_EVERY
    assert not bench.wire.asked
    bench.read(READ_EVERY)
    bench.switch.work(READ_EVERY)
    assert key in bench.wire.flows


def test_a_flow_that_was_altered_under_its_cookie_is_sent_again_and_no_other():
    bench = Bench().settled()
    bench.read(READ_EVERY)
    bench.switch.work(READ_EVERY)
    key, mods = next(iter(bench.wire.flows)), bench.wire.mods
    bench.read(2 * READ_EVERY)
    bench.switch.work(2 * READ_EVERY)
    assert bench.wire.mods == mods, "only what a flow counts has changed"
    bench.wire.flows[key] = b"altered."
    bench.read(3 * READ_EVERY)
    bench.switch.work(3 * READ_EVERY)
    assert bench.wire.flows[key] == b"as sent."
    assert bench.wire.mods == mods + 1


def test_reading_takes_no_more_than_a_fiftieth_of_the_time():
    bench = Bench()
    bench.switch.work(0.0)
    for described in bench.wire.descriptions(at=1.0):
        bench.switch.described(described)
    bench.switch.work(1.0)
    bench.answer(1.0)
    assert bench.switch.work(1.0) == 51.0


def test_a_switch_that_does_not_answer_is_hung_up():
    bench = Bench()
    bench.read()
    late = bench.switch.work(0.0)
    assert late == 10.0
    bench.switch.work(late - 0.1)
    assert not bench.wire.hung_up
    bench.switch.work(late)
    assert bench.wire.hung_up


def test_an_error_leads_to_a_pause_a_read_and_another_try_and_in_the_end_to_failure():
    bench = Bench()
    now = 0.0
    for pause in (*Settings().retry_after, None):
        bench.read(now)
        bench.wire.flows.clear()  # the bundle was atomic
        bench.switch.work(now)
        bench.wire.flows.clear()
        bench.switch.refused(Refused(channel=bench.wire, at=now, xid=1, error="BAD", data=bytes(16)))
        if pause is None:
            with pytest.raises(SwitchRefuses, match="node1: refused 5 times in a row"):
                bench.answer(now)
            return
        bench.answer(now)
        assert bench.versions == []
        assert bench.switch.work(now) == now + pause
        now += pause


def test_attempts_are_counted_anew_after_one_that_succeeded():
    bench = Bench()
    now = 0.0
    for _ in range(10):
        bench.read(now)
        bench.switch.work(now)
        bench.switch.refused(Refused(channel=bench.wire, at=now, xid=1, error="BAD", data=bytes(16)))
        bench.wire.flows.clear()
        bench.answer(now)
        now = bench.switch.work(now) or now
        bench.read(now)
        bench.switch.work(now)
        bench.answer(now)
        bench.wire.flows.clear()
        now += READ_EVERY


# the worker


@dataclass(frozen=True)
class Event:
    type: str
    obj: Obj


class Desk:
    """A Worker without its thread."""

    def __init__(self, **options: Any) -> None:
        self.reported: list[tuple[str, int]] = []
        self.worker = Worker(lambda name, version: self.reported.append((name, version)), **options)

    def hear(self, *heard: Any) -> None:
        for one in heard:
            self.worker._handle(one)
        self.worker.work(0.0)

    def objects(self, version: int, *events: Event) -> None:
        self.hear(Objects(events=events, resource_version=version, at=0.0))

    def connect(self, wire: Wire, datapath_id: int = 1) -> None:
        self.hear(Connected(channel=wire, at=0.0, datapath_id=datapath_id, ports=PORTS))

    def play(self, wire: Wire) -> None:
        """Answer everything until nothing is asked."""
        answered = len(wire.barriers)
        while wire.asked or len(wire.barriers) > answered:
            self.hear(*wire.descriptions(0.0))
            if len(wire.barriers) > answered:
                answered = len(wire.barriers)
                self.hear(BarrierAnswered(channel=wire, at=0.0, xid=wire.barriers[-1]))


def test_a_switch_without_a_node_waits_for_it_with_the_ports_it_has_by_then():
    desk, wire = Desk(), Wire()
    desk.objects(1)
    desk.connect(wire)
    desk.hear(PortChanged(channel=wire, at=0.0, name="node1-p5", number=8))
    assert not wire.asked
    desk.objects(2, Event("ADDED", pod(5)), Event("ADDED", node()))
    desk.play(wire)
    assert wire.flows
    assert desk.reported == [("node1", 2)]


def test_only_the_nodes_asked_for_are_served():
    desk, wire = Desk(nodes=["node2"]), Wire()
    desk.objects(1, Event("ADDED", node()))
    desk.connect(wire)
    assert not wire.asked


def test_words_of_a_connection_that_was_replaced_are_ignored():
    desk, old, new = Desk(), Wire(), Wire()
    desk.objects(1, Event("ADDED", node()))
    desk.connect(old)
    desk.play(old)
    desk.connect(new)
    desk.hear(Disconnected(channel=old, at=0.0))
    desk.hear(BarrierAnswered(channel=old, at=0.0, xid=old.barriers[-1]))
    desk.play(new)
    assert new.flows.keys() == old.flows.keys()


def test_a_node_whose_datapath_id_changes_moves_to_the_other_switch():
    desk, one, two = Desk(), Wire(), Wire()
    desk.objects(1, Event("ADDED", node()))
    desk.connect(one, 1)
    desk.connect(two, 2)
    desk.play(one)
    assert not two.asked
    desk.objects(2, Event("MODIFIED", node(datapath_id=2)))
    desk.play(two)
    assert two.flows
    assert desk.reported[-1] == ("node1", 2)


def test_a_node_whose_datapath_id_is_no_number_is_complained_about_and_ends_nothing(caplog):
    desk, wire = Desk(), Wire()
    broken = node()
    broken["metadata"]["annotations"][DATAPATH_ID] = "br0"
    desk.objects(1, Event("ADDED", broken))
    desk.connect(wire)
    assert not wire.asked
    assert "Node node1" in caplog.text
    desk.objects(2, Event("MODIFIED", node()))
    desk.play(wire)
    assert wire.flows


def test_a_deleted_node_leaves_its_switch_alone():
    desk, wire = Desk(), Wire()
    desk.objects(1, Event("ADDED", node()))
    desk.connect(wire)
    desk.play(wire)
    held = dict(wire.flows)
    desk.objects(2, Event("DELETED", node()))
    desk.objects(3, Event("ADDED", pod(2)))
    assert wire.flows == held


# the reporter


class Deaf:
    """A side channel that fails the first times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.told = failures, hub.Queue()

    def progress(self, component: str, resource_version: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("nobody there")
        self.told.put((component, resource_version))


def test_progress_is_told_later_when_the_api_server_is_away_and_only_the_newest():
    deaf = Deaf(failures=2)
    reporter = Reporter(deaf, longest_pause=0.01)
    for version in (1, 2, 3):
        reporter.report("node1", version)
    thread = hub.spawn(reporter.run)
    try:
        assert deaf.told.get(timeout=10) == ("kubeproxy/node1", 3)
        assert deaf.told.empty()
    finally:
        thread.kill()
        thread.wait()


def dns(address: str, *endpoints: str) -> list[Obj]:
    """A UDP Service over these endpoints."""
    port = port_object(53, 5353, protocol="UDP")
    return [
        service_object("dns", address, port),
        slice_object("dns", [port], [endpoint_object(one) for one in endpoints]),
    ]


def test_connections_to_an_endpoint_that_is_gone_are_forgotten_after_its_flows_and_then_reported():
    bench = Bench().settled()
    for version, endpoints in ((2, ("10.244.1.2", "10.244.2.2")), (3, ("10.244.2.2",))):
        for obj in dns("10.96.0.10", *endpoints):
            bench.switch.apply("ADDED" if version == 2 else "MODIFIED", obj, 0.0)
        bench.switch.synced(version)
        bench.switch.work(0.0)
        assert bench.wire.flushes == 0, "the flows first"
        bench.answer()
    assert bench.wire.flushes == 1
    assert bench.versions == [1, 2]
    bench.answer()
    assert bench.versions == [1, 2, 3]


def test_connections_are_forgotten_once_more_for_what_the_datapath_still_had_cached():
    bench = Bench().settled()
    for obj in dns("10.96.0.10", "10.244.2.2"):
        bench.switch.apply("ADDED", obj, 0.0)
    bench.switch.work(0.0)
    bench.answer()
    bench.switch.apply("DELETED", dns("10.96.0.10")[0], 0.0)
    bench.switch.work(0.0)
    for _ in range(2):
        bench.answer()
    assert bench.wire.flushes == 1
    assert bench.switch.work(0.1) == Settings().flush_again
    bench.switch.work(Settings().flush_again)
    assert bench.wire.flushes == 2
    bench.answer()
    assert bench.switch.work(1.0) == READ_EVERY
    assert bench.wire.flushes == 2


def test_a_switch_that_cannot_forget_connections_is_left_alone():
    bench = Bench().settled()
    for obj in dns("10.96.0.10", "10.244.2.2"):
        bench.switch.apply("ADDED", obj, 0.0)
    bench.switch.work(0.0)
    bench.answer()
    bench.switch.apply("DELETED", dns("10.96.0.10")[0], 0.0)
    bench.switch.synced(5)
    bench.switch.work(0.0)
    bench.answer()
    bench.switch.refused(Refused(channel=bench.wire, at=0.0, xid=9, error="BAD_EXPERIMENTER", data=b""))
    bench.answer()
    assert bench.versions[-1] == 5
