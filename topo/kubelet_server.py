"""The kubelet's own server, for the API server alone: ``nodes/NAME/proxy/...`` ends here.

A real kubelet serves :10250 by TLS to who has the API server's certificate. Ours is one process for every
node and listens on a Unix socket in the lab's run directory, which no pod sees; the first part of a path is
the node's name. Nothing about single pods belongs here.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote

_MOST = 64 * 1024
"""Bytes of a request's head."""
_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class KubeletServer:
    """``logs``: the directory shown as each node's /logs/. The lab's processes work for all nodes at once,
    so every node shows the same files."""

    def __init__(self, socket: Path, nodes: Collection[str], logs: Path) -> None:
        self._socket, self._nodes, self._logs = socket, nodes, logs

    async def run(self) -> None:
        """Serve until cancelled."""
        self._socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, self._socket, limit=_MOST)
        self._socket.chmod(0o600)
        async with server:
            await server.serve_forever()

    def answer(self, method: str, path: str) -> Answer:
        """``/node1/healthz``, ``/node1/logs/``, ``/node1/logs/kubeproxy.log``."""
        node, _, rest = unquote(path.partition("?")[0]).removeprefix("/").partition("/")
        if node not in self._nodes:
            return HTTPStatus.NOT_FOUND, _TEXT, f"no kubelet speaks for {node}\n".encode()
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"405 method not allowed\n"
        if rest == "healthz":
            return HTTPStatus.OK, _TEXT, b"ok"
        place, _, name = rest.partition("/")
        if place == "logs" and not name:
            return HTTPStatus.OK, _HTML, self._listing()
        file = self._logs / name
        if place != "logs" or name != file.name or file.is_symlink() or not file.is_file():
            return HTTPStatus.NOT_FOUND, _TEXT, b"404 page not found\n"
        return HTTPStatus.OK, _TEXT, file.read_bytes()

    def _listing(self) -> bytes:
        names = sorted(one.name for one in self._logs.iterdir() if one.is_file())
        rows = [f'<a href="{quote(name)}">{html.escape(name)}</a>' for name in names]
        return "\n".join(["<pre>", *rows, "</pre>", ""]).encode()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, *_ = (*head.split("\r\n", 1)[0].split(" "), "", "")
            status, kind, body = self.answer(method, path)
            lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {kind}",
                     f"Content-Length: {len(body)}", "Connection: close", "", ""]  # fmt: skip
            writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))
            await writer.drain()
        writer.close()
