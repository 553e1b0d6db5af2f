"""What a lesson found, as values, and the JSON it becomes (``--json``).

The schema, ``podwire.dev/lesson/v1``::

    {"schema": "podwire.dev/lesson/v1", "lesson": "nodeport", "ok": true, "seconds": 4.2,
     "lab": {"nodes": 3, "clients": 1, "datapath": "user", "controller": "os-ken",
             "ipFamily": "ipv4"},
     "steps": [{"title": "...", "events": [EVENT, ...]}, ...],
     "checks": [{"step": "...", "name": "...", "ok": true, "expected": "...", "seen": "..."}, ...],
     "captures": ["DIR/nodeport.pcapng"]}

    EVENT is one of
      {"event": "quote" | "text", "text": "..."}
      {"event": "command", "where": "client1", "command": "curl ...", "status": 0, "output": "..."}
      {"event": "packets", "title": "...", "packets": [{"flags": "SYN", "reply": false, "again": false,
          "ambiguous": false, "hops": [{"link", "outgoing", "ms", "src", "dst", "ttl", "who",
          "rewrites": [{"what": "DNAT", "before", "after", "who"}]}]}], "more": 6}
      {"event": "flows", "node": "node1",
          "flows": [{"table", "priority", "match", "actions", "packets", "because", "why"}]}
      {"event": "table", "columns": [...], "rows": [[...]]}
      {"event": "check", "name", "ok", "expected", "seen"}

Addresses are ``address:port``; ``ms`` counts from the connection's first packet; ``rewrites`` is
what was translated on the way to this hop. Names only ever get added within v1.
Nothing here prints, runs or knows a lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scenarios.evidence import Connection, Journey
from scenarios.names import Directory

SCHEMA = "podwire.dev/lesson/v1"


@dataclass(frozen=True, kw_only=True)
class Text:
    """``quote``: a sentence of the book the lesson follows; else a remark of the lesson itself."""

    text: str
    quote: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"event": "quote" if self.quote else "text", "text": self.text}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program that was really run, where, and what it said."""

    where: str
    command: str
    status: int
    output: str

    def as_json(self) -> dict[str, Any]:
        return {"event": "command"} | vars(self)


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One sighting, told: ``rewrites`` lists (what, before, after, who) of the step to here."""

    link: str
    outgoing: bool
    ms: float
    src: str
    dst: str
    ttl: int
    who: str
    rewrites: tuple[tuple[str, str, str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        words = ("what", "before", "after", "who")
        return vars(self) | {
            "rewrites": [dict(zip(words, rewrite, strict=True)) for rewrite in self.rewrites]
        }


@dataclass(frozen=True, kw_only=True)
class PacketStory:
    """One packet with its hops."""

    flags: str
    length: int
    reply: bool
    again: bool
    ambiguous: bool
    hops: tuple[Hop, ...]

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"hops": [hop.as_json() for hop in self.hops]}


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The packets of one connection that are worth a look; ``more`` were seen besides."""

    title: str
    packets: tuple[PacketStory, ...]
    more: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "event": "packets",
            "title": self.title,
            "packets": [packet.as_json() for packet in self.packets],
            "more": self.more,
        }


@dataclass(frozen=True, kw_only=True)
class FlowRow:
    """A flow that packets went through, and the Kubernetes object it is there for."""

    table: str
    priority: int
    match: str
    actions: str
    packets: int
    because: str
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Flows of one node's bridge."""

    node: str
    flows: tuple[FlowRow, ...]

    def as_json(self) -> dict[str, Any]:
        return {"event": "flows", "node": self.node, "flows": [flow.as_json() for flow in self.flows]}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows to be read side by side."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_json(self) -> dict[str, Any]:
        return {"event": "table", "columns": list(self.columns), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True, kw_only=True)
class Check:
    """A sentence that is true or not, with what was expected and what was seen."""

    name: str
    ok: bool
    expected: str
    seen: str

    def as_json(self) -> dict[str, Any]:
        return {"event": "check"} | vars(self)


Event = Text | Command | Packets | Flows | Table | Check


@dataclass(kw_only=True)
class Step:
    """A chapter of the lesson; events are added while it runs."""

    title: str
    events: list[Event] = field(default_factory=list)

    @property
    def checks(self) -> list[Check]:
        return [event for event in self.events if isinstance(event, Check)]


@dataclass(kw_only=True)
class Result:
    """Everything a lesson found."""

    lesson: str
    lab: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def checks(self) -> list[tuple[Step, Check]]:
        return [(step, check) for step in self.steps for check in step.checks]

    @property
    def ok(self) -> bool:
        """A lesson that checked nothing proved nothing."""
        return bool(self.checks) and all(check.ok for _, check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "lesson": self.lesson,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "lab": self.lab,
            "steps": [
                {"title": step.title, "events": [event.as_json() for event in step.events]}
                for step in self.steps
            ],
            "checks": [
                {"step": step.title} | {k: v for k, v in check.as_json().items() if k != "event"}
                for step, check in self.checks
            ],
            "captures": self.captures,
        }


def story(
    connection: Connection, names: Directory, *, title: str = "", only: Sequence[Journey] | None = None
) -> Packets:
    """A connection as an event: the packets that open it (``only``: these), with names beside addresses."""
    chosen = list(only) if only is not None else opening_packets(connection)
    start = connection.journeys[0].hops[0].time_ns
    return Packets(
        title=title or f"{connection.asked.protocol} {names.between(connection.opening.hops[0])}",
        packets=tuple(_packet(journey, start, names) for journey in chosen),
        more=len(connection.journeys) - len(chosen),
    )


def opening_packets(connection: Connection) -> list[Journey]:
    """The client's first packet and the first answer to it."""
    return [connection.opening, *connection.replies()[:1]]


def _packet(journey: Journey, start: int, names: Directory) -> PacketStory:
    first = journey.hops[0]
    steps = [[], *journey.rewrites()]
    return PacketStory(
        flags=first.flags,
        length=len(first.payload),
        reply=journey.reply,
        again=journey.again,
        ambiguous=bool(journey.doubts),
        hops=tuple(
            Hop(
                link=hop.link,
                outgoing=hop.place.outgoing,
                ms=round((hop.time_ns - start) / 1e6, 3),
                src=str(hop.src),
                dst=str(hop.dst),
                ttl=hop.ttl,
                who=names.between(hop),
                rewrites=tuple(
                    (r.what, str(r.before), str(r.after), f"{names.who(r.before)} ⇒ {names.who(r.after)}")
                    for r in rewrites
                ),
            )
            for hop, rewrites in zip(journey.hops, steps, strict=True)
        ),
    )
