"""Forwards one HTTP request to a pod or a node, from the control plane's node; brings the answer back.

The server's half of ``proxy``. Requests and answers are forwarded whole, not as a stream; a protocol
upgrade is not. Links in HTML are left as they are.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.api.namespaces import call_in
from controller.api.proxy import unavailable

_TIMEOUT = 30.0
_NOT_FORWARDED = frozenset(
    ("authorization", "connection", "content-length", "host", "keep-alive", "proxy-authenticate",
     "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
"""A hop's own (RFC 9110, 7.6.1), and what was meant for the API server."""


@dataclass(frozen=True, kw_only=True)
class Forwarded:
    """The answer of a pod, without what concerns only its own connection."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


async def forward(
    netns: str,
    address: str,
    port: int,
    *,
    scheme: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    unix: Path | None = None,
) -> Forwarded:
    """Ask from within a network namespace, or by a Unix socket in its place. 503 when nobody answers."""

    def ask() -> Forwarded:
        try:
            if unix is not None:
                plain = _dial(unix)
            else:
                plain = call_in(netns, lambda: socket.create_connection((address, port), _TIMEOUT))
        except OSError as error:
            raise _unreachable(address, port, error) from None
        connection = http.client.HTTPConnection(address, port, timeout=_TIMEOUT)
        connection.sock = _secured(plain) if scheme == "https" else plain
        try:
            connection.request(method, path, body or None, _kept(headers))
            answer = connection.getresponse()
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in _NOT_FORWARDED]
            return Forwarded(status=answer.status, headers=kept, body=answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(address, port, error) from None
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


def _dial(unix: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(_TIMEOUT)
    try:
        made.connect(str(unix))
    except OSError:
        made.close()
        raise
    return made


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {word: text for word, text in headers.items() if word.lower() not in _NOT_FORWARDED}


def _secured(plain: socket.socket) -> socket.socket:
    """As Kubernetes does, without asking a pod for a certificate that anybody signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _unreachable(address: str, port: int, error: Exception) -> Exception:
    where = f"[{address}]" if ":" in address else address
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
    return unavailable(f"error trying to reach service: dial tcp {where}:{port}: {text.lower()}")
