"""Names and records, without a wire: the table of tests/dns_rows.py and what configurations change.

The world: see tests/dns_rows.py. SOA serial 7.
"""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from controller.dns.index import Index
from controller.dns.names import Name, name_of, reverse_name, text_of
from controller.dns.records import Answer, Options, Record, answer
from tests.dns_rows import NODATA, NOERROR, NXDOMAIN, OBJECTS, ROWS, Row, endpoint, endpoint_slice, service

OPTIONS = Options(
    zones=(name_of("cluster.local"), name_of("in-addr.arpa"), name_of("ip6.arpa")), pods="insecure", ttl=30
)
KUBE_DNS = ip_address("10.96.10.2")  # as if svc2 were the server's own Service


def index_of(objects: list[dict[str, Any]]) -> Index:
    index = Index()
    for obj in objects:
        index.apply("ADDED", obj)
    return index


INDEX = index_of(OBJECTS)


def ask(name: str, type: str = "A", *, index: Index = INDEX, synced: bool = True, **options: Any) -> Answer:
    return answer(
        index, replace(OPTIONS, **options), name_of(name), type, serial=7, synced=synced, own=[KUBE_DNS]
    )


def line(record: Record, asked: Name) -> str:
    words = [text_of(word) if isinstance(word, tuple) else str(word) for word in record.data]
    if record.type == "TXT":
        words = [f'"{word}"' for word in words]
    if record.type == "SOA":
        words[2] = "*"
    owner = "" if record.name == asked else text_of(record.name) + " "
    return f"{owner}{record.type} {' '.join(words)}"


def outcome(found: Answer, asked: Name) -> tuple[str, tuple[str, ...]]:
    empty = found.rcode == NOERROR and not found.answers
    return NODATA if empty else found.rcode, tuple(sorted(line(record, asked) for record in found.answers))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says)
def test_every_row_is_answered_as_the_specification_says(row: Row) -> None:
    found = ask(row.name, row.type)
    assert outcome(found, name_of(row.name)) == (row.rcode, tuple(sorted(row.answers)))
    negative = not found.answers
    assert [record.type for record in found.authority] == ["SOA"] * negative


def test_answers_keep_the_case_of_the_question() -> None:
    found = ask("SVC1.testns.svc.CLUSTER.local")
    assert text_of(found.answers[0].name) == "SVC1.testns.svc.CLUSTER.local."


def test_srv_brings_the_addresses_of_its_targets_along() -> None:
    found = ask("_http._tcp.hdlsdual.testns.svc.cluster.local", "SRV")
    assert [line(record, ()) for record in found.extra] == [
        "both.hdlsdual.testns.svc.cluster.local. A 10.244.200.40",
        "both.hdlsdual.testns.svc.cluster.local. AAAA fd00::200:40",
    ]


def test_before_the_lists_are_in_a_missing_name_is_a_failure_and_a_known_one_is_answered() -> None:
    assert ask("svc0.testns.svc.cluster.local", synced=False).rcode == "SERVFAIL"
    assert ask("svc1.testns.svc.cluster.local", synced=False).rcode == NOERROR


def test_an_external_name_outside_is_followed_elsewhere() -> None:
    index = index_of([*OBJECTS, service("web", type="ExternalName", externalName="www.example.com")])
    found = ask("web.testns.svc.cluster.local", index=index)
    assert outcome(found, name_of("web.testns.svc.cluster.local"))[1] == ("CNAME www.example.com.",)
    assert found.follow == name_of("www.example.com")


def test_pods_are_unknown_when_disabled_and_must_exist_when_verified() -> None:
    name = "10-244-1-2.bare.pod.cluster.local"
    assert ask(name, pods="disabled").rcode == NXDOMAIN
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "bare"},
        "status": {"podIPs": [{"ip": "10.244.1.2"}]},
    }
    index = index_of([*OBJECTS, pod])
    assert ask(name, pods="verified", index=index).rcode == NOERROR
    assert ask(name, pods="verified").rcode == NXDOMAIN
    assert ask("10-244-1-2.testns.pod.cluster.local", pods="verified", index=index).rcode == NXDOMAIN
    index.apply("DELETED", pod)
    assert ask(name, pods="verified", index=index).rcode == NXDOMAIN


def test_empty_services_can_be_hidden() -> None:
    assert ask("svcempty.testns.svc.cluster.local", ignore_empty_service=True).rcode == NXDOMAIN
    assert ask("svc1.testns.svc.cluster.local", ignore_empty_service=True).rcode == NOERROR


def test_only_chosen_namespaces_and_labels_have_names() -> None:
    assert ask("svc1.testns.svc.cluster.local", namespaces=("bare",)).rcode == NXDOMAIN
    assert ask("1.10.96.10.in-addr.arpa", "PTR", namespaces=("bare",)).rcode == NXDOMAIN
    assert ask("svc1.testns.svc.cluster.local", labels="app=x").rcode == NXDOMAIN
    assert ask("svc1.testns.svc.cluster.local", namespace_labels="team=x").rcode == NXDOMAIN


