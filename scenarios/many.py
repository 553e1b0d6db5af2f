"""Many connections in a lesson: opened from chosen source ports, then counted by what the wires show."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from socket import SO_LINGER, SO_REUSEADDR, SOL_SOCKET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from topo.hosts import HostHandle


def connect(host: HostHandle, address: str, port: int, source_ports: Iterable[int]) -> None:
    """Open a TCP connection from each source port and close it at once, by a reset: no port stays in use."""
    for source_port in source_ports:
        with host.socket() as sock:
            sock.settimeout(5)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            sock.bind(("", source_port))
            try:
                sock.connect((address, port))
            except OSError:
                continue  # what was not answered is counted from the wires


def entry(connection: Connection) -> str:
    """The node at which the first packet came in from the router."""
    ways = (hop.link for hop in connection.opening.hops if hop.link.endswith("-uplink"))
    return next(ways, "no node").removesuffix("-uplink")


def answered(connections: list[Connection]) -> int:
    """How many got a SYN+ACK back to the client."""
    return sum(
        any(
            "SYN" in reply.hops[0].flags and reply.hops[-1].link == one.opening.hops[0].link
            for reply in one.replies()
        )
        for one in connections
    )


def counted(found: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """How often each was found, zeros included."""
    counts = Counter(dict.fromkeys(names, 0))
    counts.update(found)
    return dict(sorted(counts.items()))
