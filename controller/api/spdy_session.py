"""The server's end of a SPDY/3.1 connection: streams that the client opens, over any way to send bytes.

kubectl's come over its own TCP connection or inside WebSocket messages; both end here. Bytes of frames
are ``spdy``'s, what a stream is for is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.api.spdy import REFUSED, Codec, Data, Frame, GoAway, Opened, Ping, Reset
from controller.api.streams import Stream

_MOST_STREAMS = 1000
_CHUNK = 1 << 17


class SpdyStream(Stream):
    """``headers`` are what the client said it is for."""

    def __init__(self, session: Session, number: int, headers: dict[str, str]) -> None:
        super().__init__()
        self.number, self.headers = number, headers
        self._session, self._finished = session, False
        self.over = False
        """The client has ended it, in its direction at least."""

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), _CHUNK):
            if self._finished:
                raise ConnectionResetError("the client has reset the stream")
            await self._session.send(Data(self.number, data[at : at + _CHUNK]))

    async def finish(self) -> None:
        if not self._finished:
            self._finished = True
            await self._session.send(Data(self.number, b"", fin=True))
            self._session.forget(self)

    async def put_end(self) -> None:
        self.over = True
        await super().put_end()
        self._session.forget(self)

    async def reset(self) -> None:
        """By the client: neither direction lives."""
        self._finished = True
        await self.put_end()
        await self.drop()

    @property
    def done(self) -> bool:
        return self.over and self._finished


class Session:
    """``send`` sends bytes and waits while the client is slow; ``on_stream`` hears of each new stream."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[object]], on_stream: Callable[[SpdyStream], None]
    ) -> None:
        self._send, self._on_stream = send, on_stream
        self._codec = Codec()
        self._order = asyncio.Lock()
        self._streams: dict[int, SpdyStream] = {}

    async def send(self, frame: Frame) -> None:
        async with self._order:
            await self._send(self._codec.encode(frame))

    def forget(self, stream: SpdyStream) -> None:
        if stream.done:
            self._streams.pop(stream.number, None)

    async def feed(self, data: bytes) -> None:
        """What came from the client; BadRequest when it is no SPDY. Held up while a stream is full."""
        for frame in self._codec.feed(data):
            match frame:
                case Opened(number, headers, fin, False):
                    await self._open(number, dict(headers), fin)
                case Data(number, body, fin):
                    await self._arrived(number, body, fin)
                case Reset(number, _):
                    if stream := self._streams.pop(number, None):
                        await stream.reset()
                case Ping(number):
                    await self.send(Ping(number))
                case GoAway() | Opened():
                    pass

    async def _open(self, number: int, headers: dict[str, str], fin: bool) -> None:
        if number in self._streams or len(self._streams) >= _MOST_STREAMS:
            await self.send(Reset(number, REFUSED))
            return
        stream = self._streams[number] = SpdyStream(self, number, headers)
        # Before any data of ours, or the client drops that.
        await self.send(Opened(number, {}, reply=True))
        if fin:
            await stream.put_end()
        self._on_stream(stream)

    async def _arrived(self, number: int, body: bytes, fin: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        await stream.put(body)
        if fin:
            await stream.put_end()
