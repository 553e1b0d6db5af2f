"""Look at the wires, the flow counters and the conntrack table while something happens.

The one place of the lessons that reads the running lab's evidence; what it means is told by
``evidence``, ``names`` and ``result``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from controller.kubeproxy.explain import Connection as Remembered
from controller.kubeproxy.explain import explain_conntrack
from scenarios import flows
from scenarios.evidence import Connection, Journey, connections
from scenarios.names import Directory
from scenarios.packet import Endpoint, Packet, Tuple5, read

if TYPE_CHECKING:
    from controller.kubeproxy.explain import ExplainedFlow
    from topo.capture import Capture
    from topo.lab import Lab


@dataclass(kw_only=True)
class Seen:
    """Everything that was seen. Complete when the ``with`` block of ``watch`` has ended."""

    capture: Capture
    packets: list[Packet] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    remembered: list[Remembered] = field(default_factory=list)
    """The conntrack table of all nodes at the end."""
    flows: dict[str, list[ExplainedFlow]] = field(default_factory=dict)
    """By node: the flows that packets went through meanwhile, counting only those packets."""

    def to(self, address: str, port: int = 0, *, source_port: int = 0) -> Connection:
        """The first connection that a client opened to an address (and port)."""
        for connection in self.connections:
            asked = connection.asked
            if (
                asked.dst.address == address
                and port in (0, asked.dst.port)
                and source_port in (0, asked.src.port)
            ):
                return connection
        raise LookupError(f"no packet to {address}{f':{port}' if port else ''} was seen on any link")

    def by(self, source_port: int) -> Connection:
        """The first connection that a client opened from a port, wherever to."""
        for connection in self.connections:
            if connection.asked.src.port == source_port:
                return connection
        raise LookupError(f"no packet from port {source_port} was seen on any link")

    def all_to(self, address: str, port: int = 0) -> list[Connection]:
        return [
            c for c in self.connections if c.asked.dst.address == address and port in (0, c.asked.dst.port)
        ]

    @property
    def bad_checksums(self) -> list[Packet]:
        return [packet for packet in self.packets if packet.bad_checksums]


@contextmanager
def watch(lab: Lab, links: Sequence[str] = ()) -> Iterator[Seen]:
    """Record on the named links (none named: on all) until the block ends."""
    nodes = [node.name for node in lab.plan.nodes]
    lab.ovs.appctl("revalidator/purge")  # what passed before is counted before
    before = flows.read(lab.client, nodes)
    with lab.capture(*links) as capture:
        seen = Seen(capture=capture)
        yield seen
    seen.packets = [
        packet
        for frame in capture.packets
        if (
            packet := read(
                frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=frame.direction == "out"
            )
        )
    ]
    services, node_objects = (lab.client.list(kind)[0] for kind in ("Service", "Node"))
    seen.remembered = explain_conntrack(lab.ovs.appctl("dpctl/dump-conntrack"), services, node_objects)
    known = map(translation, seen.remembered)
    seen.connections = connections((p for p in seen.packets if not p.on_one_link), known)
    lab.ovs.appctl("revalidator/purge")
    seen.flows = flows.used(before, flows.read(lab.client, nodes))


def translation(entry: Remembered) -> tuple[Tuple5, Tuple5]:
    """What a conntrack entry does to the client's packets: the tuple before and after."""

    def line(src: str, dst: str) -> Tuple5:
        return Tuple5(entry.protocol.upper(), endpoint(src), endpoint(dst))

    return line(entry.client, entry.asked), line(entry.seen_as, entry.endpoint)


def endpoint(text: str) -> Endpoint:
    """``10.244.1.2:8080``, ``[fd00:10:244:1::2]:8080`` (or an address alone) as an Endpoint."""
    address, _, port = text.rpartition(":")
    if address.startswith("[") or (address and ":" not in address):
        return Endpoint(address.strip("[]"), int(port))
    return Endpoint(text, 0)


def annotated(seen: Seen, names: Directory) -> dict[object, str]:
    """A comment for every captured frame that begins or is translated: shown by Wireshark."""
    frames = {(frame.time_ns, frame.link): frame for frame in seen.capture.packets}
    comments: dict[object, str] = {}
    for connection in seen.connections:
        for journey in connection.journeys:
            for hop, text in zip(journey.hops, _texts(journey, names), strict=True):
                frame = frames.get((hop.time_ns, hop.link))
                if frame is not None and text:
                    comments[frame] = text
    return comments


def _texts(journey: Journey, names: Directory) -> Iterator[str]:
    yield names.between(journey.hops[0]) + (" (sent again)" if journey.again else "")
    for rewrites in journey.rewrites():
        yield "; ".join(f"{r.what} {r.before} ⇒ {r.after} ({names.who(r.after)})" for r in rewrites)


def write(seen: Seen, path: Path, names: Directory) -> Path:
    """The capture as pcapng, every packet saying who it is and what was translated."""
    return seen.capture.write(path, annotated(seen, names))  # type: ignore[arg-type]
