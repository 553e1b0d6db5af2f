"""The least of an OpenFlow 1.5 switch: enough of it to shake hands and to say something."""

from __future__ import annotations

import socket
import struct

HELLO, ERROR, FEATURES_REQUEST, FEATURES_REPLY, PORT_STATUS = 0, 1, 5, 6, 12
MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 18, 19, 20, 21
PORT_DESC = 13


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", 6, kind, 8 + len(body), xid) + body


def port(number: int, name: str) -> bytes:
    """An ofp_port of OpenFlow 1.5 without properties."""
    return struct.pack("!IH2x6s2x16sII", number, 40, b"\x02" * 6, name.encode(), 0, 0)


class FakeSwitch:
    """Connects at once; ``handshake`` answers until the controller has all it wants to know."""

    def __init__(
        self, address: tuple[str, int], datapath_id: int, ports: dict[int, str], versions: int = 1 << 6
    ) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.datapath_id, self.ports = datapath_id, ports
        self.send(message(HELLO, 1, struct.pack("!HHI", 1, 8, versions)))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> tuple[int, int, bytes]:
        """(type, xid, body) of the next message; EOFError at the end."""
        head = self._exactly(8)
        _, kind, length, xid = struct.unpack("!BBHI", head)
        return kind, xid, self._exactly(length - 8)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            got = self.socket.recv(size - len(data))
            if not got:
                raise EOFError
            data += got
        return data

    def handshake(self) -> None:
        while True:
            kind, xid, _ = self.receive()
            if kind == FEATURES_REQUEST:
                features = struct.pack("!QIBB2xII", self.datapath_id, 0, 254, 0, 0, 0)
                self.send(message(FEATURES_REPLY, xid, features))
            elif kind == MULTIPART_REQUEST:
                self.reply(xid, PORT_DESC, b"".join(port(n, name) for n, name in self.ports.items()))
                return

    def reply(self, xid: int, kind: int, body: bytes, *, more: bool = False) -> None:
        self.send(message(MULTIPART_REPLY, xid, struct.pack("!HH4x", kind, int(more)) + body))

    def port_status(self, reason: int, number: int, name: str) -> None:
        self.send(message(PORT_STATUS, 0, struct.pack("!B7x", reason) + port(number, name)))

    def drain(self) -> list[tuple[int, bytes]]:
        """(type, body) of all there is until the controller hangs up."""
        answers = []
        try:
            while True:
                kind, _, body = self.receive()
                answers.append((kind, body))
        except (EOFError, ConnectionError):
            return answers

    def close(self) -> None:
        self.socket.close()
