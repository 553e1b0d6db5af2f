"""What a light image's program is given: sockets in its pod's network namespace, a clock, an end.

A light image has no process: the runtime's light child serves all of them, each through a ``Host``.
Programs see no asyncio server, no aiohttp and no other pod. What an image answers belongs in its file.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from topo.images.image import Container
from topo.images.peer import Peer, peer_of, shown
from topo.images.web import Handler, WebPort
from topo.runtime_log import Budget, LogFile
from topo.runtime_sys import socket_in

Datagram = Callable[[bytes, Peer], bytes | None]
Stream = Callable[[bytes, Peer], bytes | None]
_LOG_EVERY = 0.05
"""Seconds that a line may wait for others."""


class Program(Protocol):
    """One container of a light image. ``serve`` returns when every declared socket is bound."""

    async def serve(self, host: Host) -> None: ...


@dataclass(frozen=True)
class Exit:
    code: int
    message: str = ""


class PortInUse(Exception):
    """Another container of the pod, or of the node for a hostNetwork pod, listens there already."""


class Host:
    """The machine as one light container sees it."""

    def __init__(self, container: Container, *, on_exit: Callable[[Exit], None], logs: Budget) -> None:
        self.container = container
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._web: list[WebPort] = []
        self._streams: set[asyncio.Transport] = set()
        self._datagrams: list[asyncio.DatagramTransport] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._over = False
        self._log = LogFile(container.log, logs) if container.log else None
        self._lines: list[tuple[int, str]] = []

    async def http(self, port: int, handler: Handler, *, raw: Stream | None = None) -> None:
        """Answer HTTP on a TCP port; ``raw`` answers connections whose first bytes are not HTTP."""
        sock = self._bound(socket.SOCK_STREAM, port)
        sock.listen(1024)
        web = WebPort(handler, pod=self.container.pod, log=self.log if self._log else None)
        self._web.append(web)
        factory = web.protocol if raw is None else lambda: _Sniffer(web, raw, self._streams)
        self._servers.append(await self._loop.create_server(factory, sock=sock))

    async def udp(self, port: int, handler: Datagram) -> None:
        """Answer each datagram with what ``handler`` returns, if anything."""
        sock = self._bound(socket.SOCK_DGRAM, port)
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(handler), sock=sock)
        self._datagrams.append(transport)

    async def sctp(self, port: int, handler: Datagram) -> None:
        """Answer each message of an association as ``udp`` answers a datagram; OSError where the kernel has
        no SCTP."""
        sock = self._bound(socket.SOCK_STREAM, port, socket.IPPROTO_SCTP)
        sock.listen(1024)
        self._servers.append(
            await self._loop.create_server(lambda: _Messages(handler, self._streams), sock=sock)
        )

    def new_socket(self, kind: int, family: int = socket.AF_INET, proto: int = 0) -> socket.socket:
        """A non-blocking, unbound socket in the pod's network namespace."""
        return socket_in(self.container.netns, kind, family, proto)

    def exit(self, code: int, message: str = "") -> None:
        """End the container: its sockets close as the kernel closes a dead process'."""
        if not self._over:
            self.close()
            self._on_exit(Exit(code, message))

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, callback))

    def log(self, line: str) -> None:
        """One line of the container's log; written a moment later, with others."""
        if self._log is not None:
            if not self._lines:
                self._loop.call_later(_LOG_EVERY, self._write_log)
            self._lines.append((time.time_ns(), line))

    def _write_log(self) -> None:
        if self._log is not None and self._lines:
            self._log.add_lines(self._lines)
            self._lines = []

    def close(self) -> None:
        self._over = True
        self._write_log()
        if self._log is not None:
            self._log.close()
            self._log = None
        for timer in self._timers:
            timer.cancel()
        for server in self._servers:
            server.close()
        for web in self._web:
            web.abort()
        for stream in list(self._streams):
            stream.abort()
        for transport in self._datagrams:
            transport.abort()

    def _bound(self, kind: int, port: int, proto: int = 0) -> socket.socket:
        dual = any(":" in address for address in self.container.addresses)
        everywhere = "::" if dual else "0.0.0.0"
        name = "sctp" if proto else "tcp" if kind == socket.SOCK_STREAM else "udp"
        sock = self.new_socket(kind, socket.AF_INET6 if dual else socket.AF_INET, proto)
        try:
            if dual:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((everywhere, port))
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                text = f"listen {name} {shown((everywhere, port))}: bind: address already in use"
                raise PortInUse(text) from None
            raise
        self.log(f"serving {name} on {shown((everywhere, port))}")
        return sock


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, handler: Datagram) -> None:
        self._handler = handler
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # by duty, not by class, in 3.11

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._handler(data, peer_of(addr))
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


class _Messages(asyncio.Protocol):
    """One association: SCTP keeps messages apart, so each read is one."""

    def __init__(self, handler: Datagram, open_ones: set[asyncio.Transport]) -> None:
        self._handler, self._open = handler, open_ones
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        answer = self._handler(data, peer_of(self._transport.get_extra_info("peername")))
        if answer is not None:
            self._transport.write(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._open.discard(self._transport)


_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"CONNECT ", b"TRACE ")


class _Sniffer(asyncio.Protocol):
    """Hands a connection to HTTP or to the raw handler by its first bytes."""

    def __init__(self, web: WebPort, raw: Stream, streams: set[asyncio.Transport]) -> None:
        self._web, self._raw, self._streams = web, raw, streams
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._is_raw = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._streams.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._is_raw:
            data = self._head + data
            if any(method.startswith(data) for method in _METHODS):
                self._head = data
                return
            if data.startswith(_METHODS):
                self._streams.discard(self._transport)
                protocol = self._web.protocol()
                self._transport.set_protocol(protocol)
                protocol.connection_made(self._transport)
                protocol.data_received(data)
                return
            self._is_raw = True
        answer = self._raw(data, peer_of(self._transport.get_extra_info("peername")))
        if answer is not None:
            self._transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._streams.discard(self._transport)
