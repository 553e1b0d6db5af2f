"""Runs cases on a lab, one after the other: what became of each, and why not. Prints nothing.

No case runs longer than CASE_SECONDS (a slow one SLOW_SECONDS), and none begins after the budget is used
up: it is then not passed, as any case that could not run.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tests.conformance as here
from controller.api.errors import PodwireError
from tests.conformance.case import CASES, Case, NotThere
from tests.conformance.kit import Kit, await_dns
from tests.conformance.upstream import CASES as UPSTREAM
from tests.conformance.upstream import Upstream
from topo.config import ClusterConfig
from topo.lab import Lab

CLUSTER = ClusterConfig(nodes=5, clients=1, zones=("a", "a", "b", "b", "c"), cloud=True, ip_family="dual")
"""Five, because upstream's distribution cases want two zones of two nodes and one of one."""
CASE_SECONDS = 30
SLOW_SECONDS = 150
BUDGET = 240.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """``outcome``: passed or failed. ``reason``: one line.
    ``unnamed``: passed, but upstream asks by name as well and the lab has no DNS."""

    group: str
    name: str
    conformance: bool
    outcome: str
    reason: str = ""
    waits: bool = False
    unnamed: bool = False
    note: str = ""
    seconds: float = 0.0
    trace: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.name

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class OutOfTime(BaseException):
    """A case ran too long. No Exception, so that a case does not take it for an answer."""


def load() -> None:
    """Import every module of cases, so that they are entered."""
    for module in pkgutil.iter_modules(here.__path__):
        if module.name.startswith("cases_"):
            importlib.import_module(f"{here.__name__}.{module.name}")


def choose(patterns: Sequence[str]) -> list[Upstream]:
    """Upstream cases of which group and name contain every word of some pattern; all when there is none."""
    wanted = [pattern.lower().split() for pattern in patterns]
    return [
        case
        for case in UPSTREAM
        if not wanted or any(all(word in str(case).lower() for word in words) for words in wanted)
    ]


def run(
    chosen: Sequence[Upstream],
    *,
    budget: float = BUDGET,
    slow: bool = False,
    case_seconds: int = CASE_SECONDS,
    cluster: ClusterConfig = CLUSTER,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Try the cases on one lab. ``tell`` gets each result as it comes."""
    load()
    began = time.monotonic()
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        lab: Lab | None = None
        for number, upstream in enumerate(chosen):
            if upstream.group not in {group for group, _ in CASES} or _key(upstream) not in CASES:
                result = _result(upstream, outcome="failed", reason="no case is written for it yet")
            elif CASES[_key(upstream)].slow and not slow:
                result = _result(
                    upstream, outcome="failed", reason="not tried: it takes two minutes (--slow)"
                )
            elif time.monotonic() - began > budget:
                result = _result(upstream, outcome="failed", reason=f"{budget:.0f} s were over before")
            else:
                if lab is None:
                    lab = stack.enter_context(Lab(cluster))
                    await_dns(lab, case_seconds)
                result = attempt(lab, upstream, number, case_seconds)
            results.append(result)
            tell(result)
    return results


def attempt(lab: Lab, upstream: Upstream, number: int = 0, seconds: int = CASE_SECONDS) -> Result:
    """One case in a namespace of its own."""
    case = CASES[_key(upstream)]
    limit = max(SLOW_SECONDS, seconds) if case.slow else seconds
    began = time.monotonic()
    kit: Kit | None = None
    reason, trace, waits = "", "", False
    try:
        with _deadline(limit):
            kit = Kit(lab, f"conformance-{number}")
            case.function(kit, **case.args)
    except NotThere as error:
        reason, waits = f"waits for {error}", True
    except OutOfTime:
        reason, trace = f"did not end within {limit} s", traceback.format_exc()
    except Exception as error:
        reason, trace = _one_line(error), traceback.format_exc()
    try:
        if kit:
            kit.close()
    except PodwireError as error:
        reason = reason or f"what it made could not be taken away: {_one_line(error)}"
    return _result(
        upstream,
        outcome="failed" if reason else "passed",
        reason=reason,
        waits=waits,
        unnamed=bool(kit and kit.unnamed and not reason),
        note=_note(case),
        seconds=round(time.monotonic() - began, 2),
        trace=trace,
    )


@contextlib.contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _key(upstream: Upstream) -> tuple[str, str]:
    return upstream.group, upstream.name


def _note(case: Case) -> str:
    return " ".join(case.note.split())


def _result(upstream: Upstream, **more: Any) -> Result:
    return Result(group=upstream.group, name=upstream.name, conformance=upstream.conformance, **more)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not text:  # a bare assert says what it is by itself
        frames = traceback.extract_tb(error.__traceback__)
        text = (frames[-1].line if frames else "") or type(error).__name__
    if not isinstance(error, AssertionError | PodwireError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= 300 else text[:297] + "..."
