"""The HTTP server of the light images: the one place of ``topo`` where aiohttp is imported.

Images see Request and Response only. What is answered belongs in the image's own file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from topo.images.peer import Peer, peer_of, shown

POD_HEADER = "X-Podwire-Pod"
"""Every answer of a light image names its pod, so that a probe can count who answered."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """``peer`` and ``local`` are (address, port) as the pod's socket sees them."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    peer: Peer
    local: Peer
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Response:
    """``then`` is called when the answer has been written."""

    body: str | bytes = ""
    status: int = 200
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Callable[[], None] | None = None


Handler = Callable[[Request], Awaitable[Response]]


def as_json(value: Any, *, status: int = 200) -> Response:
    return Response(body=json.dumps(value) + "\n", content_type="application/json", status=status)


def not_found() -> Response:
    return Response(body="404 page not found\n", status=404)


class WebPort:
    """HTTP/1.1 on one listening socket: gives the event loop a protocol for each connection. ``log`` gets
    a line for each request, as a web server's access log has it."""

    def __init__(self, handler: Handler, *, pod: str, log: Callable[[str], None] | None = None) -> None:
        self._handler, self._pod, self._log = handler, pod, log
        self._server = web.Server(self._answer, access_log=None, tcp_keepalive=False)

    def protocol(self) -> asyncio.Protocol:
        return self._server()

    def abort(self) -> None:
        """Drop every connection at once, as when a process dies."""
        for connection in list(self._server.connections):
            transport = connection.transport
            connection.force_close()
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left before it was answered")
        try:
            response = await self._handler(
                Request(
                    method=request.method,
                    path=request.path,
                    query=request.query,
                    headers=request.headers,
                    peer=peer_of(transport.get_extra_info("peername")),
                    local=peer_of(transport.get_extra_info("sockname")),
                    body=await request.read() if request.can_read_body else b"",
                )
            )
        except web.HTTPException as error:  # a body too large
            response = Response(body=f"{error.reason}\n", status=error.status)
        body = response.body.encode() if isinstance(response.body, str) else response.body
        answer = web.Response(
            body=body,
            status=response.status,
            headers={POD_HEADER: self._pod, **response.headers},
            content_type=response.content_type,
            charset="utf-8" if response.content_type.startswith("text/") else None,
        )
        if self._log is not None:
            peer = shown(peer_of(transport.get_extra_info("peername")))
            agent = request.headers.get("User-Agent", "-")
            self._log(f'{peer} "{request.method} {request.path_qs}" {response.status} {len(body)} "{agent}"')
        if response.then is not None:
            await answer.prepare(request)
            await answer.write_eof()
            response.then()
        return answer
