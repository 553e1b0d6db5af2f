"""kube-proxy's health servers: one thread that answers ``health``'s questions in every node's namespace.

They stand in this process, so that the answers end with it: a dead kubeproxy refuses connections, and a
load balancer takes the node out. A socket belongs to the network namespace it was made in, whoever holds
it, so the thread enters each node's for as long as it takes to listen. Of HTTP only what a health check
says is understood. What is answered is not decided here.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from time import monotonic

from controller.kubeproxy.health import METRICS_PORT, Answer, Health

LOG = logging.getLogger("kubeproxy")
_CLONE_NEWNET = 0x40000000
_PATIENCE = 5.0
_LONGEST = 8192
_TRY_AGAIN = 0.5
_libc = ctypes.CDLL(None, use_errno=True)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class _Asked:
    """A connection whose request is still coming in."""

    node: str
    port: int
    since: float
    data: bytes = b""


class HealthServers:
    """``run`` is the thread; ``sync``, from any thread, opens and closes listeners as is wanted now.

    ``listen(node, port)`` makes a listening socket in the node's namespace, or raises OSError.
    """

    def __init__(
        self,
        health: Health,
        listen: Callable[[str, int], socket.socket],
        *,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._health, self._open, self._now = health, listen, now
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._ours, self._wake = socket.socketpair()
        self._ours.setblocking(False)
        self._selector.register(self._ours, selectors.EVENT_READ, None)
        self._listeners: dict[tuple[str, int], socket.socket] = {}
        self._complained: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def sync(self) -> None:
        """What can be listened on is when this returns; the rest is tried again."""
        self._listen()
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"!", socket.MSG_DONTWAIT)

    def stop(self) -> None:
        """Have ``run`` close everything and return."""
        self._stopped = True
        self._wake.send(b"!")

    def run(self) -> None:
        """Until ``stop``."""
        again = True
        while not self._stopped:
            for key, _ in self._selector.select(_TRY_AGAIN if again or self._pending() else None):
                found = key.data
                if found is None:
                    self._ours.recv(4096)
                elif isinstance(found, _Asked):
                    self._read(key.fileobj, found)  # type: ignore[arg-type]
                else:
                    self._accept(key.fileobj, *found)  # type: ignore[arg-type]
            self._give_up()
            again = self._listen()
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)  # type: ignore[arg-type]
        self._selector.close()
        self._wake.close()

    # -- listening

    def _listen(self) -> bool:
        """Open and close listeners until they are those that are wanted; True if one could not be opened."""
        with self._lock:
            return self._listen_locked(self._health.listeners())

    def _listen_locked(self, wanted: set[tuple[str, int]]) -> bool:
        for gone in self._listeners.keys() - wanted:
            listener = self._listeners.pop(gone)
            self._selector.unregister(listener)
            listener.close()
        for node, port in sorted(wanted - self._listeners.keys()):
            try:
                listener = self._open(node, port)
            except OSError as error:
                if (node, port) not in self._complained:
                    LOG.warning("%s: no health server on port %d yet: %s", node, port, error)
                    self._complained.add((node, port))
                continue
            self._complained.discard((node, port))
            self._listeners[node, port] = listener
            self._selector.register(listener, selectors.EVENT_READ, (node, port))
        return self._listeners.keys() != wanted

    # -- answering

    def _pending(self) -> bool:
        return len(self._selector.get_map()) > len(self._listeners) + 1

    def _accept(self, listener: socket.socket, node: str, port: int) -> None:
        with contextlib.suppress(OSError):  # the asker has left already
            connection, _ = listener.accept()
            connection.setblocking(False)
            asked = _Asked(node=node, port=port, since=monotonic())
            self._selector.register(connection, selectors.EVENT_READ, asked)

    def _read(self, connection: socket.socket, asked: _Asked) -> None:
        try:
            data = connection.recv(_LONGEST)
        except OSError:
            data = b""
        asked.data += data
        if data and b"\r\n\r\n" not in asked.data and len(asked.data) < _LONGEST:
            return
        if asked.data:
            self._answer(connection, asked)
        self._close(connection)

    def _answer(self, connection: socket.socket, asked: _Asked) -> None:
        words = asked.data.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) != 3 or words[0] not in ("GET", "HEAD") or not words[2].startswith("HTTP/1."):
            answer = Answer(code=400, body="400 Bad Request\n")
        else:
            path = words[1].partition("?")[0]
            answer = self._health.answer(asked.node, asked.port, path, self._now())
        with contextlib.suppress(OSError):
            connection.send(encode(answer, head=words[:1] == ["HEAD"]))

    def _give_up(self) -> None:
        """Whoever connects and says nothing does not stay for ever."""
        oldest = monotonic() - _PATIENCE
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Asked) and key.data.since < oldest:
                self._close(key.fileobj)  # type: ignore[arg-type]

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()


def encode(answer: Answer, *, head: bool = False) -> bytes:
    """The HTTP answer as bytes."""
    body = answer.body.encode()
    kind = "text/plain; charset=utf-8" if answer.code in (400, 404) else "application/json"
    headers = {
        "Content-Type": kind,
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)


def listen_in(namespace: Path, port: int) -> socket.socket:
    """A listening socket in another network namespace, on all addresses of all families it has (the metrics'
    at 127.0.0.1 alone); the calling thread is back in its own at return."""
    with contextlib.ExitStack() as stack:
        fds = []
        for path in (namespace, Path("/proc/thread-self/ns/net")):
            fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            stack.callback(os.close, fds[-1])
        there, back = fds
        _setns(there)
        try:
            addresses = Path("/proc/thread-self/net/if_inet6")  # empty where IPv6 is disabled
            dual = addresses.exists() and bool(addresses.read_text())
            listener = socket.socket(socket.AF_INET6 if dual else socket.AF_INET, socket.SOCK_STREAM)
        finally:
            _setns(back)
    try:
        if dual:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        localhost = "::ffff:127.0.0.1" if dual else "127.0.0.1"
        listener.bind((localhost if port == METRICS_PORT else "", port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
