"""One connection, or one datagram, from inside a lab's network namespace: who answered, and what it saw.

Only sockets; which Service, which pod and what ought to happen is the kit's. Both address families.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from dataclasses import dataclass
from typing import Any

Sender = Any
"""A host handle of ``topo.hosts``: it makes sockets of its own network."""

_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "dropped",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a connection goes. ``protocol``: tcp, udp or sctp."""

    address: str
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``who``: the answering pod's hostname, empty when none came; ``fate`` says then why not."""

    who: str = ""
    source: str = ""
    fate: str = "answered"


def ask(sender: Sender, target: Target, *, timeout: float = 2, source_port: int = 0) -> Answer:
    """Ask netexec for its hostname and whom it sees; never raises for what a network may do."""
    try:
        with connection(sender, target, timeout=timeout, source_port=source_port) as sock:
            who, source = _exchange(sock, target)
            return Answer(who=who, source=source)
    except TimeoutError:
        return Answer(fate="dropped")
    except OSError as error:
        return Answer(fate=_WORDS.get(error.errno or 0, str(error)))


def connection(sender: Sender, target: Target, *, timeout: float = 2, source_port: int = 0) -> socket.socket:
    """A connected socket; for a datagram socket that only fixes the far end."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    kind = socket.SOCK_DGRAM if target.protocol == "udp" else socket.SOCK_STREAM
    proto = socket.IPPROTO_SCTP if target.protocol == "sctp" else 0
    sock: socket.socket = sender.socket(family, kind, proto)
    try:
        sock.settimeout(timeout)
        if source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source_port))
        sock.connect((target.address, target.port))
    except BaseException:
        sock.close()
        raise
    return sock


def datagram(sock: socket.socket, text: str) -> str:
    """One question on a connected datagram socket, its answer, or the fate in its place."""
    try:
        sock.send(text.encode())
        return sock.recv(65536).decode()
    except TimeoutError:
        return "dropped"
    except OSError as error:
        return _WORDS.get(error.errno or 0, str(error))


def http(sock: socket.socket, path: str, *, method: str = "GET", host: str = "lab") -> tuple[int, str]:
    """Status and body of a request on a connection that stays open."""
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    text = b""
    while b"\r\n\r\n" not in text:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the connection was closed")
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while more := (b"" if length and len(body) >= int(length[1]) else sock.recv(65536)):
        body += more
    return int(head.split()[1]), body.decode()


def fetch(sender: Sender, target: Target, path: str, *, timeout: float = 3) -> tuple[int, str]:
    """Status and body; 0 and the fate when there is no answer."""
    try:
        with connection(sender, target, timeout=timeout) as sock:
            return http(sock, path)
    except TimeoutError:
        return 0, "dropped"
    except OSError as error:
        return 0, _WORDS.get(error.errno or 0, str(error))


def _exchange(sock: socket.socket, target: Target) -> tuple[str, str]:
    if target.protocol == "tcp":
        who, source = http(sock, "/hostname")[1], http(sock, "/clientip")[1]
    else:
        replies = []
        for word in (b"hostname\n", b"clientip\n"):
            sock.send(word)
            replies.append(sock.recv(4096).decode())
        who, source = replies
    return who, source.rpartition(":")[0].strip("[]")


def listens(sender: Sender, port: int) -> bool:
    """Whether something accepts TCP on a host's own loopback."""
    with contextlib.suppress(OSError), connection(sender, Target(address="127.0.0.1", port=port)):
        return True
    return False
