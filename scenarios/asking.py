"""One question from inside the lab, from a source port of one's choice: who answered, and whom it saw.

Only sockets. A chosen source port is how a lesson finds the same question again on the wires.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topo.hosts import HostHandle

FATES = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
}
"""What a client's kernel says, in one word. Silence is ``dropped``."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``pod`` says that it saw the question come from ``source``; or ``fate`` says why not."""

    pod: str = ""
    source: str = ""
    fate: str = "answered"


def ask(
    host: HostHandle, address: str, port: int, *, source_port: int = 0, udp: bool = False, timeout: float = 5
) -> Answer:
    """One connection (or datagram) to an agnhost pod behind an address."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, kind) as sock:
        try:
            sock.settimeout(timeout)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source_port))
            sock.connect((address, port))
            return datagram(sock) if udp else request(sock)
        except OSError as error:
            return Answer(fate=fate(error))


def request(sock: socket.socket) -> Answer:
    """Ask on an open TCP connection, and leave it open."""
    sock.sendall(b"GET /clientip HTTP/1.1\r\nHost: lab\r\n\r\n")
    text = b""
    while b"\r\n\r\n" not in text or not text.rpartition(b"\r\n\r\n")[2]:
        more = sock.recv(4096)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the server has closed the connection")
        text += more
    head, _, body = text.decode().partition("\r\n\r\n")
    lines = (line.partition(": ") for line in head.splitlines())
    pod = next((value for name, _, value in lines if name.lower() == "x-podwire-pod"), "")
    return Answer(pod=pod, source=body)


def datagram(sock: socket.socket) -> Answer:
    """Ask on a connected UDP socket: two datagrams, two answers."""
    answers = []
    for word in (b"hostname\n", b"clientip\n"):
        sock.send(word)
        answers.append(sock.recv(4096).decode())
    return Answer(pod=answers[0], source=answers[1])


def fate(error: OSError) -> str:
    """A failed call in one word."""
    if isinstance(error, TimeoutError):
        return "dropped"
    return FATES.get(error.errno or 0, error.strerror or str(error))