def test_without_endpoints_headless_services_have_no_names() -> None:
    assert ask("hdls1.testns.svc.cluster.local", noendpoints=True).rcode == NXDOMAIN
    assert ask("5.200.244.10.in-addr.arpa", "PTR", noendpoints=True).rcode == NXDOMAIN


def test_endpoints_can_have_their_pods_names() -> None:
    of_pod = {**endpoint("10.244.200.50"), "targetRef": {"kind": "Pod", "name": "web-abc"}}
    index = index_of([*OBJECTS, endpoint_slice("hdls1-c", "hdls1", [of_pod], ("http", "TCP", 80))])
    name = "web-abc.hdls1.testns.svc.cluster.local"
    assert ask(name, index=index).rcode == NXDOMAIN
    assert ask(name, index=index, endpoint_pod_names=True).rcode == NOERROR


@pytest.mark.parametrize(
    ("name", "rcode", "addresses"),
    [
        ("east.pin._zone.hdls1", NOERROR, ("A 10.244.200.2",)),
        ("west.pin._zone.hdls1", NOERROR, ("A 10.244.200.3", "A 10.244.200.4")),
        ("far.pin._zone.hdls1", NODATA, ()),
        ("far.prefer._zone.hdlsports", NOERROR, ("A 10.244.200.20",)),
        ("moon.prefer._zone.hdls1", NXDOMAIN, ()),
        ("east.near._zone.hdls1", NXDOMAIN, ()),
        ("east.pin._zone.svc1", NXDOMAIN, ()),
    ],
)
def test_zonal_names_keep_to_a_zone_or_prefer_it(name: str, rcode: str, addresses: tuple[str, ...]) -> None:
    far = endpoint_slice("svc2-a", "svc2", [endpoint("10.244.200.60", zone="far")], ("http", "TCP", 80))
    whole = f"{name}.testns.svc.cluster.local"
    index = index_of([*OBJECTS, far])
    assert outcome(ask(whole, index=index, zonal=True), name_of(whole)) == (rcode, addresses)
    assert ask(whole, index=index).rcode == NXDOMAIN


def test_a_missing_reverse_name_falls_through_and_a_cluster_name_does_not() -> None:
    falls = (name_of("in-addr.arpa"), name_of("ip6.arpa"))
    assert ask("8.8.8.8.in-addr.arpa", "PTR", fallthrough=falls).fall_through
    assert not ask("svc0.testns.svc.cluster.local", fallthrough=falls).fall_through
    assert ask("svc0.testns.svc.cluster.local", fallthrough=()).fall_through


def test_the_zone_names_its_server() -> None:
    found = ask("cluster.local", "NS")
    assert [line(record, ()) for record in found.answers] == [
        "cluster.local. NS svc2.testns.svc.cluster.local."
    ]
    assert [line(record, ()) for record in found.extra] == ["svc2.testns.svc.cluster.local. A 10.96.10.2"]


def test_reverse_names_are_those_of_the_address() -> None:
    assert text_of(reverse_name("10.96.10.1")) == "1.10.96.10.in-addr.arpa."
    assert reverse_name("fd00::200:40") == name_of(
        "0.4.0.0.0.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
    )


def test_lived_through_any_order_of_events_equals_fresh() -> None:
    """Objects come, change and go in any order; every row is answered as from the final state."""
    for seed in range(30):
        chance = random.Random(seed)
        index = Index()
        held: list[dict[str, Any]] = []
        for obj in chance.sample(OBJECTS, len(OBJECTS)):
            other = {**obj, "endpoints": [endpoint("10.244.200.99")]} if "endpoints" in obj else obj
            index.apply("ADDED", chance.choice([obj, other]))
            held.append(obj)
            if chance.random() < 0.3:
                index.apply("DELETED", held.pop(chance.randrange(len(held))))
            if chance.random() < 0.3 and held:
                index.apply("MODIFIED", chance.choice(held))
        for obj in held:
            index.apply("MODIFIED", obj)
        fresh = index_of(held)
        for row in ROWS:
            assert outcome(ask(row.name, row.type, index=index), ()) == outcome(
                ask(row.name, row.type, index=fresh), ()
            ), (seed, row.says)


def test_a_change_that_changes_no_answer_is_told_from_one_that_does() -> None:
    index = index_of(OBJECTS)
    touched = {**OBJECTS[2], "metadata": {**OBJECTS[2]["metadata"], "annotations": {"a": "b"}}}
    assert not index.apply("MODIFIED", touched)
    assert index.apply("DELETED", OBJECTS[2])
