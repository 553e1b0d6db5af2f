"""The only encoder of OpenFlow 1.5 messages: values of ``flow`` and ``diff`` to bytes and back.

Written directly with ``struct`` because os-ken's and Ryu's parser objects cost 10 to 25 times as much
and share codec bugs. ``ovs-ofctl ofp-print`` is the oracle of every encoding (see the unit tests).
Nothing here opens a connection or imports a controller framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from controller.kubeproxy.diff import Message
from controller.kubeproxy.flow import FlowKey


def encode(message: Message, xid: int) -> bytes:
    """One message as it goes over the wire (flow-mod or group-mod)."""
    raise NotImplementedError


def bundle(messages: Sequence[Message], bundle_id: int, xid: int) -> list[bytes]:
    """Open, add each, commit: atomic and ordered, every message under xid ``xid``.

    Chunks for sending are of moderate size; the switch answers open and commit with a bundle-control
    reply each (``bundle_reply``) and an error message on the first that it refuses.
    """
    raise NotImplementedError


def barrier_request(xid: int) -> bytes:
    raise NotImplementedError


def flow_stats_request(xid: int) -> bytes:
    """Ask for every flow's (table, priority, cookie): multipart flow description."""
    raise NotImplementedError


def group_desc_request(xid: int) -> bytes:
    raise NotImplementedError


def port_desc_request(xid: int) -> bytes:
    raise NotImplementedError


def multipart_more(message: bytes) -> bool:
    """Whether further parts of this multipart reply follow."""
    raise NotImplementedError


def decode_flow_stats(message: bytes) -> Iterator[FlowKey]:
    """The keys in one part of the reply to ``flow_stats_request`` (whole message with header)."""
    raise NotImplementedError


def decode_group_desc(message: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(group id, bucket ids in order) of each group in one part of the reply."""
    raise NotImplementedError


def decode_port_desc(message: bytes) -> Iterator[tuple[str, int]]:
    """(name, ofport) of each port in one part of the reply."""
    raise NotImplementedError


def split(stream: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages at the front of a byte stream, and what is left over."""
    raise NotImplementedError


def joined(chunks: Iterable[bytes], limit: int = 32768) -> Iterator[bytes]:
    """Messages joined to pieces of about ``limit`` bytes: fewer writes, each well below a send time-out."""
    raise NotImplementedError
