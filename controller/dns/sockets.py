"""UDP and TCP on a port, and the small web pages beside them: sockets, and nothing of what is said.

A slow or silent client costs one connection for a limited time; nothing a client does ends the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from controller.dns.responder import Asked, Response

Answerer = Callable[[bytes, Asked], Response | Awaitable[Response]]
_BURST = 64
"""Datagrams taken before anything else has its turn."""
_IDLE = 10.0
"""Seconds a connection may take from one whole question to the next."""
_MAX_CONNECTIONS = 1000
_MAX_UNREAD = 256 * 1024
"""Bytes a client may leave unread before it is cut off."""
_MAX_WAITING = 2000
"""Datagrams whose answers wait for another server; more are dropped."""


def bound(kind: int, port: int, address: str = "") -> socket.socket:
    """A non-blocking socket on all addresses of both families, or on one address."""
    if not address:
        try:
            return _bound(socket.AF_INET6, kind, ("::", port))
        except OSError:  # a kernel without IPv6
            address = "0.0.0.0"
    return _bound(socket.AF_INET6 if ":" in address else socket.AF_INET, kind, (address, port))


def _bound(family: int, kind: int, at: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6 and at[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(at)
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """DNS on one port, both transports."""

    def __init__(self, port: int, answer: Answerer, *, address: str = "") -> None:
        self.port, self._answer = port, answer
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: dict[Connection, None] = {}
        self._udp = bound(socket.SOCK_DGRAM, port, address)
        try:
            self.number: int = self._udp.getsockname()[1]
            self._tcp = bound(socket.SOCK_STREAM, self.number, address)
        except BaseException:
            self._udp.close()
            raise
        with contextlib.suppress(OSError):
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._server: asyncio.Server | None = None
        self._loop.add_reader(self._udp, self._read)

    async def start(self) -> Listener:
        self._server = await self._loop.create_server(lambda: Connection(self), sock=self._tcp, backlog=512)
        return self

    def close(self) -> None:
        self._loop.remove_reader(self._udp)
        self._udp.close()
        if self._server is not None:
            self._server.close()  # with its socket
        else:
            self._tcp.close()
        for connection in list(self.connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()

    # -- UDP

    def _read(self) -> None:
        for _ in range(_BURST):
            try:
                data, peer = self._udp.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # what the kernel has to say of an earlier answer
                continue
            answer = self._answer(data, Asked(self.port, False, (_plain(peer[0]), peer[1])))
            if isinstance(answer, bytes):
                self._send(answer, peer)
            elif answer is not None and len(self._tasks) < _MAX_WAITING:
                self.later(self._send_later(answer, peer))
            elif asyncio.iscoroutine(answer):
                answer.close()

    async def _send_later(self, answer: Awaitable[Response], peer: object) -> None:
        data = await answer
        if data is not None:
            self._send(data, peer)

    def _send(self, data: bytes, peer: object) -> None:
        with contextlib.suppress(OSError):  # a full buffer, an unreachable asker: it asks again
            self._udp.sendto(data, cast("tuple[str, int]", peer))

    # -- for the connections

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def respond(self, data: bytes, peer: tuple[str, int]) -> Response | Awaitable[Response]:
        return self._answer(data, Asked(self.port, True, peer))

    def opened(self, connection: Connection) -> None:
        self.connections[connection] = None
        if len(self.connections) > _MAX_CONNECTIONS:
            next(iter(self.connections)).abort()  # the oldest


class Connection(asyncio.Protocol):
    """One TCP connection: any number of questions, each with its length before it (RFC 7766)."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._peer = ("", 0)
        self._buffer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self._peer = _plain(peer[0]), peer[1]
        self._listener.opened(self)
        self._wait()

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(_IDLE, self.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            question = bytes(self._buffer[2:end])
            del self._buffer[:end]
            answer = self._listener.respond(question, self._peer)
            if isinstance(answer, bytes):
                self._send(answer)
            elif answer is None:
                self.abort()  # what is no question has no business here
                return
            else:
                self._listener.later(self._send_later(answer))

    async def _send_later(self, answer: Awaitable[Response]) -> None:
        data = await answer
        if data is not None:
            self._send(data)

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._transport.write(len(data).to_bytes(2, "big") + data)
        if self._transport.get_write_buffer_size() > _MAX_UNREAD:
            self._reset()
        else:
            self._wait()

    def _reset(self) -> None:
        """Ends it with RST, so that the kernel keeps nothing for a client that does not read."""
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _plain(address: str) -> str:
    """An IPv4 address as such, though the socket serves both families."""
    return address.removeprefix("::ffff:")


Page = Callable[[], tuple[int, str]]
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}
_HEAD_LIMIT = 8192


class Pages:
    """HTTP GET of a few paths on one port: health, ready, metrics."""

    def __init__(self, port: int, pages: dict[str, Page], *, address: str = "") -> None:
        self.pages, self._sock = pages, bound(socket.SOCK_STREAM, port, address)
        self.number: int = self._sock.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def start(self) -> Pages:
        self._server = await asyncio.start_server(self._serve, sock=self._sock, limit=_HEAD_LIMIT)
        return self

    def close(self) -> None:
        if self._server is not None:
            self._server.close()  # with its socket
        else:
            self._sock.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_IDLE):
                head = await reader.readuntil(b"\r\n\r\n")
            words = head.decode("latin-1").split()
            page = self.pages.get(words[1].partition("?")[0]) if len(words) > 1 else None
            status, text = page() if page is not None else (404, "404 page not found\n")
            body = text.encode()
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; version=0.0.4; "
                f"charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            async with asyncio.timeout(_IDLE):
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
