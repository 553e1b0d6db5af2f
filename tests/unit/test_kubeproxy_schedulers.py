"""What each scheduler chooses, as IPVS would: patterns by hand, and what holds for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.kubeproxy.schedulers import (
    SCHEDULERS,
    Destination,
    cycle,
    read_scheduler,
    read_weight,
    schedule,
)

REACTIVE = [name for name, scheduler in SCHEDULERS.items() if scheduler.reactive]
weights = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def pattern(name: str, weights: Sequence[int], connections: int, *, ending: bool = False) -> str:
    """Who gets one connection after the other, as letters; they stay open unless ``ending``."""
    active = [0] * len(weights)
    letters = ""
    for turn in range(connections):
        destinations = [Destination(w, a) for w, a in zip(weights, active, strict=True)]
        place = schedule(SCHEDULERS[name], destinations, turn)
        assert place is not None
        active[place] += not ending
        letters += "ABCDEFGH"[place]
    return letters


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("rr", (1, 1, 1), "ABCABCABC"),
        ("rr", (5, 3, 1), "ABCABCABC"),
        ("wrr", (5, 3, 1), "AAABABABC"),
        ("wrr", (4, 3, 2), "AABABCABC"),
        ("wrr", (4, 2), "AABAAB"),
        ("lc", (1, 1, 1), "ABCABC"),
        ("lc", (5, 3, 1), "ABCABC"),
        ("wlc", (2, 1), "ABAABA"),
        ("wlc", (5, 3, 1), "ABCABAABA"),
        ("sed", (5, 3, 1), "ABAABAABC"),
        ("nq", (5, 3, 1), "ABCAABAAB"),
    ],
)
def test_connections_that_stay_open_are_given_in_this_order(
    name: str, weights: tuple[int, ...], expected: str
) -> None:
    assert pattern(name, weights, len(expected)) == expected


@pytest.mark.parametrize(("name", "expected"), [("lc", "AAAA"), ("wlc", "AAAA"), ("rr", "ABCA")])
def test_connections_that_end_at_once_do_not_count(name: str, expected: str) -> None:
    assert pattern(name, (1, 1, 1), 4, ending=True) == expected


@pytest.mark.parametrize("name", REACTIVE)
def test_a_weight_of_zero_takes_no_new_connections(name: str) -> None:
    assert set(pattern(name, (2, 0, 1), 12)) == {"A", "C"}
    assert schedule(SCHEDULERS[name], [Destination(0), Destination(0, 3)], 7) is None


@given(weights)
def test_a_round_gives_each_its_weight(weights: list[int]) -> None:
    order = cycle(tuple(weights))
    counts = Counter(order)
    assert all(counts[i] * sum(weights) == w * len(order) for i, w in enumerate(weights))


@given(weights.filter(any), st.integers(1, 60))
def test_open_connections_are_as_the_weights_say(weights: list[int], connections: int) -> None:
    counts = Counter(pattern("sed", weights, connections))
    for place, weight in enumerate(weights):
        share = connections * weight / sum(weights)
        assert abs(counts["ABCDEFGH"[place]] - share) <= len(weights)


def test_a_scheduler_is_read_from_its_annotation() -> None:
    assert read_scheduler(None) == (None, "")
    assert read_scheduler("wrr") == (SCHEDULERS["wrr"], "")
    assert read_scheduler("fastest") == (
        None,
        'there is no scheduler "fastest"; the default is used. '
        "There are rr, wrr, lc, wlc, sed, nq, sh, mh, dh",
    )


@pytest.mark.parametrize(("text", "weight"), [(None, 1), ("0", 0), ("5", 5), ("100", 100)])
def test_a_weight_is_read_from_its_annotation(text: str | None, weight: int) -> None:
    assert read_weight(text) == (weight, "")


@pytest.mark.parametrize("text", ["", "-1", "101", "two", "1.5", "²"])
def test_what_is_no_weight_counts_as_one_and_is_told(text: str) -> None:
    weight, wrong = read_weight(text)
    assert weight == 1
    assert wrong.startswith(f'"{text}" is no weight, whole numbers from 0')
