"""Questions to a nameserver as a pod's resolver asks them: scapy makes and reads the messages.

Asks from a host's namespace by ordinary sockets, so that its kernel is as it would be with any program.
What to ask for next is decided here (glibc's order); what the answers should be is ``dns_records``'.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.api.errors import UsageError
from topo.images.resolver import ResolvConf

PORT = 53
ADDRESSES = ("A", "AAAA")
"""What getaddrinfo asks for, both at once, from one socket."""
MakeSocket = Callable[[int], socket.socket]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back to one question; ``rcode`` is ``timeout``, ``refused`` ... where no message did."""

    name: str
    type: str
    rcode: str
    records: tuple[tuple[str, str, int], ...] = ()
    """Type, data and TTL of the answer section."""
    ms: float = 0.0
    octets: int = 0
    server: str = ""
    port: int = 0
    tcp: bool = False

    @property
    def data(self) -> list[str]:
        """The data of the type that was asked for, in order."""
        return sorted(data for type, data, _ in self.records if type == self.type)

    @property
    def says(self) -> str:
        """In one line; an answer without a record is NODATA."""
        if self.rcode == "NOERROR":
            return ", ".join(f"{type} {data}" for type, data, _ in self.records) or "NODATA"
        return self.rcode

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "records": [list(record) for record in self.records]}


@dataclass(frozen=True, kw_only=True)
class Asker:
    """How questions are asked: ``make_socket(kind)`` makes one in the source's namespace."""

    make_socket: MakeSocket
    servers: Sequence[str]
    tcp: bool = False
    timeout: float = 5
    attempts: int = 2

    def ask(self, name: str, types: Sequence[str] = ADDRESSES) -> list[Answer]:
        """Every attempt to get one name: the last ones are the result, those before ended in nothing."""
        tried: list[Answer] = []
        for _ in range(self.attempts):
            for server in self.servers:
                answers = self._round(name, types, server, self.tcp)
                tried += answers
                if any(answer.rcode == "TRUNCATED" for answer in answers):
                    answers = self._round(name, types, server, True)
                    tried += answers
                if all(answer.rcode in ("NOERROR", "NXDOMAIN") for answer in answers):
                    return tried
        return tried

    def _round(self, name: str, types: Sequence[str], server: str, tcp: bool) -> list[Answer]:
        """One question for each type, at once by UDP, one after the other on one TCP connection."""
        pending = dict(zip(_ids(len(types)), types, strict=True))
        messages = [encode(name, type, number) for number, type in pending.items()]
        start, found, fate = time.monotonic(), [], "timeout"
        family = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        with self.make_socket(family) as sock:
            port = 0
            try:
                sock.settimeout(self.timeout)
                sock.connect((server, PORT))
                port = sock.getsockname()[1]
                for message in messages:
                    sock.sendall(len(message).to_bytes(2, "big") + message if tcp else message)
                while pending:
                    left = self.timeout - (time.monotonic() - start)
                    if left <= 0:
                        break
                    sock.settimeout(left)
                    data = _read(sock) if tcp else sock.recv(65535)
                    ms = (time.monotonic() - start) * 1000
                    number, rcode, records = decode(data)
                    if number not in pending:
                        continue  # of an earlier question, or of nobody
                    found.append(
                        Answer(
                            name=name,
                            type=pending.pop(number),
                            rcode=rcode,
                            records=records,
                            ms=ms,
                            octets=len(data),
                            server=server,
                            port=port,
                            tcp=tcp,
                        )
                    )
                if tcp:
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)  # the server's end, so that the capture has the whole connection
            except TimeoutError:
                pass
            except OSError as error:
                fate = (error.strerror or str(error)).lower()
        ms = (time.monotonic() - start) * 1000
        found += [
            Answer(name=name, type=type, rcode=fate, ms=ms, server=server, port=port, tcp=tcp)
            for type in pending.values()
        ]
        return sorted(found, key=lambda answer: types.index(answer.type))


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Everything that was asked for one name, in order."""

    name: str
    answers: tuple[Answer, ...] = field(default=())

    @property
    def found(self) -> str:
        """The full name that has records; empty when none has."""
        return next((answer.name for answer in self.answers if answer.data), "")

    @property
    def addresses(self) -> list[str]:
        return [data for answer in self.answers if answer.name == self.found for data in answer.data]

    @property
    def questions(self) -> int:
        return len(self.answers)

    @property
    def ms(self) -> float:
        """Both questions of a round are under way at once: the slower one counts."""
        rounds: dict[tuple[str, int], float] = {}
        for answer in self.answers:
            key = (answer.name, answer.port)
            rounds[key] = max(rounds.get(key, 0), answer.ms)
        return sum(rounds.values())

    def ports(self) -> set[int]:
        return {answer.port for answer in self.answers}


def walk(name: str, conf: ResolvConf, asker: Asker, types: Sequence[str] = ADDRESSES) -> Walk:
    """Ask for each name of the search list until one has a record, as glibc does.

    A name that exists without the record (NODATA) is passed over, too; a server that cannot say ends it.
    """
    answers: list[Answer] = []
    for full in conf.names(name):
        got = asker.ask(full + ".", types)
        answers += got
        last = got[-len(types) :]
        if any(answer.data for answer in last):
            break
        if not all(answer.rcode in ("NOERROR", "NXDOMAIN") for answer in last):
            break
    return Walk(name=name, answers=tuple(answers))


def check_name(name: str) -> str:
    """The name, if DNS can carry it; UsageError else."""
    labels = name.rstrip(".").split(".")
    if len(name.rstrip(".")) > 253 or not all(0 < len(label.encode()) <= 63 for label in labels):
        raise UsageError(f"{name}: no name that DNS could carry (labels of 1 to 63 octets, at most 253)")
    return name


def encode(name: str, type: str, number: int) -> bytes:
    """A question that wishes recursion, without EDNS, as glibc asks."""
    from scapy.layers.dns import DNS, DNSQR

    return bytes(DNS(id=number, rd=1, qd=[DNSQR(qname=name, qtype=type)]))


def decode(data: bytes) -> tuple[int, str, tuple[tuple[str, str, int], ...]]:
    """Its number, what it says (TRUNCATED when it says that it is) and the records of the answer."""
    from scapy.layers.dns import DNS

    message = DNS(data)
    rcode = "TRUNCATED" if message.tc else _RCODES.get(int(message.rcode), f"rcode {message.rcode}")
    return int(message.id), rcode, tuple(_record(record) for record in message.an or ())


_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def _record(record: Any) -> tuple[str, str, int]:
    from scapy.layers.dns import dnstypes

    type = str(dnstypes.get(record.type, record.type))
    if type == "SRV":
        data = f"{record.priority} {record.weight} {record.port} {_text(record.target)}"
    else:
        data = _text(record.rdata)
    return type, data, int(record.ttl)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(one) for one in value)
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)


def _ids(count: int) -> list[int]:
    numbers: set[int] = set()
    while len(numbers) < count:
        numbers.add(secrets.randbelow(1 << 16))
    return list(numbers)


def _read(sock: socket.socket) -> bytes:
    """One message of a TCP connection."""
    length = int.from_bytes(_exactly(sock, 2), "big")
    return _exactly(sock, length)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionResetError(104, "the server has closed the connection")
        data += more
    return data
