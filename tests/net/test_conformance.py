"""A handful of upstream's cases, one of each kind, and that the runner tells when one does not hold.

The whole list is ``./lab conformance``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import run as runner
from tests.conformance.case import CASES, Case, NotThere
from tests.conformance.kit import Kit
from tests.conformance.upstream import CASES as UPSTREAM
from tests.conformance.upstream import Upstream
from topo.lab import Lab

QUICK = (
    "Services: should serve a basic endpoint from pods",
    "Services: should preserve source pod IP for traffic thru service cluster IP [LinuxOnly]",
    "Services: should be rejected when no endpoints exist",
    "Services: should prevent NodePort collisions",
    "Services: should support named targetPorts that resolve to different ports on different endpoints",
    "EndpointSlice: should support a Service with multiple endpoint IPs specified in multiple EndpointSlices",
    "Conntrack: should be able to preserve UDP traffic when initial unready endpoints get ready",
    "Networking others: NoSNAT Should be able to send traffic between Pods without SNAT",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    runner.load()
    with Lab(runner.CLUSTER) as lab:
        yield lab


@pytest.mark.parametrize("name", QUICK)
def test_case(lab: Lab, name: str) -> None:
    number, upstream = next((n, one) for n, one in enumerate(UPSTREAM) if str(one) == name)
    result = runner.attempt(lab, upstream, number)
    assert result.outcome == "passed", result.trace


def test_a_case_that_does_not_hold_is_not_passed_and_leaves_nothing_behind(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(kit: Kit) -> None:
        service = kit.service("web")
        kit.pods("web", (1,))
        kit.reach(kit.client(2), service, {"web-2"})

    result = attempt(lab, monkeypatch, wrong)
    assert result.outcome == "failed"
    assert result.reason.endswith("web-1, not one of ['web-2']")
    assert lab.client.list("Pod", "conformance-999")[0] == []
    assert "conformance-999" not in {one["metadata"]["name"] for one in lab.client.list("Namespace")[0]}


def test_what_the_lab_lacks_is_not_passed_either(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(kit: Kit) -> None:
        raise NotThere("a thing")

    result = attempt(lab, monkeypatch, lacking)
    assert (result.outcome, result.reason, result.waits) == ("failed", "waits for a thing", True)


def test_a_case_that_hangs_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(kit: Kit) -> None:
        kit.until(lambda: False, "what never comes", timeout=60)

    result = attempt(lab, monkeypatch, hangs, seconds=1)
    assert (result.outcome, result.reason) == ("failed", "did not end within 1 s")


def attempt(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, function: object, seconds: int = runner.CASE_SECONDS
) -> runner.Result:
    upstream = Upstream(group="test", name="a case", conformance=False)
    made = Case(group="test", name="a case", function=function)  # type: ignore[arg-type]
    monkeypatch.setitem(CASES, ("test", "a case"), made)
    return runner.attempt(lab, upstream, 999, seconds)
