"""The pure parts of the probes: evenness, and the frames they send."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.packet import Endpoint, read
from scenarios.probes.evenness import evenness, survival
from scenarios.probes.kit import Probe, _target


# Critical values of the chi-square distribution, from the tables every statistics book has.
@pytest.mark.parametrize(
    ("chi_square", "freedom", "p"),
    [
        (3.841, 1, 0.05),
        (10.828, 1, 0.001),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (9.488, 4, 0.05),
        (18.307, 10, 0.05),
        (29.588, 10, 0.001),
        (123.225, 99, 0.05),
        (325.0, 249, 0.00084),
    ],
)
def test_p_is_what_the_tables_say(chi_square: float, freedom: int, p: float) -> None:
    assert survival(chi_square, freedom) == pytest.approx(p, rel=0.02)


def test_equal_counts_are_perfectly_even() -> None:
    assert evenness([50, 50, 50]) == (0.0, 2, 1.0)


def test_a_single_endpoint_is_always_even() -> None:
    assert evenness([7]).p == 1.0


def test_a_starved_endpoint_is_not_even() -> None:
    assert evenness([300, 300, 0]).p < 1e-12


def test_the_known_skew_of_dp_hash_over_three_endpoints_is_found() -> None:
    assert evenness([1125, 937, 938]).p < 0.001  # 37.5 / 31.25 / 31.25 %


def test_nothing_counted_is_no_evenness() -> None:
    with pytest.raises(ValueError, match="nothing was counted"):
        evenness([0, 0])


@given(st.lists(st.integers(min_value=0, max_value=10_000), min_size=1, max_size=300).filter(any))
def test_p_is_always_a_probability(counts: list[int]) -> None:
    result = evenness(counts)
    assert 0.0 <= result.p <= 1.0
    assert math.isfinite(result.chi_square)


def probe() -> Probe:
    return Probe(
        source="client1",
        address="198.51.100.11",
        mac="0a:58:c6:33:64:0b",
        gateway_mac="0a:58:a9:fe:01:02",
        netns=None,  # type: ignore[arg-type]
        target=Endpoint("192.168.49.2", 30000),
        service=None,
        links=(),
        names=None,  # type: ignore[arg-type]
        client=None,
    )


def test_every_connection_has_a_source_port_and_a_sequence_number_of_its_own() -> None:
    packets = [read(frame) for frame in probe().frames(range(20001, 20101), udp=False)]
    assert [p.src.port for p in packets if p] == list(range(20001, 20101))
    assert len({p.unchanged for p in packets if p}) == 100
    assert {(p.flags, p.mac_dst, p.bad_checksums) for p in packets if p} == {("SYN", "0a:58:a9:fe:01:02", ())}


def test_datagrams_can_be_told_apart_too() -> None:
    packets = [read(frame) for frame in probe().frames(range(1, 51), udp=True, payload=b"hostname\n")]
    assert len({p.unchanged for p in packets if p}) == 50
    assert {p.payload for p in packets if p} == {b"hostname\n"}


SERVICES = [
    {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30000}, {"port": 81}]},
    }
]


@pytest.mark.parametrize(
    ("word", "target"),
    [
        ("192.168.49.2:30000", ("192.168.49.2", 30000)),
        ("http://192.168.49.2:30000/", ("192.168.49.2", 30000)),
        ("http://192.168.49.2:30000/a/b?c", ("192.168.49.2", 30000)),
        ("[fd00:49::2]:30000", ("fd00:49::2", 30000)),
        ("http://[FD00:49::0:2]:30000/a", ("fd00:49::2", 30000)),
        ("web", ("10.96.0.7", 80)),
        ("default/web", ("10.96.0.7", 80)),
        ("web:81", ("10.96.0.7", 81)),
    ],
)
def test_a_target_is_an_address_a_url_or_a_service(word: str, target: tuple[str, int]) -> None:
    assert _target(word, SERVICES) == Endpoint(*target)


@pytest.mark.parametrize(
    "word", ["192.168.49.2", "192.168.49.2:0", "192.168.49.2:99999", "192.168.49.2:x", "[fd00::2]"]
)
def test_a_target_without_a_right_port_is_refused(word: str) -> None:
    with pytest.raises(Exception, match="a port is needed"):
        _target(word, SERVICES)


def test_an_unknown_service_is_not_found() -> None:
    with pytest.raises(Exception, match='services "nobody" not found'):
        _target("nobody", SERVICES)
