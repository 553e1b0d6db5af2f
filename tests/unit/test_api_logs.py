"""Logs of pods: which container, how many lines from the end, since when, and following until its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from controller.api import cri, log_query, logs
from controller.api.errors import BadRequest
from controller.api.log_query import LogRequest
from controller.api.objects import Obj
from tests.unit.api_kit import pod

RUNNING: Obj = {"running": {}}
SECOND = 1_000_000_000
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * SECOND


def begun(*, life: str = "one", restarts: int = 0, **states: Obj) -> Obj:
    """A pod whose containers are in these states."""
    known = {"restartCount": restarts, "containerID": f"podwire://{life}"}
    told = [{"name": name, "state": state, **known} for name, state in states.items()]
    containers = [{"name": name, "image": "i"} for name in states]
    return pod(spec={"containers": containers}, status={"containerStatuses": told})


def written(*lines: str, stream: bytes = cri.STDOUT, at: int = NOON) -> bytes:
    """Records, a second apart; what does not end with a newline is a piece of a line."""
    records = [
        cri.encode(line.encode(), stream, cri.stamp(at + number * SECOND))
        for number, line in enumerate(lines)
    ]
    return b"".join(records)


def read(directory: Path, wanted: LogRequest, states: list[Obj | None] | None = None) -> bytes:
    current = iter(states or [])

    async def collect() -> bytes:
        chunks = logs.lines(directory, wanted, lambda: next(current), look=0)
        return b"".join([chunk async for chunk in chunks])

    return asyncio.run(collect())


def asked(query: dict[str, str], obj: Obj | None = None) -> LogRequest:
    return log_query.log_request(obj or begun(web=RUNNING), query)


@given(pieces=some.lists(some.text("ab\n", min_size=1, max_size=8), max_size=8), count=some.integers(0, 6))
def test_the_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], count: int
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    (directory / "default_web_web.log").write_bytes(written(*pieces))
    last = "".join(pieces).splitlines(keepends=True)[-count:] if count else []
    assert read(directory, asked({"tailLines": str(count)})).decode() == "".join(last)


def test_a_log_longer_than_one_piece_is_shown_whole(tmp_path: Path) -> None:
    lines = [f"{number:06} {'x' * 90}\n" for number in range(3000)]
    (tmp_path / "default_web_web.log").write_bytes(written(*lines))
    assert read(tmp_path, asked({})).decode() == "".join(lines)
    assert read(tmp_path, asked({"tailLines": "2000"})).decode() == "".join(lines[-2000:])
    assert read(tmp_path, asked({"limitBytes": "100000"})).decode() == "".join(lines)[:100000]


def test_a_line_has_the_time_of_its_first_piece(tmp_path: Path) -> None:
    (tmp_path / "default_web_web.log").write_bytes(written("one\n", "tw", "o\nthree\n"))
    assert read(tmp_path, asked({"timestamps": "true"})).decode().splitlines() == [
        "2026-11-23T12:00:00.000000000Z one",
        "2026-11-23T12:00:01.000000000Z two",
        "2026-11-23T12:00:02.000000000Z three",
    ]


@pytest.mark.parametrize(
    "moment", ["2026-11-23T12:00:01Z", "2026-11-23T13:00:00.5+01:00", "2026-11-23T11:00:01.000000000-01:00"]
)
def test_what_was_written_since_a_moment_is_shown(tmp_path: Path, moment: str) -> None:
    (tmp_path / "default_web_web.log").write_bytes(written("one\n", "two\n", "three\n"))
    assert read(tmp_path, asked({"sinceTime": moment})) == b"two\nthree\n"


def test_seconds_are_counted_back_from_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "default_web_web.log").write_bytes(written("one\n", "two\n", "three\n"))
    monkeypatch.setattr("controller.api.log_query.time.time_ns", lambda: NOON + 10 * SECOND)
    assert read(tmp_path, asked({"sinceSeconds": "8"})) == b"three\n"


def test_one_of_two_streams_is_shown(tmp_path: Path) -> None:
    (tmp_path / "default_web_web.log").write_bytes(
        written("out\n") + written("err\n", stream=cri.STDERR) + written("out again\n")
    )
    assert read(tmp_path, asked({})) == b"out\nerr\nout again\n"
    assert read(tmp_path, asked({"stream": "Stdout"})) == b"out\nout again\n"
    assert read(tmp_path, asked({"stream": "Stderr"})) == b"err\n"


@pytest.fixture
def hour_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's local time."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("hour_ahead")
def test_the_labs_own_processes_logs_have_times_too(tmp_path: Path) -> None:
    said = "2026-11-23 13:00:00,250 it failed\n  because\n2026-11-23 13:00:02,000 ok\n"
    (tmp_path / "x.log").write_text(said)
    wanted = LogRequest(file="x.log", container="x", plain=True, timestamps=True)
    assert read(tmp_path, wanted).decode().splitlines() == [
        "2026-11-23T12:00:00.250000000Z 2026-11-23 13:00:00,250 it failed",
        "2026-11-23T12:00:00.250000000Z   because",
        "2026-11-23T12:00:02.000000000Z 2026-11-23 13:00:02,000 ok",
    ]
    tail = LogRequest(file="x.log", container="x", plain=True, tail=2)
    assert read(tmp_path, tail) == b"  because\n2026-11-23 13:00:02,000 ok\n"


@pytest.mark.parametrize(
    ("query", "states", "words"),
    [
        ({}, {"a": RUNNING, "b": RUNNING}, r"choose one of: \[a b\]"),
        ({"container": "c"}, {"a": RUNNING}, "container c is not valid for pod web"),
        ({}, {"a": {"waiting": {}}}, "is waiting to start"),
        ({"previous": "true"}, {"a": RUNNING}, "previous terminated container"),
        ({"sinceSeconds": "0"}, {"a": RUNNING}, "must be greater than 0"),
        ({"sinceTime": "yesterday"}, {"a": RUNNING}, "sinceTime: .*cannot parse"),
        ({"sinceSeconds": "1", "sinceTime": "2026-11-23T12:00:01Z"}, {"a": RUNNING}, "at most one of"),
        ({"tailLines": "-1"}, {"a": RUNNING}, "must not be negative"),
        ({"stream": "stdin"}, {"a": RUNNING}, "Unsupported value"),
        ({"stream": "Stderr", "tailLines": "1"}, {"a": RUNNING}, "mutually exclusive"),
    ],
)
def test_what_cannot_be_shown_is_refused(query: dict[str, str], states: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        asked(query, begun(**states))


def test_a_followed_log_ends_after_the_last_words_of_its_container(tmp_path: Path) -> None:
    file = tmp_path / "default_web_web.log"
    file.write_bytes(written("one\n"))
    alive = begun(web=RUNNING)

    def states() -> Iterator[Obj | None]:
        yield alive
        file.write_bytes(written("one\n", "two\n"))
        yield alive
        file.write_bytes(written("one\n", "two\n", "last\n"))
        yield None

    assert followed(tmp_path, states()) == b"one\ntwo\nlast\n"


def followed(directory: Path, states: Iterator[Obj | None]) -> bytes:
    async def collect() -> bytes:
        chunks = logs.lines(directory, asked({"follow": "true"}), lambda: next(states), look=0)
        return b"".join([chunk async for chunk in chunks])

    return asyncio.run(collect())


def test_a_follower_goes_on_in_the_file_that_took_the_place_of_a_long_one(tmp_path: Path) -> None:
    file = tmp_path / "default_web_web.log"
    file.write_bytes(written("one\n"))
    alive = begun(web=RUNNING)

    def states() -> Iterator[Obj | None]:
        yield alive
        with file.open("ab") as more:
            more.write(written("two\n"))
        (tmp_path / "new").write_bytes(written("three\n"))
        (tmp_path / "new").replace(file)
        yield alive
        yield alive
        yield None

    assert followed(tmp_path, states()) == b"one\ntwo\nthree\n"


def test_a_follower_ends_when_its_container_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "default_web_web.log"
    file.write_bytes(written("of the first life\n"))

    def laid_aside() -> Iterator[Obj | None]:
        """The API has not heard of it yet."""
        yield begun(web=RUNNING)
        file.replace(logs.previous(file))
        file.write_bytes(written("of the second\n"))
        yield begun(web=RUNNING)

    assert followed(tmp_path, laid_aside()) == b"of the first life\n"

    def told() -> Iterator[Obj | None]:
        """The second life has written nothing yet."""
        yield begun(web=RUNNING)
        yield begun(web=RUNNING, life="two", restarts=1)

    assert followed(tmp_path, told()) == b"of the second\n"


def test_a_follower_does_not_go_on_with_another_pod_of_the_name(tmp_path: Path) -> None:
    file = tmp_path / "default_web_web.log"
    file.write_bytes(written("mine\n"))
    other = begun(web=RUNNING)
    other["metadata"] = {**other["metadata"], "uid": "other"}

    def states() -> Iterator[Obj | None]:
        file.unlink()
        file.write_bytes(written("theirs\n"))
        yield other
        yield other

    (tmp_path / "kept").hardlink_to(file)
    with (tmp_path / "kept").open("rb"):
        assert followed(tmp_path, iter([begun(web=RUNNING), None])) == b"mine\n"
        assert followed(tmp_path, states()) == b"mine\n"


def test_a_pod_that_never_wrote_has_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path, asked({})) == b""
    assert read(tmp_path, asked({"follow": "true"}), [begun(web={"terminated": {}})]) == b""


def test_a_log_is_followed_from_before_its_first_line(tmp_path: Path) -> None:
    def states() -> Iterator[Obj]:
        yield begun(web=RUNNING)
        (tmp_path / "default_web_web.log").write_bytes(written("first\n"))
        yield begun(web=RUNNING)
        yield begun(web={"terminated": {}})

    assert followed(tmp_path, states()) == b"first\n"


def test_what_is_written_first_is_new_to_whoever_was_there_before_it(tmp_path: Path) -> None:
    def states() -> Iterator[Obj]:
        yield begun(web=RUNNING)
        (tmp_path / "default_web_web.log").write_bytes(written("first\n"))
        yield begun(web=RUNNING)
        yield begun(web={"terminated": {}})

    wanted, current = log_query.from_now_on(begun(web=RUNNING), "web"), states()

    async def collect() -> bytes:
        return b"".join(
            [chunk async for chunk in logs.lines(tmp_path, wanted, lambda: next(current), look=0)]
        )

    assert asyncio.run(collect()) == b"first\n"
