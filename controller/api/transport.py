"""HTTP with the standard library alone, over a Unix socket as a rule: the client's one seam to the wire.

One connection a thread, kept open. A request on a connection the server has closed meanwhile (it was
restarted) is sent again once when repeating it is harmless.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from controller.api.errors import Unreachable
from controller.api.status import error_of

_REPEATABLE = ("GET", "PUT", "DELETE")
_LED_NOWHERE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""What the kernel says of a connection whose other end is gone (a timeout of ours has no number)."""


class _Dead(OSError):
    """A connection led nowhere."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def __del__(self) -> None:
        self.close()  # a thread that ends leaves its kept connection behind


class Stream:
    """The lines of a watch. ``close`` may be called from another thread and ends the iteration."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            while line := self._response.readline():
                yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            # Cut off in the middle: by close() (its response goes to None under us) or by a dead server.
            if not self._closed:
                raise Unreachable("the API server ended a watch") from None
        finally:
            self._response.close()
            self._connection.close()

    def close(self) -> None:
        self._closed = True
        sock = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Transport:
    """Requests and answers as JSON; every answer that is not 2xx raises the ApiError it stands for."""

    def __init__(
        self,
        path: str | Path,
        user_agent: str,
        *,
        connection: Callable[[float | None], http.client.HTTPConnection] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``connection`` makes one with a timeout; without it ``path`` is a Unix socket."""
        self.path = Path(path)
        self._new = connection or (lambda timeout: _Connection(self.path, timeout))
        self._headers = {"User-Agent": user_agent, "Accept": "application/json", **(headers or {})}
        self._local = threading.local()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float | None = 60,
        repeatable: bool = False,
    ) -> dict[str, Any]:
        """``repeatable``: sending it twice does no harm, though it is a POST or PATCH."""
        url = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": content_type} if data is not None else self._headers
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            kept.sock.settimeout(timeout)
            try:
                return self._exchange(kept, method, url, data, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, _Dead) as error:
                # A kept connection that was closed, or led nowhere any more, before an answer. If the
                # request may have been executed, only a repeatable one is sent again.
                again = repeatable or method in _REPEATABLE or isinstance(error, BrokenPipeError)
                if not again:
                    raise Unreachable(f"the API server at {self.path} went away during {method}") from None
            except OSError as error:
                raise self._unreachable(error) from error
        fresh = self._new(timeout)
        try:
            fresh.connect()
            return self._exchange(fresh, method, url, data, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        url: str,
        data: bytes | None,
        headers: dict[str, str],
    ) -> dict[str, Any]:
        self._local.connection = None
        try:
            connection.request(method, url, data, headers)
            response = connection.getresponse()
            payload = response.read()
        except OSError as error:
            connection.close()
            if error.errno in _LED_NOWHERE:
                raise _Dead(error.errno, error.strerror) from None
            raise
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._local.connection = connection
        return _decoded(response.status, payload)

    def stream(self, path: str, query: dict[str, str]) -> Stream:
        """Open a watch; returns once the server has answered with its headers."""
        connection = self._new(None)
        try:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                _decoded(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        return Stream(connection, response)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"the API server does not answer at {self.path}: {error}")


def _decoded(code: int, payload: bytes) -> dict[str, Any]:
    try:
        body = json.loads(payload)
    except ValueError:
        body = {"message": payload.decode(errors="replace")}
    if not 200 <= code < 300:
        raise error_of(code, body)
    found: dict[str, Any] = body
    return found
