"""pcapng blocks as bytes: what Wireshark needs to show a lab's capture with its links by name. Pure.

Written, never read: tshark and scapy read better. Layout: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

SECTION_HEADER, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
LINKTYPE_ETHERNET = 1
NANOSECONDS = 9
"""if_tsresol: timestamps count 10^-9 seconds."""
SNAP_LENGTH = 262144
DIRECTIONS = {"in": 1, "out": 2}
"""epb_flags, as seen from the interface the block names."""

_COMMENT, _END = 1, 0
_SHB_USERAPPL = 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9
_EPB_FLAGS, _ISB_IFRECV, _ISB_IFDROP = 2, 4, 5


def section_header(*, comment: str = "") -> bytes:
    """The first block of a file."""
    options = (
        {_COMMENT: comment.encode(), _SHB_USERAPPL: b"podwire"} if comment else {_SHB_USERAPPL: b"podwire"}
    )
    return _block(SECTION_HEADER, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1) + _options(options))


def interface(name: str, *, description: str = "") -> bytes:
    """One link; blocks of packets refer to it by its place in the file, from 0."""
    options = {_IF_NAME: name.encode()}
    if description:
        options[_IF_DESCRIPTION] = description.encode()
    options[_IF_TSRESOL] = bytes([NANOSECONDS])
    return _block(INTERFACE, struct.pack("=HHI", LINKTYPE_ETHERNET, 0, SNAP_LENGTH) + _options(options))


def packet(number: int, time_ns: int, data: bytes, *, direction: str, comment: str = "") -> bytes:
    """A frame seen on link ``number``, ``direction`` "in" or "out" of that interface."""
    head = struct.pack("=IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), len(data))
    options = {_EPB_FLAGS: struct.pack("=I", DIRECTIONS[direction])}
    if comment:
        options = {_COMMENT: comment.encode(), **options}
    return _block(PACKET, head + data + bytes(-len(data) % 4) + _options(options))


def statistics(number: int, time_ns: int, *, received: int, dropped: int) -> bytes:
    """What a link's recorder counted: ``dropped`` came faster than they were read."""
    head = struct.pack("=III", number, time_ns >> 32, time_ns & 0xFFFFFFFF)
    options = {_ISB_IFRECV: struct.pack("=Q", received), _ISB_IFDROP: struct.pack("=Q", dropped)}
    return _block(STATISTICS, head + _options(options))


def _options(values: Mapping[int, bytes]) -> bytes:
    parts = [
        struct.pack("=HH", code, len(data)) + data + bytes(-len(data) % 4) for code, data in values.items()
    ]
    return b"".join(parts) + struct.pack("=HH", _END, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length
