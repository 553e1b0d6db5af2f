"""One host of the internet, so that there is an outside to resolve: 198.51.100.1, www.example.com.

It answers DNS (the resolver of nodes and of pods with dnsPolicy Default, and where the cluster's DNS forwards
to) and HTTP on port 80. It knows a handful of names; all others do not exist. Served by a thread of the
lab; nothing here is part of a cluster.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from topo.netns import Netns
from topo.plan import INTERNET, Plan

if TYPE_CHECKING:
    from controller.dns.responder import Asked, Response

DOMAIN = "example.com"
PAGE = "Example Domain: this is www.example.com, outside of the cluster\n"
_TTL = 300

Addresses = Sequence[IPv4Address | IPv6Address]


def names(plan: Plan) -> dict[str, Addresses]:
    """Who is known out there, by name: the host itself, and each client under example.net."""
    host = plan.internet
    own = (DOMAIN, f"www.{DOMAIN}", f"ns.{DOMAIN}", f"api.{DOMAIN}")
    known: dict[str, Addresses] = dict.fromkeys(own, host.addresses)
    return known | {f"{client.name}.example.net": client.addresses for client in plan.clients}


class Internet:
    """DNS and HTTP at the host called ``internet``."""

    def __init__(self, netns: Netns, plan: Plan) -> None:
        self._netns, self._names = netns, names(plan)
        self._loop, self._over = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=INTERNET, daemon=True)

    def start(self) -> Internet:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Also while it starts: a loop that is stopped then says so on standard error."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        from controller.dns.sockets import Listener, Pages  # here: 100 ms that no lab's start waits for

        async def serve() -> tuple[Listener, Pages]:
            with self._netns.enter():
                listener = Listener(53, Outside(self._names).respond)
                pages = Pages(80, {"/": lambda: (200, PAGE), "/healthz": lambda: (200, "ok\n")})
            return await listener.start(), await pages.start()

        async def serve_until_stopped() -> None:
            servers = await serve()
            await self._over.wait()
            for server in servers:
                server.close()
            await asyncio.sleep(0)

        self._loop.run_until_complete(serve_until_stopped())
        self._loop.close()


class Outside:
    """Answers from a table of names; NXDOMAIN with a SOA for the rest. Pure but for dnspython."""

    def __init__(self, known: Mapping[str, Addresses]) -> None:
        from controller.dns.names import Name, name_of, reverse_name

        self._known = {name_of(name): addresses for name, addresses in known.items()}
        self._reverse: dict[Name, Name] = {}
        for name, addresses in known.items():
            for address in addresses:
                self._reverse.setdefault(reverse_name(address), name_of(name))

    def respond(self, data: bytes, asked: Asked) -> Response | Awaitable[Response]:
        from controller.dns import wire
        from controller.dns.names import lower
        from controller.dns.records import Answer, Record

        try:
            query = wire.read(data)
        except wire.Refused as refused:
            return refused.response
        low = lower(query.name)
        records: list[Record] = []
        pointer = self._reverse.get(low)
        if pointer is not None and query.type == "PTR":
            records = [Record(query.name, _TTL, "PTR", (pointer,))]
        for address in self._known.get(low, ()):
            if query.type == ("A" if ip_address(address).version == 4 else "AAAA"):
                records.append(Record(query.name, _TTL, query.type, (address,)))
        zone = low[-2:]
        soa = Record(zone, _TTL, "SOA", (("ns", *zone), ("hostmaster", *zone), 1, 7200, 1800, 86400, _TTL))
        found = Answer(
            rcode="NOERROR" if low in self._known or pointer is not None else "NXDOMAIN",
            answers=tuple(records),
            authority=() if records else (soa,),
        )
        return wire.write(query, found, size=wire.TCP_SIZE if asked.tcp else query.size, recursion=True)
