"""Datagrams larger than a packet, over a real lab: real kernels fragment, put together and answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.test_packets import (
    _TO,
    address_of,
    family_of,
    host,
    of_peer,
    pod_named,
    routed,
    scene,
    sources,
)
from tests.packets import Row
from tests.packets_dual import DUAL_SCENE, of_row
from tests.packets_fragments import FRAGMENT_ROWS, SIZES
from topo.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with scene(ip_family="dual", objects=DUAL_SCENE) as lab:
        yield lab


@pytest.mark.parametrize("row", FRAGMENT_ROWS, ids=lambda row: row.name)
def test_row(lab: Lab, row: Row) -> None:
    try_large(lab, row, 4)


@pytest.mark.parametrize("row", [of_row(row) for row in FRAGMENT_ROWS], ids=lambda row: row.name)
def test_row_in_ipv6(lab: Lab, row: Row) -> None:
    try_large(lab, row, 6)


def try_large(lab: Lab, row: Row, version: int) -> None:
    to = _TO.fullmatch(row.to)
    assert to, row.to
    word, _, via = to["host"].partition("@")
    address, port, sender = address_of(lab, word, version), int(to["port"]), host(lab, row.sender)
    with routed(lab, address, via) if via else contextlib.nullcontext():
        for size in SIZES:
            if row.expect == "refused":
                with pytest.raises(ConnectionRefusedError):
                    ask(sender, address, port, size)
                continue
            answered = set()
            for _ in range(12):
                name, seen = ask(sender, address, port, size)
                assert seen in sources(lab, row, version)
                answered.add(pod_named(name, row))
            assert answered <= set(row.expect)
            assert len(answered) == 1 or not row.one


def ask(sender: Any, address: str, port: int, size: int) -> tuple[str, str]:
    """Open a connection by a datagram of this size; its answer is as large. Who answers, and whom it sees."""
    with sender.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((address, port))
        text = b"x" * size
        sock.send(b"echo " + text)
        assert sock.recv(8192) == text
        sock.send(b"hostname\n")
        name = sock.recv(4096).decode()
        sock.send(b"clientip\n")
        return name, of_peer(sock.recv(4096).decode())
