"""What the kubeproxy hears from its switches and how it answers: plain values, no framework.

Why it exists: it is the seam between the OpenFlow framework (``backend``, the only file that imports
os-ken or Ryu) and everything else, so the rest runs and is tested without either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Channel(Protocol):
    """One OpenFlow connection of one switch; a reconnect is another channel."""

    def send(self, data: bytes) -> bool:
        """Queue whole OpenFlow messages. False when the connection is gone (``Disconnected`` follows)."""

    def hang_up(self) -> None:
        """Close the connection; ``Disconnected`` follows."""

    def expect(self, xid: int) -> None:
        """Replies to this multipart request arrive undecoded, as ``Described``."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Something a switch told us, and when (``time.monotonic``)."""

    channel: Channel
    at: float


@dataclass(frozen=True, kw_only=True)
class Connected(Heard):
    """The handshake is done; ``ports`` maps the bridge's port names to their numbers."""

    datapath_id: int
    ports: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class PortChanged(Heard):
    """A port came, changed its name, or went (``number`` None)."""

    name: str
    number: int | None


@dataclass(frozen=True, kw_only=True)
class Disconnected(Heard):
    """The connection is gone, whoever ended it."""


@dataclass(frozen=True, kw_only=True)
class BarrierAnswered(Heard):
    """The switch has handled everything sent before the barrier with this xid."""

    xid: int


@dataclass(frozen=True, kw_only=True)
class Described(Heard):
    """One part of a multipart reply, undecoded: the whole OpenFlow message."""

    xid: int
    message: bytes
    more: bool


@dataclass(frozen=True, kw_only=True)
class Unasked(Heard):
    """A packet-in or a flow-removed, undecoded."""

    message: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Refused(Heard):
    """OFPT_ERROR: the switch did not do what message ``xid`` asked. ``data`` is the start of that message."""

    xid: int
    error: str
    data: bytes = field(repr=False)
