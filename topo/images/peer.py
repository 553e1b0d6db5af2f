"""Whom a socket of a pod talks to, as a program of either family would write it. Pure.

In a dual-stack cluster a pod listens once for both families; the kernel then shows an IPv4 client as
``::ffff:10.244.1.2``, which no program of a pod says.
"""

from __future__ import annotations

from typing import Any

Peer = tuple[str, int]
_MAPPED = "::ffff:"


def peer_of(name: Any) -> Peer:
    """What getpeername says, without flow label, scope and the mapping of IPv4 into IPv6."""
    address, port = name[:2]
    return str(address).removeprefix(_MAPPED) if "." in address else str(address), int(port)


def shown(peer: Peer) -> str:
    """``10.244.1.2:41000``, ``[fd00:10:244:1::2]:41000``."""
    address, port = peer
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
