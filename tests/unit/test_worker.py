"""The one thread over all switches: which connection is whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.api.wiring import DATAPATH_ID
from controller.kubeproxy.channel import (
    BarrierAnswered,
    Connected,
    Disconnected,
    PortChanged,
)
from controller.kubeproxy.worker import Objects, Worker
from tests.unit.switch_kit import PORTS, Obj, Wire, node, pod


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
