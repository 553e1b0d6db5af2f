"""The arithmetic of the benches' figures."""

from __future__ import annotations

from typing import Any

from tests.bench.figures import Aim, Figure, number, table


def figure(**changes: Any) -> Figure:
    values: dict[str, Any] = {
        "bench": "c",
        "name": "throughput",
        "unit": "Mbit/s",
        "samples": [90, 180, 95],
        "beside": "by address",
        "against": [100, 200, 100],
    }
    return Figure(**{**values, **changes})


def test_a_paired_ratio_is_the_median_of_neighbours() -> None:
    assert figure().ratio == 0.9


def test_an_unpaired_ratio_is_that_of_the_medians() -> None:
    assert figure(paired=False, against=[100]).ratio == 0.95


def test_an_aim_may_be_a_bound_below_or_above() -> None:
    assert Aim(of="ratio", bound=0.9, at_least=True).met(figure())
    assert not Aim(of="ratio", bound=0.91, at_least=True).met(figure())
    assert Aim(of="value", bound=95).met(figure())
    assert not Aim(of="value", bound=94).met(figure())


def test_one_missed_aim_is_a_miss_and_none_at_all_is_neither() -> None:
    assert figure(aims=[Aim(of="value", bound=95), Aim(of="ratio", bound=0.8)]).met is False
    assert figure().met is None


def test_the_table_has_a_line_for_each_figure_and_says_what_was_missed() -> None:
    text = table([figure(), figure(aims=[Aim(of="ratio", bound=0.95, at_least=True)])])
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[2].endswith(">= 0.95  no")


def test_numbers_keep_three_digits() -> None:
    assert number(3.14159, "s") == "3.14 s"
    assert number(31.4159, "ms") == "31.4 ms"
    assert number(12345.6, "/s") == "12,346 /s"
