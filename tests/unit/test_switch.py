"""When a switch is read, sent to, waited for and reported."""

from __future__ import annotations

import pytest

from controller.kubeproxy.switch import Switch
from tests.unit.switch_kit import PORTS, READ_EVERY, Bench, Wire, pod


def test_nothing_is_sent_before_the_objects_are_known():
    wire = Wire()
    switch = Switch("node1", print)
    switch.connected(wire, PORTS, 0.0)
    assert switch.work(0.0) is None
    assert not wire.asked
    assert not wire.bundles


def test_a_connected_switch_is_read_before_anything_is_sent():
    bench = Bench()
    bench.switch.work(0.0)
    assert len(bench.wire.asked) == 2
    assert bench.wire.bundles == 0
    bench.read()
    bench.switch.work(0.0)
    assert bench.wire.bundles == 1


def test_progress_is_reported_when_the_barrier_is_answered_and_not_before():
    bench = Bench()
    bench.read()
    bench.switch.work(0.0)
    assert bench.versions == []
    bench.answer()
    assert bench.versions == [1]


def test_what_happens_while_a_change_is_under_way_becomes_one_next_change():
    bench = Bench(ports=PORTS | {"node1-p4": 5, "node1-p5": 6}).settled()
    for number, version in ((2, 2), (4, 3), (5, 4)):
        bench.switch.apply("ADDED", pod(number), 0.0)
        bench.switch.synced(version)
        bench.switch.work(0.0)
    assert bench.wire.bundles == 2
    bench.answer()
    assert bench.versions == [1, 2]
    bench.switch.work(0.0)
    assert bench.wire.bundles == 3
    bench.answer()
    assert bench.versions == [1, 2, 4]


def test_a_switch_that_holds_all_of_it_gets_no_message():
    first = Bench().settled()
    again = Bench(first.wire)
    mods = again.wire.mods
    again.read()
    again.switch.work(0.0)
    assert again.wire.mods == mods > 0
    assert again.versions == [1]


def test_the_same_version_told_again_is_reported_again():
    bench = Bench().settled()
    bench.switch.synced(1)
    bench.switch.work(0.0)
    assert bench.versions == [1, 1]


def test_a_pod_without_its_port_holds_progress_back_until_the_port_comes():
    bench = Bench().settled()
    bench.switch.apply("ADDED", pod(7), 0.0)
    bench.switch.synced(2)
    bench.switch.work(0.0)
    assert bench.versions == [1]
    bench.switch.port_changed("node1-p7", 9, 0.0)
    bench.switch.work(0.0)
    bench.answer()
    assert bench.versions == [1, 2]


@pytest.mark.parametrize("release", ["the port comes", "time passes"])
def test_leftovers_stay_while_a_reconnected_switch_still_waits_for_a_port(release):
    with_pod = Bench()
    with_pod.switch.apply("ADDED", pod(2), 0.0)
    with_pod.settled()
    held = len(with_pod.wire.flows)
    with_pod.wire.flows[0, 1, 0xDEAD] = bytes(8)  # what an earlier life left over

    bench = Bench(with_pod.wire, {name: number for name, number in PORTS.items() if name != "node1-p2"})
    bench.switch.apply("ADDED", pod(2), 0.0)
    bench.read()
    bench.switch.work(0.0)
    assert len(bench.wire.flows) == held + 1
    assert bench.versions == []
    now = 0.0
    if release == "the port comes":
        bench.switch.port_changed("node1-p2", 3, now)
    else:
        now = 11.0
        bench.read(now)
    bench.switch.work(now)
    bench.answer(now)
    assert (0, 1, 0xDEAD) not in bench.wire.flows
    if release == "the port comes":
        assert len(bench.wire.flows) == held
        assert bench.versions == [1]


def test_a_flow_that_vanished_is_found_by_the_next_read_and_sent_again():
    bench = Bench().settled()
    key = next(iter(bench.wire.flows))
    del bench.wire.flows[key]
    assert bench.switch.work(READ_EVERY - 1) == READ_EVERY
    assert not bench.wire.asked
    bench.read(READ_EVERY)
    bench.switch.work(READ_EVERY)
    assert key in bench.wire.flows


def test_a_flow_that_was_altered_under_its_cookie_is_sent_again_and_no_other():
    bench = Bench().settled()
    bench.read(READ_EVERY)
    bench.switch.work(READ_EVERY)
    key, mods = next(iter(bench.wire.flows)), bench.wire.mods
    bench.read(2 * READ_EVERY)
    bench.switch.work(2 * READ_EVERY)
    assert bench.wire.mods == mods, "only what a flow counts has changed"
    bench.wire.flows[key] = b"altered."
    bench.read(3 * READ_EVERY)
    bench.switch.work(3 * READ_EVERY)
    assert bench.wire.flows[key] == b"as sent."
    assert bench.wire.mods == mods + 1


def test_reading_takes_no_more_than_a_fiftieth_of_the_time():
    bench = Bench()
    bench.switch.work(0.0)
    for described in bench.wire.descriptions(at=1.0):
        bench.switch.described(described)
    bench.switch.work(1.0)
    bench.answer(1.0)
    assert bench.switch.work(1.0) == 51.0
