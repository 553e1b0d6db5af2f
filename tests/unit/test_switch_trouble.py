"""A switch that says nothing, or that refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.kubeproxy.channel import (
    Refused,
)
from controller.kubeproxy.settings import Settings
from controller.kubeproxy.switch import SwitchRefuses
from tests.unit.switch_kit import READ_EVERY, Bench


def hung_up_at(bench: Bench, late: float | None) -> None:
    assert late is not None
    bench.switch.work(late - 0.1)
    assert not bench.wire.hung_up
    bench.switch.work(late)
    assert bench.wire.hung_up


def test_a_switch_that_does_not_answer_is_hung_up():
    bench = Bench()
    late = bench.switch.work(0.0)
    assert late == 10.0
    hung_up_at(bench, late)


def test_a_large_change_may_take_longer_than_a_small_one():
    bench = Bench()
    bench.read()
    late = bench.switch.work(0.0)
    assert bench.wire.mods > 50
    assert late == pytest.approx(10.0 + 0.001 * bench.wire.mods)
    hung_up_at(bench, late)


def test_a_switch_that_goes_on_describing_may_take_its_time():
    bench = Bench()
    bench.switch.work(0.0)
    flows, *_ = bench.wire.descriptions(9.0)
    bench.switch.described(replace(flows, more=True))
    assert bench.switch.work(11.0) == 19.0
    hung_up_at(bench, 19.0)


def test_an_error_leads_to_a_pause_a_read_and_another_try_and_in_the_end_to_failure():
    bench = Bench()
    now = 0.0
    for pause in (*Settings().retry_after, None):
        bench.read(now)
        bench.wire.flows.clear()  # the bundle was atomic
        bench.switch.work(now)
        bench.wire.flows.clear()
        bench.switch.refused(Refused(channel=bench.wire, at=now, xid=1, error="BAD", data=bytes(16)))
        if pause is None:
            with pytest.raises(SwitchRefuses, match="node1: refused 5 times in a row"):
                bench.answer(now)
            return
        bench.answer(now)
        assert bench.versions == []
        assert bench.switch.work(now) == now + pause
        now += pause


def test_attempts_are_counted_anew_after_one_that_succeeded():
    bench = Bench()
    now = 0.0
    for _ in range(10):
        bench.read(now)
        bench.switch.work(now)
        bench.switch.refused(Refused(channel=bench.wire, at=now, xid=1, error="BAD", data=bytes(16)))
        bench.wire.flows.clear()
        bench.answer(now)
        now = bench.switch.work(now) or now
        bench.read(now)
        bench.switch.work(now)
        bench.answer(now)
        bench.wire.flows.clear()
        now += READ_EVERY
