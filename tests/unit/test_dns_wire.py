"""Packets in, packets out, without a socket: what a server block does with questions of every kind.

Upstreams are played by a function: 192.0.2.53 is asked for everything outside.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from controller.dns import forward
from controller.dns.corefile import DEFAULT, parse
from controller.dns.index import Index
from controller.dns.metrics import Metrics
from controller.dns.responder import Asked, Responder, Response
from tests.dns_rows import NODATA, OBJECTS, ROWS, Row, endpoint, endpoint_slice, service

COREFILE = DEFAULT.replace("/etc/resolv.conf", "192.0.2.53")


def responder(
    corefile: str = COREFILE,
    *more: dict[str, Any],
    synced: bool = True,
    clock: Callable[[], float] = lambda: 7.0,
) -> Responder:
    index = Index()
    for obj in (*OBJECTS, *more):
        index.apply("ADDED", obj)
    made = Responder(
        parse(corefile), index, Metrics(), own=["10.244.200.9"], clock=clock, say=lambda line: None
    )
    made.synced = synced
    return made


def query(name: str, type: str = "A", **options: Any) -> bytes:
    return dns.message.make_query(name, type, **options).to_wire()


def say(server: Responder, data: bytes, *, tcp: bool = False, port: int = 53) -> dns.message.Message:
    found = server.respond(data, Asked(port, tcp, ("10.244.1.9", 4242)))
    if not isinstance(found, bytes) and found is not None:
        found = asyncio.run(_wait(found))
    assert isinstance(found, bytes)
    return dns.message.from_wire(found)


async def _wait(found: Awaitable[Response]) -> Response:
    return await found


class World:
    """Everybody beyond the cluster: answers by name, and remembers who was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.dead: set[str] = set()

    async def answer(self, server: tuple[str, int], data: bytes) -> bytes:
        question = dns.message.from_wire(data)
        name, type_ = question.question[0].name.to_text(), question.question[0].rdtype
        self.asked.append((server[0], name))
        if server[0] in self.dead:
            raise OSError("unreachable")
        response = dns.message.make_response(question)
        response.flags |= dns.flags.RA
        if name.endswith("example.com.") and type_ == dns.rdatatype.A:
            response.answer = [dns.rrset.from_text(name, 300, "IN", "A", "198.51.100.1")]
        elif not name.endswith("example.com."):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(forward, "_by_udp", made.answer)
    monkeypatch.setattr(forward, "_by_tcp", made.answer)
    return made


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_every_row_crosses_the_wire(row: Row, tcp: bool) -> None:
    found = say(responder(), query(row.name, row.type), tcp=tcp)
    rcode = dns.rcode.to_text(found.rcode())
    assert (NODATA if rcode == "NOERROR" and not found.answer else rcode) == row.rcode
    assert sum(len(rrset) for rrset in found.answer) == len(row.answers)
    assert found.flags & dns.flags.AA
    if not found.answer:
        assert [rrset.rdtype for rrset in found.authority] == [dns.rdatatype.SOA]
        assert found.authority[0].ttl == 30


def test_a_change_is_answered_at_once_also_when_the_old_answer_was_kept() -> None:
    server = responder()
    name = "hdls1.testns.svc.cluster.local"
    assert sum(len(r) for r in say(server, query(name)).answer) == 4
    slice_ = endpoint_slice("hdls1-c", "hdls1", [endpoint("10.244.200.70")], ("http", "TCP", 80))
    server.index.apply("ADDED", slice_)
    server.changed()
    assert sum(len(r) for r in say(server, query(name)).answer) == 5


def test_addresses_come_in_every_order_from_the_kept_answers_too() -> None:
    random.seed(1)
    server, first = responder(), set()
    for _ in range(200):
        found = say(server, query("hdls1.testns.svc.cluster.local"))
        first.add(found.answer[0][0].to_text())
    assert first == {"10.244.200.2", "10.244.200.3", "10.244.200.4", "10.244.200.5"}


def test_without_loadbalance_the_order_stays() -> None:
    server = responder(COREFILE.replace("    loadbalance\n", ""))
    orders = {str(say(server, query("hdls1.testns.svc.cluster.local")).answer[0]) for _ in range(50)}
    assert len(orders) == 1


def test_kept_answers_carry_the_id_of_each_question() -> None:
    server = responder()
    for id_ in (1, 0xFFFF, 42):
        assert say(server, query("svc1.testns.svc.cluster.local", id=id_)).id == id_


def _many(count: int) -> list[dict[str, Any]]:
    endpoints = [endpoint(f"10.244.{100 + n // 200}.{n % 200 + 1}") for n in range(count)]
    return [service("many", "None"), endpoint_slice("many-a", "many", endpoints, ("http", "TCP", 80))]


