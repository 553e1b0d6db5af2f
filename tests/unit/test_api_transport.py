"""What the client does when a connection it kept no longer leads to the API server."""

from __future__ import annotations

import errno
import http.client
import socket
from collections.abc import Callable

import pytest

from controller.api.errors import Unreachable
from controller.api.transport import Transport

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"kind": ""}'


class Connection(http.client.HTTPConnection):
    """To a server that answers each request with the same; ``breaks`` makes the next one end in an error."""

    def __init__(self, breaks: list[OSError]) -> None:
        super().__init__("localhost")
        self.breaks = breaks

    def connect(self) -> None:
        self.sock, self.there = socket.socketpair()

    def getresponse(self) -> http.client.HTTPResponse:
        if self.breaks:
            raise self.breaks.pop()
        self.there.sendall(ANSWER)
        return super().getresponse()

    def close(self) -> None:
        super().close()
        self.there.close()

    def __del__(self) -> None:
        self.close()


class Server:
    def __init__(self) -> None:
        self.breaks: list[OSError] = []
        self.opened = 0
        self.transport = Transport("nowhere", "test", connection=self.open)

    def open(self, timeout: float | None) -> Connection:
        self.opened += 1
        return Connection(self.breaks)


@pytest.fixture
def server() -> Server:
    made = Server()
    made.transport.request("GET", "/")
    return made


def error(number: int) -> OSError:
    return OSError(number, "said the kernel")


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET, errno.EPIPE])
@pytest.mark.parametrize(
    "ask",
    [
        lambda transport: transport.request("GET", "/"),
        lambda transport: transport.request("POST", "/", body={}, repeatable=True),
    ],
)
def test_what_may_be_repeated_is_asked_again_by_a_new_connection(
    server: Server, number: int, ask: Callable[[Transport], object]
) -> None:
    """The server's node moved: the kept connection dies of a timeout, and nothing else would tell."""
    server.breaks.append(error(number))
    ask(server.transport)
    assert server.opened == 2


def test_what_may_not_be_repeated_is_not(server: Server) -> None:
    server.breaks.append(error(errno.ETIMEDOUT))
    with pytest.raises(Unreachable):
        server.transport.request("POST", "/", body={})
    assert server.opened == 1


def test_a_server_that_is_slow_is_not_asked_twice(server: Server) -> None:
    server.breaks.append(TimeoutError("timed out"))
    with pytest.raises(Unreachable):
        server.transport.request("GET", "/")
    assert server.opened == 1
