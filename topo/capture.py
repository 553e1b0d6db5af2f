"""Captures on any of the lab's links, recorded inside the process that asks.

No dumpcap to wait for: a link's recorder is an AF_PACKET socket, ready when ``start`` returns, and its
queue is read to the end by ``stop``. Timestamps are the kernel's. What packets mean (flows, translation)
is the scenarios' matter.
"""

from __future__ import annotations

import ctypes
import errno
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from controller.api.errors import PodwireError
from topo import pcapng
from topo.netns import Netns

SO_TIMESTAMPNS, SO_RCVBUFFORCE, SO_ATTACH_FILTER = 35, 33, 26
SOL_PACKET, PACKET_STATISTICS = 263, 6
ETH_P_ALL = 3
RECEIVE_BUFFER = 64 << 20
"""Bytes a link may run ahead of us; only what waits is used."""
_BIGGEST = 65536 + 64
_TURN = 1000
_RETURN_0 = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
_NOTHING = struct.pack("HP", 1, ctypes.addressof(_RETURN_0))
"""A socket filter (struct sock_fprog) that lets no packet in: the queue ends where it stands."""


@dataclass(frozen=True, kw_only=True)
class LinkEnd:
    """The end of a link at which it is captured: the bridge's or the router's, never the host's own.

    ``netns`` is empty for the sandbox's root namespace, where the bridges are.
    """

    label: str
    host: str
    netns: str
    interface: str


class Captured(NamedTuple):
    """One frame on one link. ``direction``: "in" (to bridge or router) when the host sent it, else "out"."""

    time_ns: int
    link: str
    direction: str
    data: bytes


def keep_timestamps() -> socket.socket:
    """Keep the kernel stamping packets for as long as the socket lives.

    It starts and stops with the first and last socket that wants it, by a work queue: without this the
    first packets of a capture carry the time at which they were read.
    """
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return keeper


