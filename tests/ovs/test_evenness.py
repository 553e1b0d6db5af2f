"""Connections spread evenly, whatever the number of endpoints; the figures stand in the pipeline document."""

from __future__ import annotations

import pytest

from tests.ovs.evenness import COUNTS, Bench, chi_square_tail
from tests.ovs.switch import DummySwitch


@pytest.fixture(scope="module")
def bench(switch: DummySwitch) -> Bench:
    return Bench(switch)


@pytest.mark.parametrize("count", COUNTS)
def test_connections_spread_evenly(bench: Bench, count: int) -> None:
    spread = bench.spread(count)
    assert sum(spread.counts) == (3000 if count > 32 else 2000)
    assert spread.p > 0.001, spread.counts


@pytest.mark.parametrize("count", COUNTS)
def test_connections_spread_as_evenly_in_ipv6(bench: Bench, count: int) -> None:
    bench.family = "IPv6"
    try:
        spread = bench.spread(count)
    finally:
        bench.family = "IPv4"
    assert sum(spread.counts) == (3000 if count > 32 else 2000)
    assert spread.p > 0.001, spread.counts


@pytest.mark.parametrize("count", [count for count in COUNTS if count > 2])
def test_plain_dp_hash_would_not(bench: Bench, count: int) -> None:
    assert bench.spread(count, "dp_hash").p < 0.001


@pytest.mark.parametrize("count", [100, 250])
def test_with_many_endpoints_one_that_goes_moves_its_own_share_alone(bench: Bench, count: int) -> None:
    assert bench.moved(count) == 0


@pytest.mark.parametrize(
    ("square", "freedom", "p"), [(10.828, 1, 0.001), (27.877, 9, 0.001), (249.0, 249, 0.488), (0, 3, 1)]
)
def test_the_tail_of_chi_square_is_that_of_the_tables(square: float, freedom: int, p: float) -> None:
    assert chi_square_tail(square, freedom) == pytest.approx(p, rel=0.01)
