"""The packet rows written down: which way each packet went and what became of it, datapath by datapath.

    python -m tests.vm.packets record user.json --datapath user
    python -m tests.vm.packets record kernel.json --datapath kernel
    python -m tests.vm.packets compare user.json kernel.json

``record --ip-family dual`` takes the rows in IPv6 instead.

The net tier asks whether the right pod answered. This asks more, that two datapaths send the same
packets: every link, direction, address, port, MAC, TTL, in both directions. Which endpoint a connection
meets is each datapath's own hash, so a row is tried until every endpoint was met, and compared endpoint by
endpoint. ``compare`` also takes the ``result.json`` of two runs of one lesson. It knows no expectation of
its own: what is right is for tests/packets.py to say.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from scenarios.evidence import Connection, Journey, connections
from scenarios.names import Directory
from scenarios.packet import Packet, read
from tests import command
from tests.net.test_packets import (
    _TO,
    MOST_CONNECTIONS,
    address_of,
    ask,
    failure,
    family_of,
    host,
    pod_named,
    routed,
    scene,
)
from tests.packets import ROWS, SCENE, Row
from tests.packets_dual import DUAL_SCENE, IPV6_ROWS
from topo import sandbox
from topo.config import IP_FAMILIES
from topo.lab import Lab
from topo.plan import FABRIC, FABRIC_ADDRESS, in_family

FIRST_PORT = 20000
"""Source ports are given out from here on, so that the same connection has the same number everywhere."""

Told = dict[str, Any]


class Sender:
    """A host whose sockets have the source ports we want (for ICMP: the echo identifier)."""

    def __init__(self, inner: Any, port: int) -> None:
        self.inner, self.port = inner, port

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        made: socket.socket = self.inner.socket(family, kind, proto)
        made.bind(("", self.port))
        return made


class Recorder:
    """One lab, and the rows' connections through it."""

    def __init__(self, lab: Lab, version: int) -> None:
        self.lab, self.version = lab, version
        self.port = FIRST_PORT
        objects = [obj for kind in ("Node", "Pod", "Service") for obj in lab.client.list(kind)[0]]
        hosts = {str(address): client.name for client in lab.plan.clients for address in client.addresses}
        hosts |= {str(in_family(FABRIC_ADDRESS, family)): FABRIC for family in lab.plan.families}
        self.names = Directory(objects, hosts)

    def row(self, row: Row) -> list[Told]:
        """Each different way a connection of this row went, sorted; several where several pods answer."""
        to = _TO.fullmatch(row.to)
        assert to, row.to
        word, _, via = to["host"].partition("@")
        sender, address = host(self.lab, row.sender), address_of(self.lab, word, self.version)
        ports: dict[int, str] = {}
        with routed(self.lab, address, via) if via else nullcontext(), self.lab.capture() as capture:
            for _ in range(MOST_CONNECTIONS):
                self.port += 1
                one = Sender(sender, self.port)
                if to["protocol"] == "icmp":
                    ports[self.port] = ping(one, address, wait=1 if row.expect == "dropped" else 10)
                elif isinstance(row.expect, str):
                    number = failure(one, address, int(to["port"]), to["protocol"])
                    ports[self.port] = os.strerror(number) if number else "answered"
                else:
                    ports[self.port] = (
                        f"answered by {pod_named(ask(one, address, int(to['port']), to['protocol'])[0], row)}"
                    )
                if isinstance(row.expect, str) or len(set(ports.values())) >= len(row.expect):
                    break
        packets = [
            read(frame.data, link=frame.link, time_ns=frame.time_ns, outgoing=frame.direction == "out")
            for frame in capture.packets
        ]
        found = [c for c in connections(p for p in packets if p) if c.asked.src.port in ports]
        told = [{"outcome": ports[c.asked.src.port], **self.tell(c)} for c in found]
        unique = {json.dumps(one, sort_keys=True) for one in told}
        return [json.loads(text) for text in sorted(unique)]

    def tell(self, connection: Connection) -> Told:
        told: Told = {"bad checksums": 0}
        for word, reply in (("there", False), ("back", True)):
            journeys = [journey for journey in connection.journeys if journey.reply == reply]
            told[word] = self.ways(connection, journeys)
            told["bad checksums"] += sum(bool(hop.bad_checksums) for j in journeys for hop in j.hops)
            # The first packet and those that end a connection early; the others depend on timing.
            flags = [journey.hops[0].flags for journey in journeys]
            told[f"{word}, flags"] = sorted(
                {flag for flag in flags if flag and ("SYN" in flag or "RST" in flag or not flag.isupper())}
            )
        return told

    def ways(self, connection: Connection, journeys: Sequence[Journey]) -> list[list[str]]:
        """The different ways. One that is part of another was under way when the capture ended, which stops
        link by link: what crosses then misses hops. (No packet can: each hop has one link to the next.)
        """
        all_ways = {tuple(self.hop(connection, packet) for packet in j.hops) for j in journeys}
        whole = [way for way in all_ways if not any(way != o and part_of(way, o) for o in all_ways)]
        return [list(way) for way in sorted(whole)]

    def hop(self, connection: Connection, packet: Packet) -> str:
        ends = [self.end(connection, end.address, end.port) for end in (packet.src, packet.dst)]
        macs = [self.mac(mac) for mac in (packet.mac_src, packet.mac_dst)]
        direction = "out of the bridge" if packet.place.outgoing else "into the bridge"
        return f"{packet.link} {direction}: {ends[0]} > {ends[1]}, ttl {packet.ttl}, {macs[0]} > {macs[1]}"

    def end(self, connection: Connection, address: str, port: int) -> str:
        word = "sender's port" if port == connection.asked.src.port else str(port)
        return f"{self.names.host(address)} ({word})"

    def mac(self, mac: str) -> str:
        octets = bytes.fromhex(mac.replace(":", ""))
        return self.names.host(str(IPv4Address(octets[2:]))) if octets[:2] == b"\x0a\x58" else mac


