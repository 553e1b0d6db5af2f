"""Questions passed on to other servers: the forward plugin.

One exchange is one socket with a port and an id of its own, so that nobody guesses answers. What is
forwarded and what is kept of it is ``responder``'s.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path

from controller.dns import wire
from controller.dns.corefile import Forward

READ_TIMEOUT = 2.0
DEADLINE = 5.0
_IP_RECVERR = 11
_IPV6_RECVERR = 25


class NoUpstream(Exception):
    """No server answered in time, or there is none."""


class TooMany(Exception):
    """More questions at once than max_concurrent."""


class Upstream:
    """The servers of one ``forward``. ``own`` addresses are never asked: that would be a loop."""

    def __init__(self, config: Forward, own: Collection[str] = ()) -> None:
        self.config = config
        self.servers = [server for to in config.to for server in _servers(to) if server[0] not in own]
        self._turn = count()
        self._under_way = 0

    async def ask(self, query: bytes, *, tcp: bool = False) -> bytes:
        """The response, with the query's own id. NoUpstream when nobody answers in time."""
        limit = self.config.max_concurrent
        if limit and self._under_way >= limit:
            raise TooMany
        self._under_way += 1
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._ask_each(query, tcp or self.config.force_tcp)
        except TimeoutError:
            raise NoUpstream("no upstream answered in time") from None
        finally:
            self._under_way -= 1

    async def _ask_each(self, query: bytes, tcp: bool) -> bytes:
        why = "there is no upstream"
        for server in self._order():
            sent = secrets.token_bytes(2) + query[2:]
            try:
                async with asyncio.timeout(READ_TIMEOUT):
                    answer = await (_by_tcp if tcp else _by_udp)(server, sent)
                return query[:2] + answer[2:]
            except (OSError, TimeoutError, EOFError) as error:
                why = f"{server[0]}:{server[1]}: {error or 'i/o timeout'}"
        raise NoUpstream(why)

    def _order(self) -> list[tuple[str, int]]:
        match self.config.policy:
            case "sequential":
                return self.servers
            case "round_robin" if self.servers:
                first = next(self._turn) % len(self.servers)
                return self.servers[first:] + self.servers[:first]
        return random.sample(self.servers, len(self.servers))


def _servers(to: str) -> Iterator[tuple[str, int]]:
    if not to.startswith("/"):
        address, port = to.split()
        yield address, int(port)
        return
    try:
        text = Path(to).read_text(encoding="utf-8")
    except OSError:
        return
    for words in map(str.split, text.splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            yield words[1], 53


async def _by_udp(server: tuple[str, int], query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    v6 = ":" in server[0]
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # so that an unreachable server fails at once
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.connect(server)
        await loop.sock_sendall(sock, query)
        while True:
            answer = await loop.sock_recv(sock, 65535)
            if wire.is_response_to(answer, query):
                return answer


async def _by_tcp(server: tuple[str, int], query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        answer = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not wire.is_response_to(answer, query):
        raise OSError("the answer is to another question")
    return answer
