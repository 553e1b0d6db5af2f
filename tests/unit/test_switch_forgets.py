"""UDP connections that lead where they no longer should: when a switch is told to forget them."""

from __future__ import annotations

from controller.kubeproxy.channel import (
    Refused,
)
from controller.kubeproxy.settings import Settings
from tests.kubeproxy_objects import endpoint_object, port_object, service_object, slice_object
from tests.unit.switch_kit import READ_EVERY, Bench, Obj


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


def test_what_was_asked_of_an_endpoint_that_ends_it_may_answer_until_it_serves_no_more():
    bench = Bench().settled()
    port = port_object(53, 5353, protocol="UDP")
    bench.switch.apply("ADDED", service_object("dns", "10.96.0.10", port), 0.0)
    other, flushes = endpoint_object("10.244.2.2"), []
    for one in (
        endpoint_object("10.244.1.2"),
        endpoint_object("10.244.1.2", ready=False, serving=True, terminating=True),
        endpoint_object("10.244.1.2", ready=False, serving=False, terminating=True),
    ):
        bench.switch.apply("MODIFIED", slice_object("dns", [port], [one, other]), 0.0)
        bench.switch.work(0.0)
        bench.answer()
        flushes.append(bench.wire.flushes)
    assert flushes == [0, 0, 1]


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
