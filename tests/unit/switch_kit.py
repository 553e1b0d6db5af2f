"""A switch that answers when it is told to, the objects of one node, and a Switch over both.

Node node1 is 192.168.49.2 with pods 10.244.1.0/24; time is a number the tests choose.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from controller.api.wiring import DATAPATH_ID, HOST_INTERFACE, INTERFACE, UPLINK_INTERFACE
from controller.kubeproxy import openflow
from controller.kubeproxy.channel import (
    BarrierAnswered,
    Described,
)
from controller.kubeproxy.settings import Settings
from controller.kubeproxy.switch import Switch

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