@pytest.mark.parametrize(("options", "limit"), [({}, 512), ({"use_edns": 0, "payload": 1232}, 1232)])
def test_a_long_answer_is_cut_to_what_the_asker_takes_and_whole_over_tcp(
    options: dict[str, Any], limit: int
) -> None:
    server = responder(COREFILE, *_many(300))
    data = query("many.testns.svc.cluster.local", **options)
    raw = server.respond(data, Asked())
    assert isinstance(raw, bytes)
    assert limit - 40 < len(raw) <= limit
    cut = dns.message.from_wire(raw)
    assert cut.flags & dns.flags.TC
    assert (cut.edns == 0) == bool(options)
    whole = say(server, data, tcp=True)
    assert not whole.flags & dns.flags.TC
    assert sum(len(rrset) for rrset in whole.answer) == 300


def test_bufsize_limits_what_askers_ask_for() -> None:
    server = responder(COREFILE.replace("    ready\n", "    ready\n    bufsize 600\n"), *_many(300))
    raw = server.respond(query("many.testns.svc.cluster.local", use_edns=0, payload=4096), Asked())
    assert isinstance(raw, bytes)
    assert len(raw) <= 600


def test_edns_is_answered_with_edns_and_an_unknown_version_with_badvers() -> None:
    server = responder()
    found = say(server, query("svc1.testns.svc.cluster.local", use_edns=0, payload=1400, want_dnssec=True))
    assert (found.edns, bool(found.ednsflags & dns.flags.DO)) == (0, True)
    assert say(server, query("svc1.testns.svc.cluster.local")).edns == -1
    bad = say(server, query("svc1.testns.svc.cluster.local", use_edns=1))
    assert bad.rcode() == dns.rcode.BADVERS


