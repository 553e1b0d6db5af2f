"""DNS messages as bytes: the one place that imports dnspython.

``read`` takes a query apart, ``write`` makes the response to it, ``Patched`` serves one again with another
id and less TTL. What is answered is ``records``'; nothing here knows of zones or sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.IN.SRV
import dns.rrset

from controller.dns.names import Name
from controller.dns.records import Answer, Record

UDP_SIZE = 512
TCP_SIZE = 65535
OUR_SIZE = 4096
"""What our own OPT offers, and the most that is sent in one datagram."""
_IN = dns.rdataclass.IN
_TC = 0x0200


class Refused(Exception):
    """The packet is no question that can be answered; ``response`` says so, None: say nothing."""

    def __init__(self, response: bytes | None) -> None:
        super().__init__("no answer" if response is None else f"rcode {response[3] & 15}")
        self.response = response


@dataclass(frozen=True)
class Query:
    """One question. ``size`` is what the asker takes in a datagram."""

    message: dns.message.Message
    name: Name
    type: str
    internet: bool
    size: int
    data: bytes

    @property
    def id(self) -> int:
        return self.message.id

    @property
    def key(self) -> bytes:
        """All but the id: what an answer depends on."""
        return self.data[2:]

    @property
    def wants_transfer(self) -> bool:
        return self.type in ("AXFR", "IXFR")


def bare(data: bytes, rcode: int) -> bytes:
    """A header alone, as the response to what could not be read."""
    flags = 0x8000 | (int.from_bytes(data[2:4], "big") & 0x7900) | rcode
    return data[:2] + struct.pack("!5H", flags, 0, 0, 0, 0)


def read(data: bytes) -> Query:
    """The question in a packet; Refused for everything else, with what RFC 1035 and CoreDNS answer."""
    if len(data) < 12 or data[2] & 0x80:  # a response is nothing to answer
        raise Refused(None)
    _, flags, questions, answers, authorities, additional = struct.unpack_from("!6H", data)
    if (flags >> 11) & 15 != dns.opcode.QUERY:
        raise Refused(bare(data, dns.rcode.NOTIMP))
    if questions != 1 or answers > 1 or authorities > 1 or additional > 2:
        raise Refused(bare(data, dns.rcode.FORMERR))
    try:
        message = dns.message.from_wire(data)
        question = message.question[0]
        name = tuple(label.decode("latin-1") for label in question.name.labels[:-1])
        type_ = dns.rdatatype.to_text(question.rdtype)
    except Exception:  # whatever a hostile packet brings a parser to
        raise Refused(bare(data, dns.rcode.FORMERR)) from None
    if message.edns > 0:
        response = _response(message)
        response.set_rcode(dns.rcode.BADVERS)
        raise Refused(response.to_wire())
    size = min(max(message.payload, UDP_SIZE), OUR_SIZE) if message.edns == 0 else UDP_SIZE
    return Query(message, name, type_, question.rdclass == _IN, size, data)


def write(
    query: Query,
    answer: Answer,
    *,
    size: int = TCP_SIZE,
    order: Sequence[int] | None = None,
    behind: bytes | None = None,
    recursion: bool = False,
) -> bytes:
    """The response to a query, cut to ``size`` with TC set where it is too long.

    ``order`` permutes the address records; ``behind`` is a response whose answers follow ours (the
    target of a CNAME that somebody else knows). ``recursion``: the answerer resolves everything for others,
    and is no authority of its own.
    """
    response = _response(query.message)
    response.flags |= dns.flags.RA if recursion else dns.flags.AA
    response.set_rcode(dns.rcode.from_text(answer.rcode))
    records = list(answer.answers)
    if order is not None:
        addresses = [record for record in records if record.type in ("A", "AAAA")]
        others = [record for record in records if record.type not in ("A", "AAAA")]
        records = others + [addresses[place] for place in order]
    response.answer = [_rrset(record, query) for record in records]
    if behind is not None:
        more = dns.message.from_wire(behind, one_rr_per_rrset=True, ignore_trailing=True)
        response.answer += more.answer
        response.flags |= more.flags & dns.flags.TC
    response.authority = [_rrset(record, query) for record in answer.authority]
    response.additional = [_rrset(record, query) for record in answer.extra]
    return bytes(response.to_wire(max_size=size, prefer_truncation=True))


def failure(query: Query, rcode: str) -> bytes:
    """A response that says only what went wrong."""
    response = _response(query.message)
    response.set_rcode(dns.rcode.from_text(rcode))
    return bytes(response.to_wire(max_size=TCP_SIZE))


def fit(query: Query, response: bytes, size: int) -> bytes:
    """Somebody else's response to the query, cut to ``size``."""
    if len(response) <= size:
        return response
    message = dns.message.from_wire(response, one_rr_per_rrset=True, ignore_trailing=True)
    return bytes(message.to_wire(max_size=size, prefer_truncation=True))