def part_of(way: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all hops of one stand in the other, in this order."""
    rest = iter(other)
    return all(hop in rest for hop in way)


def ping(sender: Sender, address: str, *, wait: float) -> str:
    version = ip_address(address).version
    protocol, request = (socket.IPPROTO_ICMP, 8) if version == 4 else (socket.IPPROTO_ICMPV6, 128)
    with sender.socket(family_of(address), socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(wait)
        sock.connect((address, 0))
        sock.send(struct.pack("!BBHHH", request, 0, 0, 0, 1) + b"podwire")
        with suppress(TimeoutError):
            return f"ICMP type {sock.recv(4096)[0]}"
    return "silence"


def record(file: Path, datapath: str, ip_family: str) -> int:
    dual = ip_family == "dual"
    with scene(datapath, ip_family, DUAL_SCENE if dual else SCENE) as lab:
        recorder = Recorder(lab, 6 if dual else 4)
        # Where each time the same one of several endpoints answers, each datapath has chosen its own.
        chosen = [row for row in (IPV6_ROWS if dual else ROWS) if "net" in row.tiers and not row.one]
        if dual:  # no NodePort: the refusal does not leave the sender
            chosen = [row for row in chosen if not row.to.startswith("localhost:")]
        rows: dict[str, list[Told]] = {}
        for row in chosen:
            try:
                rows[row.name] = recorder.row(row)
            except OSError as error:
                error.add_note(f"in the row '{row.name}', source port {recorder.port}")
                raise
        empty = [name for name, told in rows.items() if not told]
        assert not empty, f"no packet was seen of: {empty}"
        file.write_text(json.dumps({"datapath": lab.ovs.datapath, "rows": rows}, indent=2) + "\n")
        opened = recorder.port - FIRST_PORT
        print(f"{len(rows)} rows over the {lab.ovs.datapath} datapath, {opened} connections")
    return 0


def comparable(data: Told) -> dict[str, Any]:
    """What must be equal: the rows, or of a lesson its checks, commands and what was translated."""
    if "rows" in data:
        return dict(data["rows"])
    found: dict[str, Any] = {}
    for step in data["steps"]:
        events = []
        for event in step["events"]:
            if event["event"] == "check":
                events.append([event["name"], event["ok"]])
            elif event["event"] == "command":
                events.append(["command", event["status"]])
            elif event["event"] == "packets":
                for packet in event["packets"]:
                    rewrites = [rewrite["what"] for hop in packet["hops"] for rewrite in hop["rewrites"]]
                    events.append(["packet", packet["flags"], packet["reply"], rewrites])
        found[step["title"]] = events
    return found


def compare(one: Path, other: Path) -> int:
    left, right = (comparable(json.loads(file.read_text())) for file in (one, other))
    different = [name for name in left | right if left.get(name) != right.get(name)]
    for name in different:
        print(f"DIFFERENT: {name}")
        for file, side in ((one, left), (other, right)):
            print(f"  {file.name}: {json.dumps(side.get(name), indent=2)}")
    print(f"{one.name}, {other.name}: {len(left)} compared, {len(different)} different")
    return 1 if different or not left else 0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vm.packets", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("file", type=Path)
    recording.add_argument("--datapath", choices=("user", "kernel"), required=True)
    recording.add_argument("--ip-family", choices=IP_FAMILIES, default="ipv4")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("files", type=Path, nargs=2)
    options = parser.parse_args(argv)
    if options.verb == "record":
        file = options.file.absolute()
        sandbox.enter(
            lambda: record(file, options.datapath, options.ip_family), name=f"packets-{os.getpid()}"
        )
    return compare(*options.files)


if __name__ == "__main__":
    command.end(main)
