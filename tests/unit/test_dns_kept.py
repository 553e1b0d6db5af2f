"""Answers that are kept: a change drops what depends on it, no answer outlives what it was made from.

The world: see tests/dns_rows.py. The server's own address is svc1's endpoint, so svc1 is its Service.
"""

from __future__ import annotations

from typing import Any

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.dns import wire
from controller.dns.corefile import DEFAULT, parse
from controller.dns.index import Index
from controller.dns.kept import Kept, Ready
from controller.dns.metrics import Metrics
from controller.dns.responder import Asked, Responder
from tests.dns_rows import OBJECTS, ROWS, endpoint, endpoint_slice, namespace, service

Obj = dict[str, Any]
OWN = "10.244.200.9"
COREFILE = """\
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods verified
        namespace_labels colour!=red
        labels hidden!=yes
        zonal
        ttl 30
    }
}
"""
HTTP = ("http", "TCP", 80)


def with_labels(obj: Obj, **labels: str) -> Obj:
    old = obj["metadata"]
    return {**obj, "metadata": {**old, "labels": {**old.get("labels", {}), **labels}}}


def pod(name: str, address: str) -> Obj:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "testns"},
        "status": {"phase": "Running", "podIP": address},
    }


VARIANTS: list[Obj] = [
    *OBJECTS,
    with_labels(namespace("testns"), colour="red"),
    with_labels(service("svc1", "10.96.10.1", HTTP), hidden="yes"),
    service("svc1", "10.96.10.2", HTTP),
    service("svc0", "10.96.10.1", ("other", "TCP", 81)),
    service("external", type="ExternalName", externalName="svc0.testns.svc.cluster.local"),
    service("dangling", type="ExternalName", externalName="hdls1.testns.svc.cluster.local"),
    service("hdls1", "10.96.10.4", HTTP),
    service("hdlsempty", "None", HTTP),
    endpoint_slice("svc1-a", "svc0", [endpoint(OWN, "ep1a")], HTTP),
    endpoint_slice("hdls1-a", "hdls1", [endpoint("10.244.200.2", zone="north")], HTTP),
    endpoint_slice("hdls1-b", "hdls1", [endpoint(OWN, "web-0")], HTTP),
    endpoint_slice("hdlsempty-a", "hdlsempty", [endpoint("10.244.200.30", "here")], HTTP),
    endpoint_slice("hdlsdual-a", "hdlsdual", [endpoint("10.244.200.40", zone="south")], HTTP),
    pod("one", "10.244.200.2"),
    pod("one", "10.244.200.3"),
    pod("two", "10.244.200.3"),
]
"""Some are other versions of others: same kind and name."""

QUESTIONS = [
    *{(row.name, row.type) for row in ROWS},
    *((f"{a}.pin._zone.hdls1.testns.svc.cluster.local.", "A") for a in ("east", "north", "south")),
    ("north.prefer._zone.hdls1.testns.svc.cluster.local.", "A"),
    ("10-244-200-2.testns.pod.cluster.local.", "A"),
    ("10-244-200-3.testns.pod.cluster.local.", "A"),
    ("cluster.local.", "NS"),
    ("cluster.local.", "SOA"),
    *((f"{n}.200.244.10.in-addr.arpa.", "PTR") for n in (2, 3, 5, 9, 30)),
]
PACKETS = [dns.message.make_query(name, type_, id=7).to_wire() for name, type_ in sorted(QUESTIONS)]


class Living:
    """A server that keeps answers while objects come and go; each change takes a second, and so a serial."""

    def __init__(self, own: str = OWN) -> None:
        self.now, self.own = 1000, own
        self.index = Index()
        self.server = self.made()

    def made(self) -> Responder:
        server = Responder(
            parse(COREFILE),
            self.index,
            Metrics(),
            own=[self.own],
            clock=lambda: self.now,
            say=lambda line: None,
        )
        server.synced = True
        return server

    def change(self, type_: str, obj: Obj) -> None:
        topics = self.index.apply(type_, obj)
        if topics:
            self.now += 1
            self.server.changed(topics)


