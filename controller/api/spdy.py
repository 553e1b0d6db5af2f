"""SPDY/3.1 frames, as kubectl speaks them for exec, attach and port-forward. Pure: bytes in, values out.

From the SPDY protocol's draft 3.1. Only what Kubernetes' streams use: no push, no flow control (its clients
have none), no settings. Who sends which frame when is ``spdy_session``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from controller.api.errors import BadRequest

MOST = 1 << 20
"""Bytes of the longest frame that is taken; kubectl's have 32 KiB."""
PROTOCOL_ERROR, REFUSED, CANCEL = 1, 3, 5
_VERSION = 3
_CONTROL = 0x8000
_FIN = 1
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7

_WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age
allow authorization cache-control connection content-base content-encoding content-language content-length
content-location content-md5 content-range content-type date etag expect expires from host if-match
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie
keep-alive origin
"""
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split())
    + _REST.encode()
)
"""What both sides know of headers before the first one (draft 3.1, 2.6.10.1); part of the protocol."""


@dataclass(frozen=True)
class Opened:
    """SYN_STREAM or, with ``reply``, SYN_REPLY."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False
    reply: bool = False


@dataclass(frozen=True)
class Data:
    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True)
class Reset:
    stream: int
    status: int


@dataclass(frozen=True)
class Ping:
    number: int


@dataclass(frozen=True)
class GoAway:
    """The other side opens nothing more."""


Frame = Opened | Data | Reset | Ping | GoAway


class Codec:
    """One end of a connection: the header blocks of each direction are one zlib stream."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._incoming = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now, in order; BadRequest when it is no SPDY/3.1."""
        self._incoming += data
        frames: list[Frame] = []
        while len(self._incoming) >= 8:
            flags_length = int.from_bytes(self._incoming[4:8])
            flags, length = flags_length >> 24, flags_length & 0xFFFFFF
            if length > MOST:
                raise BadRequest(f"SPDY: a frame of {length} bytes; {MOST} is the most")
            if len(self._incoming) < 8 + length:
                break
            head, body = bytes(self._incoming[:4]), bytes(self._incoming[8 : 8 + length])
            del self._incoming[: 8 + length]
            frame = self._frame(head, flags, body)
            if frame is not None:
                frames.append(frame)
        return frames

    def _frame(self, head: bytes, flags: int, body: bytes) -> Frame | None:
        word, kind = struct.unpack(">HH", head)
        fin = bool(flags & _FIN)
        if not word & _CONTROL:
            return Data(int.from_bytes(head), body, fin)
        if word != _CONTROL | _VERSION:
            raise BadRequest(f"SPDY: version {word & ~_CONTROL}; only 3 is spoken here")
        try:
            if kind == _SYN_STREAM:
                return Opened(_stream(body), self._headers(body[10:]), fin)
            if kind == _SYN_REPLY:
                return Opened(_stream(body), self._headers(body[4:]), fin, reply=True)
            if kind == _RST_STREAM:
                return Reset(_stream(body), struct.unpack_from(">I", body, 4)[0])
            if kind == _PING:
                return Ping(struct.unpack_from(">I", body)[0])
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise BadRequest(f"SPDY: a broken control frame {kind}: {error}") from None
        return GoAway() if kind == _GOAWAY else None

    def _headers(self, block: bytes) -> dict[str, str]:
        text = self._inflate.decompress(block, MOST)
        if self._inflate.unconsumed_tail:
            raise BadRequest("SPDY: too many headers")
        (count,) = struct.unpack_from(">I", text)
        found, at = {}, 4
        for _ in range(count):
            pair = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", text, at)
                if at + 4 + size > len(text):
                    raise BadRequest("SPDY: a header is longer than its block")
                pair.append(text[at + 4 : at + 4 + size].decode())
                at += 4 + size
            found[pair[0].lower()] = pair[1]
        return found

    def _block(self, headers: Mapping[str, str]) -> bytes:
        text = struct.pack(">I", len(headers))
        for pair in headers.items():
            for word in pair:
                text += struct.pack(">I", len(word.encode())) + word.encode()
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def encode(self, frame: Frame) -> bytes:
        """Bytes to send, in this order: header blocks depend on those before."""
        match frame:
            case Data(stream, data, fin):
                return struct.pack(">II", stream, (_FIN if fin else 0) << 24 | len(data)) + data
            case Opened(stream, headers, fin, reply):
                body = struct.pack(">I", stream) + (b"" if reply else bytes(6)) + self._block(headers)
                return _control(_SYN_REPLY if reply else _SYN_STREAM, body, fin)
            case Reset(stream, status):
                return _control(_RST_STREAM, struct.pack(">II", stream, status))
            case Ping(number):
                return _control(_PING, struct.pack(">I", number))
            case GoAway():
                return _control(_GOAWAY, bytes(8))


def _stream(body: bytes) -> int:
    number: int = struct.unpack_from(">I", body)[0]
    return number & 0x7FFFFFFF


def _control(kind: int, body: bytes, fin: bool = False) -> bytes:
    return struct.pack(">HHI", _CONTROL | _VERSION, kind, (_FIN if fin else 0) << 24 | len(body)) + body