def test_before_the_lists_are_in_everything_unknown_fails_and_nothing_of_that_is_kept() -> None:
    server = responder(synced=False)
    assert say(server, query("svc0.testns.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL
    server.synced = True
    assert say(server, query("svc0.testns.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN


def test_transfers_and_other_classes_are_refused() -> None:
    server = responder()
    for data in (query("cluster.local", "AXFR"), query("version.bind", "TXT", rdclass="CH")):
        assert say(server, data).rcode() == dns.rcode.REFUSED


def test_names_outside_are_asked_elsewhere_and_kept_for_their_time(world: World) -> None:
    now = [100.0]
    server = responder(clock=lambda: now[0])
    first = say(server, query("www.example.com"))
    assert (first.answer[0][0].to_text(), first.answer[0].ttl) == ("198.51.100.1", 300)
    assert not first.flags & dns.flags.AA
    now[0] += 10
    assert say(server, query("www.example.com")).answer[0].ttl == 20
    assert world.asked == [("192.0.2.53", "www.example.com.")]
    now[0] += 20
    assert say(server, query("www.example.com")).answer[0].ttl == 300
    assert len(world.asked) == 2


def test_cluster_names_are_never_asked_elsewhere_and_strange_reverse_names_are(world: World) -> None:
    server = responder()
    assert say(server, query("svc0.testns.svc.cluster.local")).rcode() == dns.rcode.NXDOMAIN
    assert world.asked == []
    assert say(server, query("8.8.8.8.in-addr.arpa", "PTR")).rcode() == dns.rcode.NXDOMAIN
    assert world.asked == [("192.0.2.53", "8.8.8.8.in-addr.arpa.")]


def test_an_external_name_brings_the_targets_address_along(world: World) -> None:
    external = service("web", type="ExternalName", externalName="www.example.com")
    found = say(responder(COREFILE, external), query("web.testns.svc.cluster.local"))
    assert [rrset.to_text() for rrset in found.answer] == [
        "web.testns.svc.cluster.local. 30 IN CNAME www.example.com.",
        "www.example.com. 300 IN A 198.51.100.1",
    ]


def test_when_nobody_outside_answers_it_is_a_failure(world: World) -> None:
    world.dead.add("192.0.2.53")
    server = responder()
    assert say(server, query("www.example.com")).rcode() == dns.rcode.SERVFAIL
    world.dead.clear()
    assert say(server, query("www.example.com")).rcode() == dns.rcode.NOERROR


def test_the_next_server_is_asked_when_one_is_dead(world: World) -> None:
    world.dead.add("192.0.2.1")
    stub = ". {\n forward . 192.0.2.1 192.0.2.53 {\n policy sequential\n }\n}"
    assert say(responder(stub), query("www.example.com")).rcode() == dns.rcode.NOERROR
    assert [server for server, _ in world.asked] == ["192.0.2.1", "192.0.2.53"]


def test_a_stub_domain_has_a_server_of_its_own(world: World) -> None:
    stub = COREFILE + "acme.example.com:53 {\n errors\n cache 30\n forward . 192.0.2.99:53\n}\n"
    server = responder(stub)
    say(server, query("db.acme.example.com"))
    say(server, query("www.example.com"))
    assert world.asked == [("192.0.2.99", "db.acme.example.com."), ("192.0.2.53", "www.example.com.")]


def test_nothing_is_forwarded_to_the_server_itself(world: World) -> None:
    server = responder(COREFILE.replace("192.0.2.53", "10.244.200.9"))
    assert say(server, query("www.example.com")).rcode() == dns.rcode.SERVFAIL
    assert world.asked == []


def test_a_name_no_block_serves_is_refused() -> None:
    server = responder("cluster.local {\n kubernetes\n}")
    assert say(server, query("www.example.com")).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (struct.pack("!6H", 7, 0, 0, 0, 0, 0), dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x2800, 1, 0, 0, 0), dns.rcode.NOTIMP),
        (struct.pack("!6H", 7, 0, 2, 0, 0, 0) + b"\0\0\1\0\1" * 2, dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x3f" + b"a" * 20, dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x3fa" * 2 + b"\0\0\1\0\1", dns.rcode.FORMERR),
    ],
    ids=["no question", "an update", "two questions", "a loop", "cut off", "lengths that lie"],
)
def test_what_is_no_question_is_told_so(packet: bytes, rcode: int) -> None:
    found = say(responder(), packet)
    assert (found.id, found.rcode()) == (7, rcode)


@pytest.mark.parametrize(
    "packet", [b"", b"\0" * 11, struct.pack("!6H", 7, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1"]
)
def test_what_cannot_be_answered_is_met_with_silence(packet: bytes) -> None:
    assert responder().respond(packet, Asked()) is None


def test_odd_bytes_and_the_longest_names_are_only_unknown_names() -> None:
    server = responder()
    for head in (b"\x03a.b", b"\x02\xff\x00", b"\x04a b\\", b"\x3f" + b"x" * 63):
        rest = b"\x06testns\x03svc\x07cluster\x05local\0\0\1\0\1"
        packet = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + head + rest
        assert say(server, packet).rcode() == dns.rcode.NXDOMAIN


def test_a_hundred_thousand_bad_packets_leave_a_server_that_answers(world: World) -> None:
    """Random bytes, bent questions, lying counters, loops of pointers, unknown types; none is a panic."""
    chance = random.Random(4)
    server = responder()
    seeds = [query(row.name, row.type) for row in ROWS]
    seeds += [
        query("svc1.testns.svc.cluster.local", type_, use_edns=0) for type_ in ("TYPE65280", "ANY", "HTTPS")
    ]
    answered = 0
    for _ in range(100_000):
        packet = _bend(chance, chance.choice(seeds))
        found = server.respond(packet, Asked(53, chance.random() < 0.5))
        if isinstance(found, bytes):
            answered += 1
            assert found[:2] == packet[:2]
            assert found[2] & 0x80
        elif found is not None:
            found.close()  # type: ignore[attr-defined]  # it would be asked elsewhere
    assert answered > 50_000
    assert "coredns_panics_total 0" in server.metrics.text()
    assert say(server, query("svc1.testns.svc.cluster.local")).answer[0][0].to_text() == "10.96.10.1"


def _bend(chance: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(80))
        case 1:
            for _ in range(chance.randrange(1, 5)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        case 2:
            del data[chance.randrange(len(data)) :]
        case 3:
            data += chance.randbytes(chance.randrange(1, 40))
            data[10:12] = chance.randbytes(2)
        case 4:  # a pointer somewhere in the name, to anywhere
            at = chance.randrange(12, len(data) - 4)
            data[at : at + 2] = bytes([0xC0 | chance.randrange(4), chance.randrange(256)])
        case 5:
            at = chance.randrange(4, 12)
            data[at] = chance.randrange(4)
    return bytes(data)


def test_metrics_have_coredns_names() -> None:
    server = responder()
    for _ in range(3):
        say(server, query("svc1.testns.svc.cluster.local"))
    text = server.metrics.text()
    where = 'server="dns://:53",zone="."'
    assert f'coredns_dns_requests_total{{{where},proto="udp",family="1",type="A"}} 3' in text
    assert f'coredns_dns_responses_total{{{where},rcode="NOERROR"}} 3' in text
    assert f'coredns_dns_request_duration_seconds_bucket{{{where},le="+Inf"}} 3' in text
