"""What the kubeproxy complains of, in which words, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import wiring
from controller.api.errors import Unreachable
from controller.kubeproxy.notices import Notices, complaint

Obj = dict[str, Any]


def made(kind: str, key: str, text: str) -> Obj:
    return {"kind": kind, "metadata": {"name": "web", "namespace": "default", "annotations": {key: text}}}


class Recorder:
    def __init__(self, error: Exception | None = None) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.error = error

    def event(
        self, involved: Obj, reason: str, message: str, *, type: str = "Normal", component: str
    ) -> None:
        if self.error:
            raise self.error
        self.events.append((involved["metadata"]["name"], reason, message))


def test_an_unknown_scheduler_is_named_with_those_there_are() -> None:
    assert complaint(made("Service", wiring.SCHEDULER, "lblc")) == (
        "UnknownScheduler",
        'annotation podwire.dev/scheduler: there is no scheduler "lblc"; the default is used. '
        "There are rr, wrr, lc, wlc, sed, nq, sh, mh, dh",
    )


def test_a_weight_that_is_none_is_named() -> None:
    assert complaint(made("Pod", wiring.WEIGHT, "heavy")) == (
        "InvalidWeight",
        'annotation podwire.dev/weight: "heavy" is no weight, whole numbers from 0 (no new connections) '
        "to 100 are; 1 is used",
    )


@pytest.mark.parametrize(
    "obj",
    [
        made("Service", wiring.SCHEDULER, "rr"),
        made("Service", wiring.WEIGHT, "heavy"),
        made("Pod", wiring.WEIGHT, "5"),
        made("Node", wiring.WEIGHT, "heavy"),
        {"kind": "Service", "metadata": {"name": "web"}},
    ],
)
def test_everything_else_is_fine(obj: Obj) -> None:
    assert complaint(obj) is None


def told(notices: Notices, *events: tuple[str, Obj]) -> int:
    for type, obj in events:
        notices.apply(type, obj)
    count = 0
    while not notices._inbox.empty():
        notices.tell(*notices._inbox.get())
        count += 1
    return count


def test_the_same_is_told_once_until_it_was_right_or_gone() -> None:
    recorder = Recorder()
    notices = Notices(recorder)
    wrong, right = made("Service", wiring.SCHEDULER, "x"), made("Service", wiring.SCHEDULER, "rr")
    assert told(notices, ("ADDED", wrong), ("MODIFIED", wrong)) == 1
    assert told(notices, ("MODIFIED", right), ("MODIFIED", wrong)) == 1
    assert told(notices, ("DELETED", wrong), ("ADDED", wrong)) == 1
    assert {event[:2] for event in recorder.events} == {("web", "UnknownScheduler")}


def test_a_server_that_is_away_ends_nothing() -> None:
    notices = Notices(Recorder(Unreachable("gone")))
    assert told(notices, ("ADDED", made("Service", wiring.SCHEDULER, "x"))) == 1
