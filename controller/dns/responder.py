"""From a packet to its response: server block, plugins in CoreDNS' order, caches, counting.

No sockets here: ``respond`` returns bytes, None (silence), or, where another server must be asked, an
awaitable of them. One thread (the event loop's) asks and changes it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from math import factorial

from controller.dns import wire
from controller.dns.corefile import Block, Cache, Forward
from controller.dns.forward import NoUpstream, TooMany, Upstream
from controller.dns.index import Index, Reading, Topic
from controller.dns.kept import Kept, Ready
from controller.dns.metrics import Metrics
from controller.dns.names import Address, Name, is_below, lower, text_of
from controller.dns.records import Answer, Record, answer, zone_of
from controller.dns.wire import Patched, Query

Response = bytes | None
_KEPT = 10_000
_MAX_DEPTH = 8
_ORDERS = 6
"""So many orders of one set of addresses are kept ready."""


@dataclass(frozen=True)
class Asked:
    """Where a packet came from: the listening port, the transport, who."""

    port: int = 53
    tcp: bool = False
    peer: tuple[str, int] = ("", 0)
    depth: int = 0
    """How many names led here."""


_Key = tuple[int, bool, bytes]
"""Port, whether by TCP, and the packet without its id: what a response depends on, beside the index."""


class Responder:
    """``index`` is changed by others, who call ``changed``. ``own`` addresses are this server's."""

    def __init__(
        self,
        blocks: Sequence[Block],
        index: Index,
        metrics: Metrics,
        *,
        own: Collection[str] = (),
        clock: Callable[[], float] = time.time,
        say: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self.index, self.metrics = index, metrics
        self.synced = False
        self._own, self._clock, self._say = set(own), clock, say
        self.own: list[Address] = []
        self._ready = Kept[_Key](_KEPT)
        self._kept: dict[_Key, tuple[float, Patched]] = {}
        self.configure(blocks)
        self.changed()

    def configure(self, blocks: Sequence[Block]) -> None:
        """Another Corefile, from the next packet on."""
        self.blocks = tuple(blocks)
        self._upstreams: dict[Forward, Upstream] = {
            forward: Upstream(forward, self._own) for block in blocks for forward in block.forwards
        }
        self._kept.clear()
        self._ready.clear()

    def changed(self, topics: Collection[Topic] | None = None) -> None:
        """These topics of the index say something else now (None: the index is another one): what was
        answered from them holds no more."""
        self._serial = int(self._clock())
        was, reading = self.own, Reading(self.index)
        found = {a: None for own in self._own for a in _services_of(reading, ip_address(own))}
        self.own = list(found) or [ip_address(own) for own in self._own]
        if topics is None or self.own != was:
            self._ready.clear()
        else:
            self._ready.forget(topics)

    # -- one packet

    def respond(self, data: bytes, asked: Asked) -> Response | Awaitable[Response]:
        """The response to one packet. Never raises: a bug is counted, told and answered SERVFAIL."""
        began = time.perf_counter()
        key = asked.port, asked.tcp, data[2:]
        ready = self._ready.get(key)
        if ready is not None and len(ready.responses) >= ready.wanted:
            responses = ready.at(self._serial)
            found = responses[0] if ready.wanted == 1 else random.choice(responses)
            self._count(data, found, asked, ready.zone, began)
            return data[:2] + found
        try:
            query = wire.read(data)
        except wire.Refused as refused:
            return refused.response
        try:
            return self._plugins(query, asked, key, began)
        except Exception as error:
            return self._panic(query, error)

    def _plugins(self, query: Query, asked: Asked, key: _Key, began: float) -> Response | Awaitable[Response]:
        low = lower(query.name)
        block, zone = self._block(low, asked.port)
        if block is None or not query.internet or query.wants_transfer:
            return self._done(query, wire.failure(query, "REFUSED"), block, zone, asked, began)
        size = wire.TCP_SIZE if asked.tcp else min(query.size, block.bufsize or query.size)
        found = self._hosts(block, low, query) or self._kubernetes(block, query)
        if found is not None and not found.fall_through:
            if found.follow is not None:
                return self._follow(query, found, block, zone, asked, size, began)
            return self._write(query, found, block, zone, asked, size, key, began)
        forward = _forward_of(block, low)
        if forward is None:
            if found is not None:
                return self._write(query, found, block, zone, asked, size, key, began)
            return self._done(query, wire.failure(query, "SERVFAIL"), block, zone, asked, began)
        kept = self._kept.get(key)
        if kept is not None and (age := self._clock() - kept[0]) < kept[1].lifetime:
            self.metrics.count("coredns_cache_hits_total", _server(asked.port))
            return self._done(query, kept[1].response(query.data, int(age)), block, zone, asked, began)
        return self._pass_on(query, forward, block, zone, asked, size, key, began)

    def _block(self, low: Name, port: int) -> tuple[Block | None, Name]:
        best: tuple[Block | None, Name] = (None, ())
        for block in self.blocks:
            for zone in block.zones if block.port == port else ():
                if is_below(low, zone) and (best[0] is None or len(zone) > len(best[1])):
                    best = block, zone
        return best

    def _hosts(self, block: Block, low: Name, query: Query) -> Answer | None:
        addresses = [ip_address(text) for name, text in block.hosts if name == low]
        if not addresses:
            return None
        version = {"A": 4, "AAAA": 6}.get(query.type, 0)
        made = [Record(query.name, 3600, query.type, (a,)) for a in addresses if a.version == version]
        return Answer(answers=tuple(made))

    def _kubernetes(self, block: Block, query: Query) -> Answer | None:
        options = block.kubernetes
        if options is None or zone_of(query.name, options) is None:
            return None
        return answer(
            self.index, options, query.name, query.type, serial=self._serial, synced=self.synced, own=self.own
        )

    def _write(
        self,
        query: Query,
        found: Answer,
        block: Block,
        zone: Name,
        asked: Asked,
        size: int,
        key: _Key,
        began: float,
    ) -> bytes:
        order: list[int] | None = None
        wanted = 1
        if block.loadbalance:
            addresses = sum(record.type in ("A", "AAAA") for record in found.answers)
            if addresses > 1:
                order = random.sample(range(addresses), addresses)
                wanted = min(_ORDERS, factorial(min(addresses, 4)))
        response = wire.write(query, found, size=size, order=order)
        if self.synced and not block.log:
            self._remember(key, response, found.topics, zone, wanted)
        return self._done(query, response, block, zone, asked, began)

    def _remember(
        self, key: _Key, response: bytes, topics: frozenset[Topic], zone: Name, wanted: int
    ) -> None:
        ready = self._ready.get(key)
        if ready is None:
            at = max(0, wire.serial_at(response) - 2)
            ready = Ready(topics=topics, zone=text_of(zone), wanted=wanted, serial=self._serial, serial_at=at)
            self._ready.put(key, ready)
        ready.responses.append(response[2:])

    # -- other servers

    async def _pass_on(
        self,
        query: Query,
        forward: Forward,
        block: Block,
        zone: Name,
        asked: Asked,
        size: int,
        key: _Key,
        began: float,
    ) -> Response:
        try:
            response = await self._upstreams[forward].ask(query.data, tcp=asked.tcp)
            cache = block.cache
            if cache is not None and any(is_below(lower(query.name), z) for z in cache.zones):
                self.metrics.count("coredns_cache_misses_total", _server(asked.port))
                self._keep(lower(query.name), response, cache, key)
            response = wire.fit(query, response, size)
        except (NoUpstream, TooMany) as error:
            response = self._unanswered(query, error, block)
        except Exception as error:
            return self._panic(query, error)
        return self._done(query, response, block, zone, asked, began)

    def _keep(self, low: Name, response: bytes, cache: Cache, key: _Key) -> None:
        denied = wire.rcode_of(response) != 0 or response[6:8] == b"\0\0"
        disabled, most = (cache.no_denial, cache.denial) if denied else (cache.no_success, cache.success)
        patched = Patched(response, most=most, least=5)
        if patched.lifetime and not any(is_below(low, zone) for zone in disabled):
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = self._clock(), patched

    def _unanswered(self, query: Query, error: Exception, block: Block) -> bytes:
        if isinstance(error, TooMany):
            self.metrics.count("coredns_forward_max_concurrent_rejects_total")
            return wire.failure(query, "REFUSED")
        if block.errors:
            self._say(f"[ERROR] plugin/errors: 2 {text_of(query.name)} {query.type}: {error}")
        return wire.failure(query, "SERVFAIL")

    async def _follow(
        self, query: Query, found: Answer, block: Block, zone: Name, asked: Asked, size: int, began: float
    ) -> Response:
        """A CNAME that leads outside: its target's records, from whoever of us or others knows them."""
        assert found.follow is not None
        question = wire.question(found.follow, query.type)
        behind: bytes | None = None
        try:
            if asked.depth >= _MAX_DEPTH:
                return self._done(query, wire.failure(query, "SERVFAIL"), block, zone, asked, began)
            answered = self.respond(question, Asked(asked.port, True, asked.peer, asked.depth + 1))
            behind = answered if isinstance(answered, bytes) or answered is None else await answered
            if behind is None or wire.rcode_of(behind) not in (0, 3):
                return self._done(query, wire.failure(query, "SERVFAIL"), block, zone, asked, began)
            response = wire.write(query, found, size=size, behind=behind)
        except Exception as error:
            return self._panic(query, error)
        return self._done(query, response, block, zone, asked, began)

    # -- what is told

    def _panic(self, query: Query, error: Exception) -> bytes:
        self.metrics.count("coredns_panics_total")
        print(f"[ERROR] {text_of(query.name)} {query.type}: {error!r}", file=sys.stderr, flush=True)
        return wire.failure(query, "SERVFAIL")

    def _done(
        self, query: Query, response: bytes, block: Block | None, zone: Name, asked: Asked, began: float
    ) -> bytes:
        told = text_of(zone) if block is not None else "dropped"
        self._count(query.data, response[2:], asked, told, began, query.type)
        if block is not None and block.log:
            proto, (address, port) = "tcp" if asked.tcp else "udp", asked.peer
            spent = time.perf_counter() - began
            self._say(
                f'[INFO] {address}:{port} - {query.id} "{query.type} IN {text_of(query.name)} {proto} '
                f'{len(query.data)} false {query.size}" {wire.rcode_text(response)} '
                f"{len(response)} {spent:.9f}s"
            )
        return response

    def _count(self, data: bytes, rest: bytes, asked: Asked, zone: str, began: float, type: str = "") -> None:
        """``rest`` is the response without its id; one without a type is of the fast path."""
        where = (*_server(asked.port), ("zone", zone))
        proto = ("proto", "tcp" if asked.tcp else "udp")
        family = ("family", "2" if ":" in asked.peer[0] else "1")
        metrics = self.metrics
        kind = type if type in _TYPES else wire.type_text(data) if not type else "other"
        metrics.count("coredns_dns_requests_total", (*where, proto, family, ("type", kind)))
        rcode = wire.RCODES.get(rest[1] & 15, "other")
        metrics.count("coredns_dns_responses_total", (*where, ("rcode", rcode)))
        metrics.see("coredns_dns_request_duration_seconds", time.perf_counter() - began, where)
        metrics.see("coredns_dns_request_size_bytes", len(data), (*where, proto))
        metrics.see("coredns_dns_response_size_bytes", len(rest) + 2, (*where, proto))


_TYPES = frozenset(("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT", "ANY"))
_SERVERS: dict[int, tuple[tuple[str, str], ...]] = {}


def _server(port: int) -> tuple[tuple[str, str], ...]:
    return _SERVERS.setdefault(port, (("server", f"dns://:{port}"),))


def _services_of(reading: Reading, own: Address) -> list[Address]:
    """The cluster IPs by which clients know a server with this address."""
    return [address for service, _ in reading.endpoints_at(own) for address in service.addresses]


def _forward_of(block: Block, low: Name) -> Forward | None:
    """The most special ``forward`` of a block for a name."""
    best: Forward | None = None
    for forward in block.forwards:
        fits = is_below(low, forward.zone) and not any(is_below(low, zone) for zone in forward.but)
        if fits and (best is None or len(forward.zone) > len(best.zone)):
            best = forward
    return best
