"""Handles on the lab's hosts: what a scenario or a test does in a node, a pod, or outside.

A handle is cheap and holds no state of its own, so it stays right when a node gets another address; a
pod's is for one pod, and says so when that pod is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import IO, Any

from controller.api.errors import UserError
from controller.api.objects import Obj
from topo.netns import Netns
from topo.network import Network
from topo.network_hosts import EndHost
from topo.plan import Address
from topo.runtime_client import Exec, RuntimeClient

Argv = Sequence[str] | str


def argv_of(command: Argv) -> list[str]:
    """A text is a shell's line, a sequence is a program with its arguments."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


class HostHandle:
    """A host by its name (Mininet's, and that of its network namespace)."""

    def __init__(self, network: Network, name: str) -> None:
        self._network, self.name = network, name

    @property
    def mininet(self) -> EndHost:
        """The host as Mininet has it."""
        host: EndHost | None = self._network.nameToNode.get(self.name)
        if host is None:
            raise UserError(f"there is no host {self.name} any more")
        return host

    @property
    def ip(self) -> IPv4Address:
        return self.mininet.address

    @property
    def ips(self) -> tuple[Address, ...]:
        """Its addresses, one of each family the cluster has."""
        return self.mininet.addresses

    @property
    def netns(self) -> Netns:
        return self.mininet.netns

    @property
    def link(self) -> str:
        """The label of its link, for captures."""
        return self.name

    def run(
        self, command: Argv, *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and collect what it said; TimeoutExpired (and killed) if it does not end."""
        argv = argv_of(command)
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.netns.popen(
            argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        with process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def popen(self, command: Argv, **options: Any) -> Any:
        """subprocess.Popen in here, for what runs beside."""
        return self.netns.popen(argv_of(command), **options)

    def socket(
        self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM, proto: int = 0
    ) -> sockets.socket:
        """A socket of this host's network, used from the caller's process."""
        return self.netns.socket(family, kind, proto)

    def cmd(self, command: str) -> str:
        """Mininet's way: one line to the host's shell, answered with its output."""
        with self._network.lock:
            return str(self.mininet.cmd(command))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Outside(HostHandle):
    """A client beyond the router."""


class Node(HostHandle):
    """A node's own network namespace, beside its bridge."""

    def __init__(
        self, network: Network, name: str, readdress: Callable[[str, IPv4Address | None], IPv4Address]
    ) -> None:
        super().__init__(network, name)
        self._readdress = readdress

    @property
    def bridge(self) -> str:
        return self._network.plan.node(self.name).bridge

    @property
    def link(self) -> str:
        return f"{self.name}-host"

    @property
    def uplink(self) -> str:
        """The label of the link between its bridge and the router."""
        return f"{self.name}-uplink"

    def readdress(self, new: IPv4Address | str | None = None) -> IPv4Address:
        """Give the node another address while it runs (the plan's next spare one); the old one is gone.

        The Node object follows; what depends on it does after ``settle``.
        """
        return self._readdress(self.name, IPv4Address(new) if new is not None else None)


class Pod(HostHandle):
    """A pod. Commands run inside its containers' namespaces, as with kubectl exec."""

    def __init__(self, network: Network, name: str, obj: Obj, runtime: RuntimeClient) -> None:
        super().__init__(network, name)
        self.obj, self._runtime = obj, runtime
        self.pod: str = obj["metadata"]["name"]
        self.namespace: str = obj["metadata"]["namespace"]
        self.node: str = obj["spec"]["nodeName"]

    @property
    def link(self) -> str:
        return f"{self.node}-{self.name}"

    def run(
        self, command: Argv, *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self._runtime.run(
            self.pod, argv_of(command), namespace=self.namespace, input=input or "", timeout=timeout
        )

    def popen(self, command: Argv, **options: Any) -> PodProcess:
        """A command that runs beside; ``stdin``, ``stdout`` and ``stderr`` as subprocess has them."""
        return PodProcess(
            lambda fds: self._runtime.popen(self.pod, argv_of(command), namespace=self.namespace, fds=fds),
            **options,
        )


class PodProcess:
    """A command in a pod with the face of subprocess.Popen (text): wait, poll, kill, communicate."""

    def __init__(
        self,
        start: Callable[[tuple[int, int, int]], Exec],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        ours: list[IO[str] | None] = []
        theirs: list[int] = []
        with contextlib.ExitStack() as stack:
            for number, wanted in enumerate((stdin, stdout, stderr)):
                near, far = self._stream(number, wanted, theirs, stack)
                ours.append(near)
                theirs.append(far)
            self._exec = start((theirs[0], theirs[1], theirs[2]))
        self.stdin, self.stdout, self.stderr = ours

    @staticmethod
    def _stream(
        number: int, wanted: int | None, so_far: Sequence[int], stack: contextlib.ExitStack
    ) -> tuple[IO[str] | None, int]:
        """(our end, the descriptor the command gets); the latter is closed when the command has it."""
        if wanted == subprocess.PIPE:
            read, write = os.pipe()
            near, far = (write, read) if number == 0 else (read, write)
            stack.callback(os.close, far)
            return open(near, "w" if number == 0 else "r", encoding="utf-8", errors="replace"), far
        if wanted == subprocess.STDOUT:
            return None, so_far[1]
        if wanted is None or wanted == subprocess.DEVNULL:
            far = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, far)
            return None, far
        return None, wanted

    @property
    def returncode(self) -> int | None:
        return self._exec.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._exec.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        return self._exec.wait(timeout)

    def kill(self) -> None:
        self._exec.kill()

    terminate = kill

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it said until its end (outputs that are pipes, one after the other: for little)."""
        if self.stdin:
            self.stdin.close()
        out = self.stdout.read() if self.stdout else ""
        err = self.stderr.read() if self.stderr else ""
        self.wait(timeout)
        self.close()
        return out, err

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                stream.close()
        self._exec.close()

    def __enter__(self) -> PodProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
