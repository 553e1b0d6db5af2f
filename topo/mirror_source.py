"""The two ends of a mirror: the API that is followed, which is only ever read, and the lab's own.

Anything that speaks Kubernetes will do as a source: lists come in pages, a token is renewed when it is
refused, and what passes (an overloaded server, a gateway in front of a dead one) counts as unreachable,
so that the informer tries again. What an object is worth is ``mirror_theirs``'.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from controller.api.client import Client
from controller.api.errors import ApiError, Forbidden, TooManyRequests, Unauthorized, Unreachable, UserError
from controller.api.objects import Obj, kind_named
from controller.api.transport import Stream, Transport
from topo.mirror_kubeconfig import Access, Credentials
from topo.mirror_theirs import trim

PAGE = 500
_CONNECT_SECONDS = 10.0
_ALIVE = {
    socket.TCP_KEEPIDLE: 20,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}
"""A watch over a connection that a NAT or a sleeping laptop has lost is noticed within a minute."""
_PACE = 1.0
"""Seconds from one watch of a kind to the next: somebody in between may end each one at once."""
_FINAL = {error.code: error for error in (Unauthorized, Forbidden)}
T = TypeVar("T")


class _Wire:
    """Makes connections to one API and knows who we are there."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._context: ssl.SSLContext | None = None

    def connection(self, timeout: float | None) -> http.client.HTTPConnection:
        self.credentials()
        return _Connection(self.access, self._context, timeout)

    def credentials(self) -> Credentials:
        """Asked for when they are first needed, and again when their time is over."""
        with self._lock:
            held = self._credentials
            if held is None or (held.expires is not None and held.expires <= datetime.now(UTC)):
                held = self._credentials = self.access.credentials()
                self._context = _tls(self.access, held) if self.access.tls else None
            return held

    def renew(self) -> bool:
        """Ask for credentials anew; whether there can be others."""
        with self._lock:
            self._credentials = None
        return self.access.plugin is not None or self.access.token_file is not None


class _Connection(http.client.HTTPConnection):
    def __init__(self, access: Access, context: ssl.SSLContext | None, timeout: float | None) -> None:
        super().__init__(access.host, access.port, timeout=_CONNECT_SECONDS)
        self._then, self._tls = timeout, context
        self._server_name = access.server_name or access.host

    def connect(self) -> None:
        super().connect()
        for option, value in _ALIVE.items():
            self.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)
        self.timeout = self._then
        self.sock.settimeout(self._then)

    def __del__(self) -> None:
        self.close()


def _tls(access: Access, who: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.ca or None)
    except (ssl.SSLError, ValueError):
        raise UserError(f"the certificate-authority of context {access.context} is no certificate") from None
    # As Go does; Python 3.13 refuses authorities that leave out what RFC 5280 wants beside.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if who.certificate:
        # OpenSSL takes a certificate from a file only; this one is no file of anybody's.
        held = os.memfd_create("podwire-client-certificate")
        try:
            os.write(held, f"{who.certificate}\n{who.key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{held}")
        except (ssl.SSLError, ValueError):
            text = "client-certificate and client-key do not belong together, or are no PEM"
            raise UserError(f"context {access.context}: {text}") from None
        finally:
            os.close(held)
    return context


class _Transport(Transport):
    """Requests with a token that is renewed; what may pass by itself is Unreachable."""

    def __init__(self, wire: _Wire, agent: str, *, read_only: bool) -> None:
        access = wire.access
        super().__init__(f"{access.host}:{access.port}", agent, connection=wire.connection)
        self._wire, self._read_only = wire, read_only

    def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        assert method == "GET" or not self._read_only, f"{method} {path}: this API is only read"
        prefix = self._wire.access.prefix
        return self._as_ourselves(lambda: super(_Transport, self).request(method, prefix + path, **more))

    def stream(self, path: str, query: dict[str, str]) -> Stream:
        prefix = self._wire.access.prefix
        return self._as_ourselves(lambda: super(_Transport, self).stream(prefix + path, query))

    def _as_ourselves(self, ask: Callable[[], T]) -> T:
        for last in (False, True):
            token = self._wire.credentials().token
            self._headers = {
                **{word: text for word, text in self._headers.items() if word != "Authorization"},
                **({"Authorization": f"Bearer {token}"} if token else {}),
            }
            try:
                return ask()
            except ApiError as error:
                # By their numbers: what a gateway says in front of an API server has no Kubernetes reason.
                if error.code == Unauthorized.code and not last and self._wire.renew():
                    self._local.connection = None  # made with the old certificate
                elif error.code == TooManyRequests.code or error.code >= ApiError.code:
                    raise Unreachable(str(error)) from None
                else:
                    raise _FINAL.get(error.code, type(error))(str(error), error.status) from None
        raise AssertionError

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(f"{self.path} does not prove to be the API server: {error.verify_message}")
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"the API server does not answer at {self.path}: {told}")


class Source(Client):
    """Any Kubernetes API, by list and watch alone: whatever else is asked of it is a bug, and fails.

    ``tell`` gets a line when the server goes away and one when it is back.
    """

    def __init__(self, access: Access, tell: Callable[[str], None] = lambda line: None) -> None:
        super().__init__("", "podwire-mirror")
        self._transport = _Transport(_Wire(access), "podwire-mirror", read_only=True)
        self._tell, self._lock = tell, threading.Lock()
        self._away: bool | None = None
        self._watched: dict[tuple[str, str | None], float] = {}

    def list(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Obj], str]:
        """Page by page, each object without what is not played."""
        row, query = kind_named(kind), {"limit": str(PAGE)}
        found: list[Obj] = []
        while True:
            body = self._heard(partial(self._transport.request, "GET", row.path(namespace), query=query))
            for item in body.get("items") or ():
                found.append(trim({"kind": row.kind, "apiVersion": row.api_version, **item}))
            metadata = body["metadata"]
            if not metadata.get("continue"):
                return found, metadata["resourceVersion"]
            query = {"limit": str(PAGE), "continue": metadata["continue"]}

    def watch(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        bookmarks: bool = False,
        **more: str,
    ) -> Stream:
        at, now = (kind, namespace), time.monotonic()
        time.sleep(max(0.0, self._watched.get(at, 0.0) + _PACE - now))
        self._watched[at] = time.monotonic()
        query = {"watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        path = kind_named(kind).path(namespace)
        return _Trimmed(self._heard(partial(self._transport.stream, path, query)))

    def _heard(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except Unreachable as error:
            self._is_away(True, f"! {error}; trying again")
            raise
        self._is_away(False, "  it answers again")
        return answer

    def _is_away(self, away: bool, line: str) -> None:
        with self._lock:
            before, self._away = self._away, away
        if before is not None and before != away:
            self._tell(line)


class _Trimmed(Stream):
    """A watch, without what is not played."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._stream:
            yield line if line["type"] == "ERROR" else {**line, "object": trim(line["object"])}

    def close(self) -> None:
        self._stream.close()


class Target(Client):
    """The lab's own API, by its kubeconfig."""

    def __init__(self, access: Access) -> None:
        super().__init__("", "podwire-mirror")
        self._transport = _Transport(_Wire(access), "podwire-mirror", read_only=False)
