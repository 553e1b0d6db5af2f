"""How kubelet, runtime and its light child talk: one JSON object a line over a Unix stream socket.

A request is ``{"id": n, "method": ..., ...}``, its answer ``{"id": n, "result": ...}`` or
``{"id": n, "error": {"reason", "message"}}``; a line without id is an event. File descriptors ride
along by SCM_RIGHTS. Nothing here knows what a method does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
GONE = "RuntimeGone"
"""The reason of a fault when the other side went away before it answered."""
_MAX_FDS = 3


class RuntimeFault(Exception):
    """An answer that is an error: ``reason`` is what a container status carries (``StartError``)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Channel:
    """One end of such a connection on an asyncio loop; requests may be answered in any order."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_message: Callable[[Channel, Message, list[int]], None],
        on_close: Callable[[Channel], None] = lambda channel: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock, self._on_message, self._on_close = sock, on_message, on_close
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._fds: list[int] = []
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 0
        self.closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)

    def send(self, message: Message) -> None:
        if self.closed:
            return
        self._outgoing += encode(message)
        self._writable()

    async def request(self, method: str, **arguments: Any) -> Any:
        """Send a request and wait for its answer; RuntimeFault when it is an error."""
        if self.closed:
            raise RuntimeFault(GONE, "the container runtime is not running")
        self._next_id += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[self._next_id] = future
        self.send({"id": self._next_id, "method": method, **arguments})
        return await future

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for fd in self._fds:
            os.close(fd)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RuntimeFault(GONE, "the container runtime went away"))
        self._waiting.clear()
        self._on_close(self)

    def _writable(self) -> None:
        try:
            while self._outgoing:
                sent = self._sock.send(self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._writable)
            return
        except OSError:
            self._loop.call_soon(self.close)
            return
        self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, 1 << 18, _MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        for fd in fds:
            # Or one caller's descriptors leak into another's pod; recv_fds ignores MSG_CMSG_CLOEXEC.
            os.set_inheritable(fd, False)
        self._fds += fds
        if not data:
            self.close()
            return
        start = len(self._incoming)
        self._incoming += data
        while not self.closed:
            end = self._incoming.find(b"\n", start)
            if end < 0:
                return
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            start = 0
            self._dispatch(json.loads(line))

    def _dispatch(self, message: Message) -> None:
        if "method" not in message and "id" in message:
            future = self._waiting.pop(message["id"], None)
            if future is None or future.done():
                return
            if "error" in message:
                future.set_exception(RuntimeFault(message["error"]["reason"], message["error"]["message"]))
            else:
                future.set_result(message.get("result"))
            return
        fds, self._fds = self._fds, []
        self._on_message(self, message, fds)


async def connect(
    path: str,
    *,
    on_message: Callable[[Channel, Message, list[int]], None] = lambda channel, message, fds: None,
    on_close: Callable[[Channel], None] = lambda channel: None,
) -> Channel:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, path)
    except OSError:
        sock.close()
        raise
    return Channel(sock, on_message=on_message, on_close=on_close)


def listen(path: str) -> socket.socket:
    """A listening Unix socket that only its owner may open."""
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(64)
    sock.setblocking(False)
    return sock
