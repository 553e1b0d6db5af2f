"""The stub resolver of a light pod: the pod's own hosts and resolv.conf, asked from its own namespace.

Does what glibc does for one A lookup: /etc/hosts first, the search list by ndots, each nameserver,
``attempts`` rounds, and glibc's words for the failures. A light image shares the runtime's process,
whose own resolver would ask the machine's nameserver.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

NAME_NOT_KNOWN = (-2, "Name or service not known")
TRY_AGAIN = (-3, "Temporary failure in name resolution")
_IP_RECVERR = 11
_NXDOMAIN = 3


class ResolveError(Exception):
    """``str`` is what getaddrinfo says, number included."""

    def __init__(self, failure: tuple[int, str]) -> None:
        self.number, text = failure
        super().__init__(f"[Errno {self.number}] {text}")


@dataclass(frozen=True, kw_only=True)
class ResolvConf:
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 5
    attempts: int = 2

    @classmethod
    def parse(cls, text: str) -> ResolvConf:
        nameservers: list[str] = []
        search: tuple[str, ...] = ()
        numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
        for line in text.splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "nameserver" and len(words) > 1:
                nameservers.append(words[1])
            elif words[0] == "search":
                search = tuple(words[1:])
            elif words[0] == "options":
                for word in words[1:]:
                    name, _, value = word.partition(":")
                    if name in numbers and value.isdigit():
                        numbers[name] = int(value)
        return cls(nameservers=tuple(nameservers[:3]), search=search, **numbers)

    def names(self, name: str) -> list[str]:
        """The absolute names to ask for, in glibc's order."""
        if name.endswith("."):
            return [name[:-1]]
        searched = [f"{name}.{domain.rstrip('.')}" for domain in self.search]
        return [name, *searched] if name.count(".") >= self.ndots else [*searched, name]


def in_hosts(hosts: str, name: str) -> str | None:
    """The first IPv4 address of a name in the text of /etc/hosts."""
    wanted = name.rstrip(".").lower()
    for line in hosts.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and "." in words[0] and wanted in (word.lower() for word in words[1:]):
            return words[0]
    return None


async def resolve(
    name: str, *, hosts: str, conf: ResolvConf, make_socket: Callable[[int], socket.socket]
) -> str:
    """One IPv4 address for a name; ResolveError with glibc's words when there is none."""
    try:
        return str(IPv4Address(name))
    except ValueError:
        pass
    found = in_hosts(hosts, name)
    if found is not None:
        return found
    for candidate in conf.names(name):
        answer = await _ask_all(candidate, conf, make_socket)
        if answer is None:
            raise ResolveError(TRY_AGAIN)
        if answer:
            return answer[0]
    raise ResolveError(NAME_NOT_KNOWN)


async def _ask_all(
    name: str, conf: ResolvConf, make_socket: Callable[[int], socket.socket]
) -> list[str] | None:
    """Addresses (perhaps none) of the first nameserver that knows; None when none could say."""
    for _ in range(conf.attempts):
        for server in conf.nameservers:
            try:
                async with asyncio.timeout(conf.timeout):
                    return await _ask(name, server, make_socket)
            except (OSError, ValueError, TimeoutError):
                continue
    return None


async def _ask(name: str, server: str, make_socket: Callable[[int], socket.socket]) -> list[str]:
    loop = asyncio.get_running_loop()
    query_id = secrets.randbelow(1 << 16)
    with make_socket(socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)  # an unreachable server fails at once
        sock.connect((server, 53))
        await loop.sock_sendall(sock, encode_query(name, query_id))
        while True:
            data = await loop.sock_recv(sock, 4096)
            if len(data) >= 12 and data[:2] == struct.pack("!H", query_id):
                return decode_answer(data)


def encode_query(name: str, query_id: int) -> bytes:
    """A recursive A question."""
    labels = [label.encode("idna") for label in name.split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name} is not a domain name")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", query_id, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", 1, 1)


def decode_answer(data: bytes) -> list[str]:
    """The A records of a response; [] for NXDOMAIN or no data; ValueError for a server that failed."""
    try:
        _, flags, questions, answers, _, _ = struct.unpack_from("!6H", data)
        rcode = flags & 0xF
        if rcode == _NXDOMAIN:
            return []
        if rcode:
            raise ValueError(f"rcode {rcode}")
        at = 12
        for _ in range(questions):
            at = _skip_name(data, at) + 4
        found: list[str] = []
        for _ in range(answers):
            at = _skip_name(data, at)
            kind, _, _, length = struct.unpack_from("!HHIH", data, at)
            at += 10
            if kind == 1 and length == 4:
                found.append(str(IPv4Address(data[at : at + 4])))
            at += length
    except (struct.error, IndexError) as error:
        raise ValueError(f"malformed answer: {error}") from None
    return found


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0 == 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1
