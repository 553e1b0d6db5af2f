"""``exec``, ``attach`` and ``portforward`` of Pods: a request that becomes streams, by WebSocket or SPDY/3.1.

    kubectl up to 1.29     POST, Upgrade: SPDY/3.1               commands and connections
    kubectl from 1.30      GET, WebSocket v5.channel.k8s.io      commands, a channel's number in each message
    kubectl from 1.31      GET, WebSocket SPDY/3.1+portforward   connections, SPDY's frames in messages
    the Python clients     GET, WebSocket v4 or no protocol      both; channel 2i data, 2i+1 errors of port i

Which streams belong to what. How they are carried is ``carriers``, what they
do is ``exec``, ``attach`` and ``port_forward``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from controller.api.aiohttp_web import web
from controller.api.attach import attach
from controller.api.carriers import Channel, demultiplex, message, over_spdy, pump, websocket
from controller.api.errors import BadRequest
from controller.api.exec import run
from controller.api.objects import Obj
from controller.api.port_forward import Forward, until_gone
from controller.api.spdy_session import Session, SpdyStream
from controller.api.store import Store
from controller.api.streams import (
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    ExecRequest,
    Stream,
    Tasks,
    check_container_runs,
    check_runs,
    exec_request,
    while_there,
)

WORDS = ("attach", "exec", "portforward")
"""The subresources that are answered here."""
ENDINGS = tuple(f"/{word}" for word in WORDS)
_TUNNEL = "SPDY/3.1+portforward.k8s.io"
_V4, _V5, _FORWARD = "v4.channel.k8s.io", "v5.channel.k8s.io", "portforward.k8s.io"
_TYPES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
_PATIENCE = 30.0
"""Seconds in which a client must have opened the streams it asked for."""
_MOST_PORTS = 100


class Upgrades:
    """``directory`` holds the container runtime's socket and the logs."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store, self._directory, self._runtime = store, directory, directory / "runtime.sock"

    async def answer(self, request: web.BaseRequest, pod: Obj, word: str) -> web.StreamResponse:
        """Until all is over. What can be refused is refused before the protocol changes."""
        upgrade = request.headers.get("Upgrade", "").lower()
        if upgrade not in ("websocket", "spdy/3.1"):
            raise BadRequest("Upgrade request required")
        by_websocket = upgrade == "websocket"
        if word == "portforward":
            check_runs(pod)
            if by_websocket:
                return await self._forward_by_websocket(request, pod)
            return await self._forward_by_spdy(request, pod)
        wanted = exec_request(pod, request.query, attach=word == "attach")
        check_container_runs(pod, wanted.container)
        if by_websocket:
            return await self._command_by_websocket(request, wanted)
        return await self._command_by_spdy(request, wanted)

    # -- a command

    async def _command_by_websocket(
        self, request: web.BaseRequest, wanted: ExecRequest
    ) -> web.StreamResponse:
        socket = websocket((_V5, _V4))
        await socket.prepare(request)
        streams = {number: Channel(socket, number) for number in wanted.channels}
        if STDOUT in streams:
            await streams[STDOUT].write(b"")  # it has begun
        await while_there(demultiplex(socket, streams), self._command(wanted, streams))
        await socket.close()
        return socket

    async def _command_by_spdy(self, request: web.BaseRequest, wanted: ExecRequest) -> web.StreamResponse:
        opened: dict[int, Stream] = {}
        complete = asyncio.Event()

        def on_stream(stream: SpdyStream) -> None:
            number = _TYPES.get(stream.headers.get("streamtype", ""), -1)
            if number in wanted.channels:
                opened[number] = stream
            if len(opened) == len(wanted.channels):
                complete.set()

        async def work() -> None:
            async with asyncio.timeout(_PATIENCE):
                await complete.wait()
            await self._command(wanted, opened)

        return await over_spdy(request, _V4, on_stream, work)

    async def _command(self, wanted: ExecRequest, streams: Mapping[int, Stream]) -> None:
        if wanted.argv:
            await run(wanted, streams, self._runtime)
        else:
            await attach(wanted, streams, self._store, self._directory)

    # -- connections

    async def _forward_by_spdy(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        async with Tasks() as tasks:
            pairs = _Pairs(Forward(pod=pod, runtime=self._runtime), tasks)
            return await over_spdy(request, _FORWARD, pairs.on_stream, lambda: until_gone(self._store, pod))

    async def _forward_by_websocket(self, request: web.BaseRequest, pod: Obj) -> web.StreamResponse:
        forward = Forward(pod=pod, runtime=self._runtime)
        if _TUNNEL in request.headers.get("Sec-WebSocket-Protocol", ""):
            socket = websocket((_TUNNEL,))
            await socket.prepare(request)
            async with Tasks() as tasks:
                session = Session(socket.send_bytes, _Pairs(forward, tasks).on_stream)
                await while_there(pump(session, lambda: message(socket)), until_gone(self._store, pod))
        else:
            texts = [one for text in request.query.getall("ports", []) for one in text.split(",")]
            ports = [_port(text) for text in texts[:_MOST_PORTS]]
            if not ports:
                raise BadRequest('query parameter "ports" is required')
            socket = websocket((_V4,))
            await socket.prepare(request)
            streams = {number: Channel(socket, number) for number in range(2 * len(ports))}
            for number, stream in streams.items():
                await stream.write(ports[number // 2].to_bytes(2, "little"))
            await while_there(demultiplex(socket, streams), self._connections(forward, ports, streams))
        await socket.close()
        return socket

    async def _connections(self, forward: Forward, ports: list[int], streams: Mapping[int, Stream]) -> None:
        """One to each port, until all have ended or the pod has."""
        async with Tasks() as tasks:
            gone = tasks.start(until_gone(self._store, forward.pod))
            left: set[asyncio.Task[None]] = {
                tasks.start(forward.connect(port, streams[2 * number], streams[2 * number + 1]))
                for number, port in enumerate(ports)
            }
            while left and not gone.done():
                _, waiting = await asyncio.wait({*left, gone}, return_when=asyncio.FIRST_COMPLETED)
                left = waiting - {gone}


class _Pairs:
    """SPDY opens two streams for a connection, with one requestid: that of errors, then that of data."""

    def __init__(self, forward: Forward, tasks: Tasks) -> None:
        self._forward, self._tasks = forward, tasks
        self._errors: dict[str, SpdyStream] = {}

    def on_stream(self, stream: SpdyStream) -> None:
        number = stream.headers.get("requestid", "")
        if stream.headers.get("streamtype") == "error":
            self._errors[number] = stream
            return
        error = self._errors.pop(number, None)
        if error is None:
            self._tasks.start(stream.finish())
            return
        self._tasks.start(self._connect(stream, error))

    async def _connect(self, data: SpdyStream, error: SpdyStream) -> None:
        with contextlib.suppress(ConnectionError):  # the client has left, or reset the stream
            try:
                port = _port(data.headers.get("port", ""))
            except BadRequest as problem:
                await error.write(str(problem).encode())
                await data.finish()
                await error.finish()
                return
            await self._forward.connect(port, data, error)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise BadRequest(f'unable to parse "{text}" as a port')
    return int(text)
