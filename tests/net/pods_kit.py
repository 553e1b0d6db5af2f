"""What the tests of pods share: a runtime of their own, pods without wires, an async caller."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from topo.images.image import Container, Port
from topo.netns import Netns
from topo.runtime_client import RuntimeClient
from topo.runtime_wire import connect

_ids = count(1)


class Runtime:
    """A container runtime started for a test, called synchronously."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "runtime.sock"
        self.client = RuntimeClient(self.socket)
        self._open()

    def _open(self) -> None:
        places = ["--socket", str(self.socket), "--dir", f"{self.directory}/pods"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "topo.runtime", "serve", *places],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def request(self, method: str, **arguments: Any) -> Any:
        async def ask() -> Any:
            channel = await connect(str(self.socket))
            try:
                return await channel.request(method, **arguments)
            finally:
                channel.close()

        return asyncio.run(ask())

    def start(self, *containers: Container) -> list[Any]:
        answers: list[Any] = self.request("start", containers=[c.to_json() for c in containers])
        return answers

    def stop(self, *containers: Container, grace: float = 5) -> dict[str, int]:
        codes: dict[str, int] = self.request("stop", ids=[c.id for c in containers], grace=grace)
        return codes

    def crash(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self._wait()

    def start_again(self) -> None:
        self._open()

    def close(self) -> None:
        self.process.terminate()
        self._wait()

    def _wait(self) -> None:
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running_runtime(directory: Path) -> Iterator[Runtime]:
    runtime = Runtime(directory)
    try:
        yield runtime
    finally:
        runtime.close()


def container(netns: Netns, image: str = "busybox", **changes: Any) -> Container:
    """A container of a pod named as its namespace."""
    values: dict[str, Any] = {
        "id": f"c{next(_ids)}",
        "name": "main",
        "image": image,
        "pod": netns.name,
        "namespace": "default",
        "node": "node1",
        "netns": str(netns.path),
        "addresses": ("127.0.0.1",),
        "hostname": netns.name,
        "files": {
            "/etc/resolv.conf": "nameserver 127.0.0.53\n",
            "/etc/hosts": "127.0.0.1 localhost\n",
            "/etc/hostname": f"{netns.name}\n",
        },
    }
    return Container(**{**values, **changes})


def tcp(number: int, name: str = "") -> Port:
    return Port(number=number, name=name)


def udp(number: int) -> Port:
    return Port(number=number, protocol="UDP")


def proportional_kib(pid: int) -> int:
    """Proportional memory (PSS) of a process and all below it."""
    total = 0
    for process in [pid, *_below(pid)]:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def _below(pid: int) -> list[int]:
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [descendant for child in children for descendant in (child, *_below(child))]


__all__ = ["Runtime", "container", "proportional_kib", "running_runtime", "tcp", "udp"]
