"""How streams are carried over one HTTP connection that was upgraded: WebSocket's channels, SPDY's frames.

The only place that takes a connection from aiohttp. What the streams are for is ``upgrade``'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from controller.api.aiohttp_web import web
from controller.api.errors import BadRequest
from controller.api.spdy_session import Session, SpdyStream
from controller.api.streams import Stream, while_there

_HEARTBEAT = 30.0
"""Seconds; a client that does not answer a ping in half of them is gone."""
_CHUNK = 1 << 17
_MOST_MESSAGE = 16 << 20
_CLOSE = 255
"""v5: this channel's one byte names a channel that the client closes."""
_SWITCHING = (
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    "X-Stream-Protocol-Version: {}\r\n\r\n"
)


class Channel(Stream):
    """One channel of a WebSocket: its number is the first byte of every message."""

    def __init__(self, socket: web.WebSocketResponse, number: int) -> None:
        super().__init__()
        self._socket, self._number = socket, number

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(bytes((self._number,)) + data)

    async def finish(self) -> None:
        """Only v5's clients can close a channel, and a server never does: the socket's end is the end."""


def websocket(protocols: Sequence[str]) -> web.WebSocketResponse:
    return web.WebSocketResponse(
        protocols=protocols, heartbeat=_HEARTBEAT, max_msg_size=_MOST_MESSAGE, compress=False
    )


async def message(socket: web.WebSocketResponse) -> bytes:
    """The next message that says something; b"" when the client has left."""
    while True:
        got = await socket.receive()
        if got.type not in (web.WSMsgType.BINARY, web.WSMsgType.TEXT):
            return b""
        data: bytes | str = got.data
        if data:  # kubectl sends empty ones, too
            return data.encode() if isinstance(data, str) else data


async def demultiplex(socket: web.WebSocketResponse, streams: Mapping[int, Stream]) -> None:
    """Messages to their channels, until the client leaves."""
    while got := await message(socket):
        if got[0] == _CLOSE and len(got) == 2:
            if stream := streams.get(got[1]):
                await stream.put_end()
        elif stream := streams.get(got[0]):
            await stream.put(got[1:])


async def pump(session: Session, read: Callable[[], Awaitable[bytes]]) -> None:
    while data := await read():
        await session.feed(data)


async def over_spdy(
    request: web.BaseRequest,
    protocol: str,
    on_stream: Callable[[SpdyStream], None],
    work: Callable[[], Awaitable[None]],
) -> web.StreamResponse:
    """Answer 101 and do the work with the streams the client opens, while it is there."""
    offered = [
        one.strip()
        for line in request.headers.getall("X-Stream-Protocol-Version", [])
        for one in line.split(",")
    ]
    if protocol not in offered:
        raise BadRequest(f"none of {json.dumps(offered)} is spoken here: {protocol} is")
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has left")
    reader = asyncio.StreamReader(limit=_CHUNK)
    taken = _Taken(reader, transport.get_protocol())
    transport.set_protocol(taken)
    taken.connection_made(transport)
    transport.resume_reading()
    writer = asyncio.StreamWriter(transport, taken, reader, asyncio.get_running_loop())

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    try:
        await send(_SWITCHING.format(protocol).encode())
        session = Session(send, on_stream)
        await while_there(pump(session, lambda: reader.read(_CHUNK)), work())
    finally:
        transport.close()
    return _Switched()


class _Taken(asyncio.StreamReaderProtocol):
    """Our protocol on aiohttp's connection; aiohttp still hears of its end, and cancels the handler then."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before: asyncio.BaseProtocol | None = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        before, self._before = self._before, None
        if before is not None:
            before.connection_lost(exc)


class _Switched(web.StreamResponse):
    """What aiohttp is told to send afterwards: nothing."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None
