"""Logs of pods: which container, how many lines from the end, and following until its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from controller.api import logs
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from tests.unit.api_kit import pod

RUNNING: Obj = {"running": {}}


def begun(**states: Obj) -> Obj:
    """A pod whose containers are in these states."""
    told = [{"name": name, "state": state, "restartCount": 0} for name, state in states.items()]
    containers = [{"name": name, "image": "i"} for name in states]
    return pod(spec={"containers": containers}, status={"containerStatuses": told})


def read(directory: Path, wanted: logs.LogRequest, states: list[Obj | None] | None = None) -> bytes:
    current = iter(states or [])

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in logs.lines(directory, wanted, lambda: next(current))])

    return asyncio.run(collect())


def asked(query: dict[str, str], obj: Obj | None = None) -> logs.LogRequest:
    return logs.log_request(obj or begun(web=RUNNING), query)


@given(text=some.text("ab\n", max_size=40), count=some.integers(0, 6))
def test_the_tail_is_the_last_lines(tmp_path_factory: pytest.TempPathFactory, text: str, count: int) -> None:
    directory = tmp_path_factory.mktemp("logs")
    (directory / "default_web_web.log").write_text(text)
    last = text.splitlines(keepends=True)[-count:] if count else []
    assert read(directory, asked({"tailLines": str(count)})).decode() == "".join(last)


def test_a_tail_longer_than_one_piece_is_found(tmp_path: Path) -> None:
    lines = [f"{number:06} {'x' * 90}\n" for number in range(3000)]
    (tmp_path / "default_web_web.log").write_text("".join(lines))
    assert read(tmp_path, asked({"tailLines": "2000"})).decode() == "".join(lines[-2000:])
    assert len(read(tmp_path, asked({"limitBytes": "100000"}))) == 100000


@pytest.mark.parametrize(
    ("query", "states", "words"),
    [
        ({}, {"a": RUNNING, "b": RUNNING}, r"choose one of: \[a b\]"),
        ({"container": "c"}, {"a": RUNNING}, "container c is not valid for pod web"),
        ({}, {"a": {"waiting": {}}}, "is waiting to start"),
        ({"previous": "true"}, {"a": RUNNING}, "previous terminated container"),
        ({"sinceSeconds": "5"}, {"a": RUNNING}, "no times in them"),
        ({"tailLines": "-1"}, {"a": RUNNING}, "must not be negative"),
    ],
)
def test_what_cannot_be_shown_is_refused(query: dict[str, str], states: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        asked(query, begun(**states))


def test_a_followed_log_ends_after_the_last_words_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "default_web_web.log"
    file.write_text("one\n")
    monkeypatch.setattr(logs, "LOOK", 0)
    alive = begun(web=RUNNING)

    async def follow() -> list[bytes]:
        def current() -> Obj | None:
            if len(seen) == 1:
                file.write_text("one\ntwo\n")
            if len(seen) == 2:
                file.write_text("one\ntwo\nlast\n")
                return None
            return alive

        seen: list[bytes] = []
        async for chunk in logs.lines(tmp_path, asked({"follow": "1"}), current):
            seen.append(chunk)
        return seen

    assert asyncio.run(follow()) == [b"one\n", b"two\n", b"last\n"]


def test_a_pod_that_never_wrote_has_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path, asked({})) == b""
    assert read(tmp_path, asked({"follow": "true"}), [begun(web={"terminated": {}})]) == b""


def test_a_log_is_followed_from_before_its_first_line(tmp_path: Path) -> None:
    wanted = asked({"follow": "true"})

    def states() -> Iterator[Obj]:
        yield begun(web=RUNNING)
        (tmp_path / wanted.file).write_text("first\n")
        yield begun(web=RUNNING)
        yield begun(web={"terminated": {}})

    async def collect() -> bytes:
        current = states()
        return b"".join(
            [chunk async for chunk in logs.lines(tmp_path, wanted, lambda: next(current), look=0)]
        )

    assert asyncio.run(collect()) == b"first\n"