class Capture:
    """A recorder on several links: ``with Capture(links) as capture: ...``.

    Kept in memory, or with ``stream`` written to a file as it comes (then ``packets`` stays empty).
    """

    def __init__(self, links: Sequence[LinkEnd], *, stream: BinaryIO | None = None) -> None:
        self.links = list(links)
        self.dropped: dict[str, int] = {}
        """Packets that came faster than they could be read, by link; complete after ``stop``."""
        self._stream = stream
        self._packets: list[Captured] = []
        self._received = dict.fromkeys((link.label for link in links), 0)
        self._news = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._record, name="capture", daemon=True)
        self._failed: BaseException | None = None

    def start(self) -> Capture:
        """Every packet from now on is recorded."""
        spaces: dict[str, Netns] = {}
        try:
            for link in self.links:
                if link.netns and link.netns not in spaces:
                    spaces[link.netns] = Netns.open(link.netns)
                self._sockets.append(_listen(link, spaces.get(link.netns)))
        except BaseException:
            self._close()
            raise
        finally:
            for space in spaces.values():
                space.delete()
        if self._stream:
            self._stream.write(pcapng.section_header())
            self._stream.writelines(_interface(link) for link in self.links)
            self._stream.flush()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Record what the kernel has seen until now, and no more. Twice is fine."""
        if self._thread.ident is None or not self._sockets:
            return
        for sock in self._sockets:
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _NOTHING)
        self._wake.send(b"x")
        self._thread.join()
        now = time.time_ns()
        for number, (link, sock) in enumerate(zip(self.links, self._sockets, strict=True)):
            _seen, dropped = struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self.dropped[link.label] = dropped
            if self._stream:
                seen = self._received[link.label]
                self._stream.write(pcapng.statistics(number, now, received=seen + dropped, dropped=dropped))
        if self._stream:
            self._stream.flush()
        self._close()
        if self._failed:
            raise self._failed

    @property
    def packets(self) -> list[Captured]:
        """What was seen so far, by time."""
        with self._news:
            return sorted(self._packets, key=lambda packet: packet.time_ns)

    def wait_for(self, enough: Callable[[Sequence[Captured]], bool], timeout: float = 10) -> list[Captured]:
        """Wait until what was seen satisfies ``enough`` (called with everything, in order of arrival)."""
        with self._news:
            if not self._news.wait_for(lambda: enough(self._packets), timeout):
                seen = ", ".join(f"{count} on {label}" for label, count in self._received.items())
                raise PodwireError(f"the expected packets did not come within {timeout:g} s; seen: {seen}")
        return self.packets

    def write(self, path: str | Path, comments: Mapping[Captured, str] | None = None) -> Path:
        """Everything seen so far as pcapng, one interface block a link, with comments on packets."""
        numbers = {link.label: number for number, link in enumerate(self.links)}
        comments = comments or {}
        now = time.time_ns()
        with open(path, "wb") as file:
            file.write(pcapng.section_header())
            file.writelines(_interface(link) for link in self.links)
            for seen in self.packets:
                file.write(
                    pcapng.packet(
                        numbers[seen.link],
                        seen.time_ns,
                        seen.data,
                        direction=seen.direction,
                        comment=comments.get(seen, ""),
                    )
                )
            for label, number in numbers.items():
                dropped = self.dropped.get(label, 0)
                received = self._received[label] + dropped
                file.write(pcapng.statistics(number, now, received=received, dropped=dropped))
        return Path(path)

    def __enter__(self) -> Capture:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _record(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._woken, selectors.EVENT_READ)
                for number, sock in enumerate(self._sockets):
                    selector.register(sock, selectors.EVENT_READ, number)
                buffer, stopping = bytearray(_BIGGEST), False
                while not stopping:
                    ready = selector.select()
                    stopping = any(key.fileobj is self._woken for key, _ in ready)
                    # The last round reads every queue: readiness was asked before the stop was seen
                    numbers = range(len(self._sockets)) if stopping else [key.data for key, _ in ready]
                    for number in numbers:
                        while self._drain(number, buffer) and stopping:
                            pass
                    if self._stream:
                        self._stream.flush()
        except BaseException as error:
            self._failed = error

    def _drain(self, number: int, buffer: bytearray) -> int:
        """Read from one link's queue until it is empty, or others should have their turn."""
        sock, label = self._sockets[number], self.links[number].label
        batch: list[Captured] = []
        while len(batch) < _TURN:
            try:
                size, ancillary, _flags, address = sock.recvmsg_into([buffer], 64)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # the link was taken away; its queue is still there
                    continue
                raise
            stamp = next((data for level, kind, data in ancillary if kind == SO_TIMESTAMPNS), None)
            seconds, nanoseconds = struct.unpack("=qq", stamp) if stamp else divmod(time.time_ns(), 10**9)
            direction = "out" if address[2] == socket.PACKET_OUTGOING else "in"
            batch.append(Captured(seconds * 10**9 + nanoseconds, label, direction, bytes(buffer[:size])))
        if batch and self._stream:
            self._stream.writelines(
                pcapng.packet(number, seen.time_ns, seen.data, direction=seen.direction) for seen in batch
            )
        with self._news:
            self._received[label] += len(batch)
            if not self._stream:
                self._packets += batch
            self._news.notify_all()
        return len(batch)

    def _close(self) -> None:
        for sock in (*self._sockets, self._wake, self._woken):
            sock.close()
        self._sockets = []


def _listen(link: LinkEnd, netns: Netns | None) -> socket.socket:
    """Protocol 0 at first, so that nothing of other links gets in before the bind."""
    make = netns.socket if netns else socket.socket
    sock = make(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    try:
        sock.bind((link.interface, ETH_P_ALL))
    except OSError as error:
        sock.close()
        raise PodwireError(f"cannot capture on {link.label} ({link.interface}): {error.strerror}") from None
    return sock


def _interface(link: LinkEnd) -> bytes:
    where = f"in namespace {link.netns}" if link.netns else "on its bridge"
    return pcapng.interface(link.label, description=f"{link.host}, seen at {link.interface} {where}")
