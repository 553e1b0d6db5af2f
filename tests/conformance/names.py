"""How the cases ask for names, and name servers of their own to be asked. What ought to come is theirs.

As upstream, every name is asked for by UDP and by TCP (dig) and of the C library (getent).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.conformance.kit import Kit
from topo.hosts import HostHandle

ZONE = "cluster.local"
DNS_PORT = 53
Records = Mapping[tuple[str, str], str]
"""(absolute name, type) -> the record's text."""


def full(kit: Kit, name: str) -> str:
    return f"{name}.{kit.namespace}.svc.{ZONE}"


def dig(
    kit: Kit, sender: str | HostHandle, name: str, kind: str = "A", *, tcp: bool = False, search: bool = True
) -> set[str]:
    """The lines of ``dig +short``; empty when there is no such record."""
    words = ["+tcp" if tcp else "+notcp", "+search" if search else "+nosearch"]
    done = kit.host(sender).run(["dig", "+short", "+time=2", "+tries=1", *words, name, kind])
    return {line for line in done.stdout.splitlines() if not line.startswith(";")}


def resolves(
    kit: Kit,
    sender: str | HostHandle,
    name: str,
    expect: Sequence[str],
    kind: str = "A",
    *,
    search: bool = True,
) -> None:
    """By UDP and by TCP exactly these records come. What was just changed may take its moment."""
    for tcp in (False, True):
        seen: list[set[str]] = []

        def right(tcp: bool = tcp, seen: list[set[str]] = seen) -> bool:
            seen.append(dig(kit, sender, name, kind, tcp=tcp, search=search))
            return seen[-1] == set(expect)

        try:
            kit.until(right, "right", 4)
        except AssertionError:
            how = "TCP" if tcp else "UDP"
            told = sorted(seen[-1]) or "nothing"
            raise AssertionError(f"{kind} {name} by {how}: {told}, not {sorted(expect)}") from None


def library(kit: Kit, sender: str | HostHandle, name: str, expect: str) -> None:
    """The C library, which reads /etc/hosts and resolv.conf as every program does."""
    done = kit.host(sender).run(["getent", "ahostsv4", name])
    found = {line.split()[0] for line in done.stdout.splitlines()}
    assert found == {expect}, f"getent {name}: {sorted(found) or 'nothing'}, not {expect}"


@contextlib.contextmanager
def name_server(host: HostHandle, records: Records) -> Iterator[str]:
    """A name server in a host's network, by UDP and TCP, that knows these records; its address."""
    known = {(name.lower().rstrip(".") + ".", kind): text for (name, kind), text in records.items()}
    with contextlib.ExitStack() as stack:
        for kind, serve in ((socket.SOCK_DGRAM, _datagrams), (socket.SOCK_STREAM, _connections)):
            sock = stack.enter_context(contextlib.closing(host.socket(socket.AF_INET, kind)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", DNS_PORT))
            thread = threading.Thread(target=serve, args=(sock, known), daemon=True)
            stack.callback(thread.join, 2)
            stack.callback(_wake, host, kind)
            if kind == socket.SOCK_STREAM:
                sock.listen()
            thread.start()
        yield str(host.ip)


def _wake(host: HostHandle, kind: int) -> None:
    """Nothing said, by datagram or by connection, ends the thread."""
    with contextlib.closing(host.socket(socket.AF_INET, kind)) as sock:
        sock.connect((str(host.ip), DNS_PORT))
        if kind == socket.SOCK_DGRAM:
            sock.send(b"")


def _datagrams(sock: socket.socket, records: Records) -> None:
    while True:
        data, peer = sock.recvfrom(65535)
        if not data:
            return
        sock.sendto(_answer(data, records), peer)


def _connections(sock: socket.socket, records: Records) -> None:
    """One question a connection."""
    while True:
        connection, _ = sock.accept()
        with contextlib.closing(connection), connection.makefile("rwb") as stream:
            head = stream.read(2)
            if not head:
                return
            answer = _answer(stream.read(int.from_bytes(head)), records)
            stream.write(len(answer).to_bytes(2) + answer)


def _answer(data: bytes, records: Records) -> bytes:
    query = dns.message.from_wire(data)
    answer = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    name, kind = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
    if (name, kind) in records:
        answer.answer.append(dns.rrset.from_text(question.name, 5, "IN", kind, records[name, kind]))
    elif not any(known == name for known, _ in records):
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer.to_wire()