def question(name: Name, type: str) -> bytes:
    """A query of our own, its id 0, with room for a long answer."""
    made = dns.message.make_query(_name(name), type, use_edns=0, payload=OUR_SIZE, id=0)
    return bytes(made.to_wire())


RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_COMMON = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV"}


def rcode_text(response: bytes) -> str:
    return RCODES.get(rcode_of(response), str(rcode_of(response)))


def type_text(query: bytes) -> str:
    """The type of a well-formed query's question, "other" for the rarer ones."""
    at = _skip_name(query, 12)
    return _COMMON.get(query[at] << 8 | query[at + 1], "other")


def is_response_to(data: bytes, query: bytes) -> bool:
    """Whether a packet answers a query: same id, same question (case included), QR set."""
    end = _skip_name(query, 12) + 4
    return (
        len(data) >= end and data[:2] == query[:2] and data[2] & 0x80 != 0 and data[12:end] == query[12:end]
    )


def rcode_of(response: bytes) -> int:
    return response[3] & 15


def is_truncated(response: bytes) -> bool:
    return bool(response[2] & 2)


def serial_at(response: bytes) -> int:
    """Where the serial of the SOA in a response of ours stands; 0 when there is none."""
    for kind, _, _, end in _records(response):
        if kind == dns.rdatatype.SOA:
            return end - 20  # serial and four times
    return 0


class Patched:
    """A response kept for other askers of the same question; ``lifetime`` in seconds, 0: not to be kept.

    Positive answers live as long as their shortest TTL, negative ones as their SOA says (RFC 2308).
    """

    def __init__(self, response: bytes, *, most: int, least: int = 0) -> None:
        self._response = response
        self._ttls: list[tuple[int, int]] = []
        lifetime = self._walk()
        if is_truncated(response) or rcode_of(response) not in (0, 3) or lifetime is None:
            self.lifetime = 0
        else:
            self.lifetime = min(max(lifetime, least), most)

    def _walk(self) -> int | None:
        answers = int.from_bytes(self._response[6:8], "big")
        found: int | None = None
        try:
            for number, (kind, at, ttl, end) in enumerate(_records(self._response)):
                if kind == dns.rdatatype.OPT:
                    continue  # has flags there
                self._ttls.append((at, ttl))
                if number < answers:
                    found = ttl if found is None else min(found, ttl)
                elif kind == dns.rdatatype.SOA and answers == 0:
                    minimum = struct.unpack_from("!I", self._response, end - 4)[0]
                    found = min(ttl, minimum)
        except (struct.error, IndexError):
            return None
        return found

    def response(self, query: bytes, age: int) -> bytes:
        """For a query of the same question, ``age`` seconds later."""
        made = bytearray(self._response)
        made[:2] = query[:2]
        for at, ttl in self._ttls:
            struct.pack_into("!I", made, at, max(0, min(ttl, self.lifetime) - age))
        return bytes(made)


def _records(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each record of a message: its type, where its TTL stands, the TTL, where it ends."""
    _, _, questions, answers, authorities, additional = struct.unpack_from("!6H", data)
    at = 12
    for _ in range(questions):
        at = _skip_name(data, at) + 4
    for _ in range(answers + authorities + additional):
        at = _skip_name(data, at)
        kind, _, ttl, length = struct.unpack_from("!HHIH", data, at)
        yield kind, at + 4, ttl, at + 10 + length
        at += 10 + length


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0 == 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def _response(message: dns.message.Message) -> dns.message.Message:
    made = dns.message.make_response(message, our_payload=OUR_SIZE)
    if message.edns >= 0:
        made.use_edns(0, message.ednsflags & dns.flags.DO, OUR_SIZE)
    return made


def _name(name: Name) -> dns.name.Name:
    return dns.name.Name([*(label.encode("latin-1") for label in name), b""])


def _rrset(record: Record, query: Query) -> dns.rrset.RRset:
    """One record as a set of its own, so that a long answer is cut between any two of them."""
    owner = query.message.question[0].name if record.name == query.name else _name(record.name)
    return dns.rrset.from_rdata(owner, record.ttl, _rdata(record))


_CLASSES: Mapping[str, Any] = {
    "A": dns.rdtypes.IN.A.A,
    "AAAA": dns.rdtypes.IN.AAAA.AAAA,
    "CNAME": dns.rdtypes.ANY.CNAME.CNAME,
    "NS": dns.rdtypes.ANY.NS.NS,
    "PTR": dns.rdtypes.ANY.PTR.PTR,
    "SOA": dns.rdtypes.ANY.SOA.SOA,
    "SRV": dns.rdtypes.IN.SRV.SRV,
    "TXT": dns.rdtypes.ANY.TXT.TXT,
}


def _rdata(record: Record) -> dns.rdata.Rdata:
    words = [
        _name(word) if isinstance(word, tuple) else word if isinstance(word, int) else str(word)
        for word in record.data
    ]
    made: dns.rdata.Rdata = _CLASSES[record.type](_IN, dns.rdatatype.from_text(record.type), *words)
    return made
