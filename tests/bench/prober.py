"""Asks a UDP Service again and again who answers, each time from a socket of its own.

Each question is a new connection to conntrack (the source ports go round), so the answers tell when new
connections meet a new endpoint; whoever asks for long flushes conntrack now and then.

A thread of the lab process; what is asked is agnhost's ``hostname``.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.bench.boxed import BenchError
from topo.netns import Netns

PACE = 0.001
PORTS = range(20_000, 60_000)
LOST = 0.2
"""Seconds after which a question counts as lost."""


def first_packets(
    netns: Netns, targets: Sequence[tuple[str, int]], count: int, forget: Callable[[], object]
) -> list[list[float]]:
    """Seconds from question to answer for ``count`` new connections to each target, all taking turns.

    Each is the first packet of its connection, on a switch that was just made to ``forget`` what it had
    cached: it walks all tables. A packet on its way while the switch forgets is now and then lost; it is
    sent again and does not count. BenchError when that happens to one in ten.
    """
    lost = 0
    found: list[list[float]] = [[] for _ in targets]
    with netns.enter():
        for round_ in range(count):
            for target, times in zip(targets, found, strict=True):
                while len(times) == round_:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                        sock.settimeout(LOST)
                        sock.connect(target)
                        forget()
                        began = time.perf_counter()
                        try:
                            sock.send(b"hostname")
                            sock.recv(256)
                        except OSError as error:
                            lost += 1
                            if lost > count / 5:
                                raise BenchError(
                                    f"{target[0]}:{target[1]} does not answer: {error}"
                                ) from None
                            continue
                        times.append(time.perf_counter() - began)
    return found


class Prober:
    """``with Prober(...) as prober`` asks until the block ends."""

    def __init__(self, netns: Netns, address: str, port: int) -> None:
        self._netns, self._target = netns, (address, port)
        self._state = threading.Condition()
        self._run: list[tuple[str, float]] = []  # (who, when asked) since the answer last changed
        self.quiet = threading.Lock()
        """Who holds it knows that no question is under way: a flush would lose the answer to one."""
        self._ports = itertools.cycle(PORTS)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="prober", daemon=True)

    def until_calm(self, who: str, count: int, timeout: float = 10) -> float:
        """Wait until the last ``count`` answers are all from ``who``; when the first of them was asked."""

        def calm() -> bool:
            return len(self._run) >= count and self._run[0][0] == who

        with self._state:
            if not self._state.wait_for(calm, timeout):
                last = self._run[-1][0] if self._run else "nobody"
                raise BenchError(f"no {count} answers in a row from {who}; the last one was from {last}")
            return self._run[0][1]

    def _ask_on(self) -> None:
        with self._netns.enter():
            while not self._end.wait(PACE):
                with self.quiet:
                    asked = time.monotonic()
                    who = self._ask()
                with self._state:
                    if self._run and self._run[0][0] != who:
                        self._run.clear()
                    self._run.append((who, asked))
                    self._state.notify_all()

    def _ask(self) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LOST)
            try:
                sock.bind(("", next(self._ports)))
                sock.connect(self._target)
                sock.send(b"hostname")
                return sock.recv(256).decode(errors="replace").strip()
            except OSError as error:
                return type(error).__name__

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
