"""Streams between clients and pods: bounded, ended by either side; what a request may ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from multidict import MultiDict

from controller.api.errors import BadRequest
from controller.api.spdy import Codec, Data, Frame, Opened, Ping, Reset
from controller.api.spdy_session import Session, SpdyStream
from controller.api.streams import ERROR, RESIZE, STDIN, STDOUT, Stream, check_runs, exec_request, while_there


class Wire:
    """The client's end of a session."""

    def __init__(self) -> None:
        self.codec, self.got = Codec(), list[Frame]()
        self.streams: list[SpdyStream] = []
        self.session = Session(self._receive, self.streams.append)

    async def _receive(self, data: bytes) -> None:
        self.got += self.codec.feed(data)

    async def send(self, *frames: Frame) -> None:
        await self.session.feed(b"".join(self.codec.encode(frame) for frame in frames))


async def soon(task: asyncio.Task[Any]) -> bool:
    """Whether it ends without anybody's help."""
    for _ in range(10):
        await asyncio.sleep(0)
    return task.done()


def test_a_stream_holds_its_sender_up_until_it_is_read() -> None:
    async def scenario() -> None:
        stream = Stream()
        sending = asyncio.create_task(stream.put(b"x" * 300_000))
        assert not await soon(sending)
        assert await stream.read() == b"x" * 300_000
        assert await soon(sending)
        await stream.put_end()
        assert await stream.read() == b""

    asyncio.run(scenario())


def test_a_stream_that_nobody_reads_any_more_holds_nobody_up() -> None:
    async def scenario() -> None:
        stream = Stream()
        sending = asyncio.create_task(stream.put(b"x" * 300_000))
        assert not await soon(sending)
        await stream.drop()
        assert await soon(sending)
        await stream.put(b"more")
        assert await stream.read() == b""

    asyncio.run(scenario())


def test_a_session_replies_before_any_data_and_echoes_pings() -> None:
    async def scenario() -> None:
        wire = Wire()
        await wire.send(Opened(1, {"streamtype": "data"}), Ping(7), Data(1, b"in", fin=True))
        (stream,) = wire.streams
        assert (await stream.read(), await stream.read()) == (b"in", b"")
        await stream.write(b"out")
        await stream.finish()
        await stream.finish()
        assert wire.got == [Opened(1, {}, reply=True), Ping(7), Data(1, b"out"), Data(1, b"", fin=True)]

    asyncio.run(scenario())


def test_long_writes_are_cut_into_frames() -> None:
    async def scenario() -> None:
        wire = Wire()
        await wire.send(Opened(1, {}))
        await wire.streams[0].write(b"x" * 400_000)
        sizes = [len(frame.data) for frame in wire.got if isinstance(frame, Data)]
        assert (max(sizes), sum(sizes)) == (1 << 17, 400_000)

    asyncio.run(scenario())


def test_a_stream_that_was_reset_is_over_both_ways() -> None:
    async def scenario() -> None:
        wire = Wire()
        await wire.send(Opened(1, {}), Data(1, b"lost"), Reset(1, 5), Data(1, b"late"))
        (stream,) = wire.streams
        assert await stream.read() == b""
        with pytest.raises(ConnectionError):
            await stream.write(b"x")

    asyncio.run(scenario())


def test_the_same_stream_is_not_opened_twice() -> None:
    async def scenario() -> None:
        wire = Wire()
        await wire.send(Opened(1, {}), Opened(1, {}))
        assert [type(frame) for frame in wire.got] == [Opened, Reset]

    asyncio.run(scenario())


def test_work_ends_with_the_client() -> None:
    async def scenario() -> None:
        ended: list[str] = []

        async def pump() -> None:
            return None

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("work")

        await asyncio.wait_for(while_there(pump(), work()), 5)
        assert ended == ["work"]

    asyncio.run(scenario())


def pod(*containers: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"nodeName": "node1", "containers": [{"name": name} for name in containers]},
        "status": {"phase": phase},
    }


def test_a_command_names_its_container_and_streams() -> None:
    query = MultiDict(
        [("command", "ls"), ("command", "-l"), ("stdin", "true"), ("stdout", "1"), ("tty", "true")]
    )
    query.add("stderr", "true")
    wanted = exec_request(pod("main"), query, attach=False)
    assert (wanted.container, wanted.argv, wanted.tty) == ("main", ("ls", "-l"), True)
    assert wanted.channels == {STDIN, STDOUT, ERROR, RESIZE}


@pytest.mark.parametrize(
    ("containers", "query", "said"),
    [
        (("main",), {"stdout": "true"}, "at least 1 command"),
        (("main",), {"command": "ls"}, "at least one of stdin, stdout, stderr"),
        (("a", "b"), {"command": "ls", "stdout": "true"}, r"choose one of: \[a b\]"),
        (("a", "b"), {"command": "ls", "stdout": "true", "container": "c"}, "container c is not valid"),
    ],
)
def test_what_cannot_be_run_is_refused(containers: tuple[str, ...], query: dict[str, str], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        exec_request(pod(*containers), MultiDict(query), attach=False)


def test_a_pod_that_does_not_run_has_nobody_to_talk_to() -> None:
    with pytest.raises(BadRequest, match="Current status=Succeeded"):
        check_runs(pod("main", phase="Succeeded"))
    waiting = pod("main")
    del waiting["spec"]["nodeName"]
    with pytest.raises(BadRequest, match="does not have a host assigned"):
        check_runs(waiting)
