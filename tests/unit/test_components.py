"""Processes of the lab: started, ready, dead, restarted. With tiny programs in place of the real ones."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from topo.components import Component, ComponentError

SERVE = "print('hello', flush=True); print('ready', flush=True); import signal; signal.pause()"
FAIL = "import sys; print('cannot bind the socket'); sys.exit(3)"


class Log:
    """Lines, and a way to wait for one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def wait(self, start: str) -> str:
        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(start)]

        with self._news:
            assert self._news.wait_for(lambda: bool(found()), 10), self.lines
            return found()[0]


Make = Callable[..., Component]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def make(tmp_path: Path, log: Log) -> Iterator[Make]:
    made: list[Component] = []

    def build(program: str, **options: object) -> Component:
        component = Component(
            "thing",
            [sys.executable, "-c", program],
            log_file=tmp_path / "log",
            log=log,
            **options,  # type: ignore[arg-type]
        )
        made.append(component)
        return component

    yield build
    for component in made:
        component.stop()
        component.join()


def test_a_component_is_ready_when_it_says_so_and_its_words_go_to_its_log(make: Make, tmp_path: Path) -> None:
    thing = make(SERVE)
    thing.start()
    thing.wait_ready(10)
    assert thing.alive
    assert (tmp_path / "log").read_text() == "hello\n"


def test_one_that_ends_while_starting_is_reported_with_its_last_words(make: Make, log: Log) -> None:
    thing = make(FAIL)
    thing.start()
    with pytest.raises(ComponentError, match="thing ended while starting: cannot bind the socket"):
        thing.wait_ready(10)
    assert log.wait("thing ended") == "thing ended with exit status 3: cannot bind the socket"


def test_a_supervised_one_that_fails_at_its_first_start_is_not_tried_for_ever(make: Make) -> None:
    thing = make(FAIL, supervised=True)
    thing.start()
    with pytest.raises(ComponentError, match="ended while starting"):
        thing.wait_ready(10)


def test_one_that_says_nothing_in_time_is_named(make: Make) -> None:
    thing = make("import signal; signal.pause()")
    thing.start()
    with pytest.raises(ComponentError, match=r"thing was not ready after 0\.2 s: it said nothing"):
        thing.wait_ready(0.2)


def test_a_killed_component_stays_dead_until_it_is_restarted(make: Make, log: Log) -> None:
    returned: list[int | None] = []
    thing = make(SERVE, supervised=True, returned=lambda: returned.append(thing.pid))
    thing.start()
    thing.wait_ready(10)
    first = thing.pid
    thing.kill()
    assert not thing.alive
    assert log.lines == []
    thing.restart(10)
    assert thing.alive
    assert thing.pid != first
    assert returned == [thing.pid]


def test_a_restart_of_one_that_runs_replaces_it(make: Make) -> None:
    thing = make(SERVE)
    thing.start()
    thing.wait_ready(10)
    first = thing.pid
    thing.restart(10)
    assert thing.alive
    assert thing.pid != first


def test_a_supervised_component_that_dies_is_restarted_and_that_is_said(make: Make, log: Log) -> None:
    back = threading.Event()
    thing = make(SERVE, supervised=True, returned=back.set)
    thing.start()
    thing.wait_ready(10)
    assert thing.pid
    os.kill(thing.pid, 9)
    assert log.wait("thing ended") == "thing ended by signal 9 (hello); starting it again in 0.1 s"
    assert back.wait(10)
    thing.wait_ready(10)


def test_an_unsupervised_component_that_dies_is_reported_once(make: Make, log: Log) -> None:
    thing = make(SERVE)
    thing.start()
    thing.wait_ready(10)
    assert thing.pid
    os.kill(thing.pid, 9)
    assert log.wait("thing ended") == "thing ended by signal 9: hello"
    assert not thing.alive


def test_one_that_ignores_being_asked_to_end_is_killed(make: Make) -> None:
    thing = make("import signal; signal.signal(15, signal.SIG_IGN); " + SERVE)
    thing.start()
    thing.wait_ready(10)
    thing.stop()
    thing.join(0.2)
    assert not thing.alive
