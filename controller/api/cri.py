"""The CRI's log format, in which a container runtime keeps what containers write. Pure: bytes and values.

    2026-11-23T04:00:00.123456789Z stdout F a whole line
    2026-11-23T04:00:00.123456789Z stderr P a piece, more of the line follows

From Kubernetes' "CRI: Log Management for Container Stdout/Stderr Streams". Here the time always has nine
digits, so that it has one width and compares as bytes. Who writes is the runtime, who shows is ``logs``.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import NamedTuple

STDOUT, STDERR = b"stdout", b"stderr"
_TAG_AT, _WHOLE = 38, ord("F")
_RECORD = re.compile(rb"^(\S{30}) (stdout|stderr) ([FP]) ([^\n]*\n)", re.MULTILINE)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


class Entry(NamedTuple):
    """``text`` ends with a newline when the line does."""

    time: bytes
    stream: bytes
    text: bytes


def stamp(nanoseconds: int) -> bytes:
    """A time since 1970, as it stands in a log."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09}Z".encode()


def stamp_of(text: str) -> bytes:
    """The same of an RFC 3339 time in any zone; ValueError when it is none."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f'parsing time "{text}" as RFC 3339: cannot parse "{text}"')
    zone = "+00:00" if found[3] in "Zz" else found[3]
    whole = datetime.fromisoformat(found[1].upper() + zone).astimezone(UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{found[2] or '':0<9}Z".encode()


def encode(data: bytes, stream: bytes, now: bytes) -> bytes:
    """What was written at one moment, as records."""
    lines, newline, rest = data.rpartition(b"\n")
    head = now + b" " + stream
    records = b""
    if newline:
        whole = head + b" F "
        records = whole + lines.replace(b"\n", b"\n" + whole) + b"\n"
    return records + head + b" P " + rest + b"\n" if rest else records


def decode(records: bytes) -> tuple[list[Entry], int]:
    """The complete records, and how many bytes they are. What is no record is left out."""
    end = records.rfind(b"\n") + 1
    found = []
    for when, stream, tag, text in _RECORD.findall(records, 0, end):
        found.append(Entry(when, stream, text if tag == b"F" else text[:-1]))
    return found, end


def start_of_tail(records: bytes, count: int) -> int:
    """Where the last ``count`` lines begin; one that has no end yet is a line."""
    at, seen = records.rfind(b"\n") + 1, 0
    end = at
    while at > 0:
        start = records.rfind(b"\n", 0, at - 1) + 1
        if (at - start > _TAG_AT and records[start + _TAG_AT] == _WHOLE) or at == end:
            if seen == count:
                return at
            seen += 1
        at = start
    return 0