def answer(server: Responder, packet: bytes) -> bytes:
    found = server.respond(packet, Asked())
    assert isinstance(found, bytes)
    return found


CHANGES = st.lists(st.tuples(st.sampled_from(["MODIFIED", "MODIFIED", "DELETED"]), st.sampled_from(VARIANTS)))


@given(changes=CHANGES)
def test_after_any_changes_what_is_kept_is_what_would_be_answered_afresh(
    changes: list[tuple[str, Obj]],
) -> None:
    living = Living()
    for obj in OBJECTS:
        living.change("ADDED", obj)
    for type_, obj in changes:
        for packet in PACKETS:
            answer(living.server, packet)
        living.change(type_, obj)
    fresh = living.made()
    for packet in PACKETS:
        assert answer(living.server, packet) == answer(fresh, packet), dns.message.from_wire(packet).question


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names whose answers are written anew."""
    written: list[str] = []
    real = wire.write

    def write(query: wire.Query, *args: Any, **options: Any) -> bytes:
        written.append(query.name[0])
        return real(query, *args, **options)

    monkeypatch.setattr(wire, "write", write)
    return written


def test_a_change_drops_only_what_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    living = Living(own="10.244.1.1")
    for obj in OBJECTS:
        living.change("ADDED", obj)
    names = ("svc1", "external", "hdls1", "svc2", "nobody")
    packets = [dns.message.make_query(f"{name}.testns.svc.cluster.local", "A").to_wire() for name in names]
    written = count_writes(monkeypatch)

    def again() -> list[str]:
        written.clear()
        for packet in packets:
            answer(living.server, packet)
        return sorted(written)

    assert again() == sorted(names)
    assert again() == []
    living.change("MODIFIED", service("svc1", "10.96.10.77", HTTP))
    assert again() == ["external", "svc1"]  # external is another name of svc1
    living.change("ADDED", endpoint_slice("hdls1-c", "hdls1", [endpoint("10.244.200.70")], HTTP))
    assert again() == ["hdls1"]
    living.change("ADDED", service("nobody", "10.96.10.78", HTTP))
    assert again() == ["nobody"]
    living.change("MODIFIED", with_labels(namespace("testns"), colour="red"))
    assert again() == sorted(names)
    living.change("ADDED", namespace("elsewhere"))
    assert again() == []


def test_a_server_that_is_known_by_another_address_drops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    living = Living()
    for obj in OBJECTS:
        living.change("ADDED", obj)
    packet = dns.message.make_query("svc2.testns.svc.cluster.local", "A").to_wire()
    written = count_writes(monkeypatch)
    answer(living.server, packet)
    living.change("MODIFIED", service("svc1", "10.96.10.77", HTTP))
    answer(living.server, packet)
    assert written == ["svc2", "svc2"]


def test_another_configuration_drops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    living = Living()
    packet = dns.message.make_query("svc1.testns.svc.cluster.local", "A").to_wire()
    answer(living.server, packet)
    written = count_writes(monkeypatch)
    answer(living.server, packet)
    assert written == []
    living.server.configure(parse(DEFAULT))
    answer(living.server, packet)
    assert written == ["svc1"]


def ready(*topics: str) -> Ready:
    return Ready(topics=frozenset((topic,) for topic in topics), zone=".", responses=[b""])


def test_no_topic_remembers_what_is_kept_no_more() -> None:
    kept = Kept[int](4)
    for key in range(3):
        kept.put(key, ready("all", f"own {key}"))
    kept.forget([("own 1",)])
    assert [key for key in range(3) if kept.get(key)] == [0, 2]
    kept.put(1, ready("own 1"))
    kept.forget([("all",)])
    assert [key for key in range(3) if kept.get(key)] == [1]
    kept.forget([("own 0",), ("own 2",), ("nothing",), ("own 1",)])
    assert (len(kept), kept.topics) == (0, 0)


def test_one_more_than_it_may_keep_and_it_starts_anew() -> None:
    kept = Kept[int](3)
    for key in range(4):
        kept.put(key, ready("all", f"own {key}"))
    assert (len(kept), kept.topics) == (1, 2)
