"""The pure parts of the DNS probe: which names are asked, what the messages are, what objects promise."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from controller.api.errors import UsageError
from scenarios.probes import dns as probe
from scenarios.probes.dns_ask import Answer, Asker, Walk, check_name, decode, encode, walk
from scenarios.probes.dns_records import Promise, promises
from topo.images.resolver import ResolvConf

SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
POD = ResolvConf(nameservers=("10.96.0.10",), search=SEARCH, ndots=5)


class Known(Asker):
    """Answers from a table instead of a network; what is missing does not exist."""

    def ask(self, name: str, types: Sequence[str] = ("A", "AAAA")) -> list[Answer]:
        said = ANSWERS.get(name)
        records = tuple((type, data, 30) for type, data in said or ())
        rcode = "SERVFAIL" if name.startswith("broken.") else "NOERROR" if said is not None else "NXDOMAIN"
        return [
            Answer(
                name=name, type=type, rcode=rcode, records=tuple(r for r in records if r[0] == type), port=7
            )
            for type in types
        ]


ANSWERS: dict[str, list[tuple[str, str]]] = {
    "www.example.com.": [("A", "198.51.100.1")],
    "web.default.svc.cluster.local.": [("A", "10.96.1.1")],
    "half.default.svc.cluster.local.": [],
    "half.": [("A", "192.0.2.1")],
}
ASKER = Known(make_socket=lambda kind: socket.socket(), servers=POD.nameservers)


@pytest.mark.parametrize(
    ("name", "questions", "found"),
    [
        ("www.example.com", 8, "www.example.com."),
        ("www.example.com.", 2, "www.example.com."),
        ("web", 2, "web.default.svc.cluster.local."),
        ("web.default.svc.cluster.local", 8, ""),
        ("half", 8, "half."),
        ("nosuch", 8, ""),
        ("broken", 2, ""),
    ],
)
def test_a_name_costs_two_questions_for_each_domain_that_is_searched(
    name: str, questions: int, found: str
) -> None:
    if name == "web.default.svc.cluster.local":
        found = "web.default.svc.cluster.local."  # four dots are fewer than five: searched first, in vain
    done = walk(name, POD, ASKER)
    assert (done.questions, done.found) == (questions, found)


def test_with_enough_dots_the_name_itself_is_asked_first() -> None:
    conf = ResolvConf(nameservers=POD.nameservers, search=SEARCH, ndots=2)
    assert walk("www.example.com", conf, ASKER).questions == 2


def test_questions_that_were_under_way_at_once_count_once() -> None:
    def answer(name: str, port: int, ms: float) -> Answer:
        return Answer(name=name, type="A", rcode="NXDOMAIN", port=port, ms=ms)

    assert Walk(name="x", answers=(answer("a", 1, 2), answer("a", 1, 3), answer("b", 2, 5))).ms == 8


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["abcdefgh"] * 29)])
def test_what_dns_cannot_carry_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="no name that DNS could carry"):
        check_name(name)


def test_a_question_is_one_for_other_readers_too() -> None:
    read = dns.message.from_wire(encode("web.default.svc.cluster.local.", "SRV", 4711))
    assert read.id == 4711
    assert read.flags == dns.flags.RD
    assert [str(question) for question in read.question] == ["web.default.svc.cluster.local. IN SRV"]


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("A", "10.96.0.10"),
        ("AAAA", "fd00:10:96::a"),
        ("CNAME", "api.example.com."),
        ("PTR", "web.default.svc.cluster.local."),
        ("SRV", "0 100 53 kube-dns.kube-system.svc.cluster.local."),
    ],
)
def test_records_of_every_type_are_read(type: str, data: str) -> None:
    question = dns.message.make_query("x.test.", type)
    answer = dns.message.make_response(question)
    answer.answer.append(dns.rrset.from_text("x.test.", 30, "IN", type, data))
    assert decode(answer.to_wire()) == (question.id, "NOERROR", ((type, data, 30),))


def test_a_truncated_answer_and_an_absent_name_are_told_apart() -> None:
    answer = dns.message.make_response(dns.message.make_query("x.test.", "A"))
    answer.set_rcode(dns.rcode.NXDOMAIN)
    assert decode(answer.to_wire())[1:] == ("NXDOMAIN", ())
    answer.flags |= dns.flags.TC
    assert decode(answer.to_wire())[1] == "TRUNCATED"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}


HTTP = [{"name": "http", "port": 80, "protocol": "TCP"}]
SLICE = {
    "metadata": {
        "name": "db-x",
        "namespace": "shop",
        "labels": {"kubernetes.io/service-name": "db"},
    },
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 5432, "protocol": "TCP"}],
    "endpoints": [
        {"addresses": ["10.244.1.2"], "hostname": "db-0"},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": True}},
        {"addresses": ["10.244.1.4"], "conditions": {"ready": False}},
    ],
}
IN_SHOP = "shop.svc.cluster.local."


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        (
            [service("web", clusterIP="10.96.1.1", clusterIPs=["10.96.1.1", "fd00::1"], ports=HTTP)],
            {
                ("A", f"web.{IN_SHOP}"): {"10.96.1.1"},
                ("AAAA", f"web.{IN_SHOP}"): {"fd00::1"},
                ("PTR", "1.1.96.10.in-addr.arpa."): {f"web.{IN_SHOP}"},
                ("PTR", "1." + "0." * 27 + "0.0.d.f.ip6.arpa."): {f"web.{IN_SHOP}"},
                ("SRV", f"_http._tcp.web.{IN_SHOP}"): {f"80 web.{IN_SHOP}"},
            },
        ),
        (
            [service("out", type="ExternalName", externalName="api.example.com")],
            {("CNAME", f"out.{IN_SHOP}"): {"api.example.com."}},
        ),
        (
            [service("db", clusterIP="None", ports=HTTP)],
            {
                ("A", f"db.{IN_SHOP}"): {"10.244.1.2", "10.244.1.3"},
                ("AAAA", f"db.{IN_SHOP}"): set(),
                ("A", f"db-0.db.{IN_SHOP}"): {"10.244.1.2"},
                ("AAAA", f"db-0.db.{IN_SHOP}"): set(),
                ("A", f"10-244-1-3.db.{IN_SHOP}"): {"10.244.1.3"},
                ("AAAA", f"10-244-1-3.db.{IN_SHOP}"): set(),
                ("PTR", "2.1.244.10.in-addr.arpa."): {f"db-0.db.{IN_SHOP}"},
                ("PTR", "3.1.244.10.in-addr.arpa."): {f"10-244-1-3.db.{IN_SHOP}"},
                ("SRV", f"_http._tcp.db.{IN_SHOP}"): {
                    f"5432 db-0.db.{IN_SHOP}",
                    f"5432 10-244-1-3.db.{IN_SHOP}",
                },
            },
        ),
    ],
    ids=["ClusterIP", "ExternalName", "headless"],
)
def test_an_object_promises_the_specifications_records(
    services: list[dict[str, Any]], expected: dict[tuple[str, str], set[str]]
) -> None:
    found = {(p.type, p.name): set(p.data) for p in promises(services, [SLICE])}
    assert found.pop(("TXT", "dns-version.cluster.local.")) == {"1.1.0"}
    assert found == expected


def test_a_promise_is_kept_by_its_records_and_by_no_others() -> None:
    def answer(type: str, *data: str, rcode: str = "NOERROR") -> Answer:
        return Answer(name="x.", type=type, rcode=rcode, records=tuple((type, d, 30) for d in data))

    def promise(type: str, *data: str, at_least: bool = False) -> Promise:
        return Promise(name="x.", type=type, data=frozenset(data), because="", at_least=at_least)

    assert promise("A", "10.0.0.1").kept(answer("A", "10.0.0.1"))
    assert not promise("A", "10.0.0.1").kept(answer("A", "10.0.0.1", "10.0.0.2"))
    assert promise("PTR", "a.", at_least=True).kept(answer("PTR", "a.", "b."))
    assert promise("SRV", "53 a.").kept(answer("SRV", "0 50 53 a."))
    assert promise("AAAA").kept(answer("AAAA"))
    assert not promise("AAAA").kept(answer("AAAA", rcode="NXDOMAIN"))


def test_the_exit_status_needs_the_name_every_answer_and_every_record() -> None:
    good = {"walks": [{"found": "x."}], "latency": {"lost": 0}, "records": [{"ok": True}]}
    assert probe.is_right(good)
    for wrong in ({"walks": [{"found": ""}]}, {"latency": {"lost": 1}}, {"records": [{"ok": False}]}):
        assert not probe.is_right(good | wrong)
