"""Network namespaces: made, named, entered, used to start programs and to open sockets.

A namespace is an open descriptor. Its name, /run/netns/NAME, is a symbolic link to that descriptor
(/proc/PID/fd/N) and no bind mount: ``ip netns exec``, ``ip link set ... netns NAME`` and nsenter
follow it alike, while a mount would be copied into the mount namespace of every pod (1,000 pods, a
million mounts) and cost an RCU grace period to remove. So a namespace lives as long as the process
that made it keeps the object, and the processes and sockets in it.

Nothing here knows of nodes, pods or links. All functions may be called from any thread.
"""

from __future__ import annotations

import fcntl
import os
import socket as sockets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from topo import linux

NAMES = Path("/run/netns")
_CURRENT = "/proc/thread-self/ns/net"
_T = TypeVar("_T")

_NS_GET_NSTYPE = 0xB703
_KINDS = {
    linux.CLONE_NEWNS: "mnt",
    linux.CLONE_NEWUTS: "uts",
    linux.CLONE_NEWIPC: "ipc",
    linux.CLONE_NEWPID: "pid_for_children",
    linux.CLONE_NEWNET: "net",
}


def _new_worker() -> ThreadPoolExecutor:
    # CLONE_FS: a thread that shares its current directory with others may not change mount namespace.
    return ThreadPoolExecutor(1, "netns", initializer=lambda: linux.unshare(linux.CLONE_FS))


# Programs are started from one thread that never ends, because PR_SET_PDEATHSIG follows the starting
# *thread*; and namespaces are made in it, because no signal handler can interrupt it half way.
_worker = _new_worker()
os.register_at_fork(after_in_child=lambda: globals().update(_worker=_new_worker()))


class Netns:
    """One network namespace. ``fd`` is a descriptor of it, None once deleted."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd: int | None = fd
        self._named = False  # whether /run/netns/NAME is ours

    @classmethod
    def create(cls, name: str) -> Netns:
        """Make a namespace with ``lo`` up, named for ``ip netns``. FileExistsError when the name is taken."""
        return cls.create_all([name])[0]

    @classmethod
    def create_all(cls, names: Sequence[str]) -> list[Netns]:
        """Make several at once: all of them, or none."""
        NAMES.mkdir(parents=True, exist_ok=True)
        made: list[Netns] = []
        try:
            _worker.submit(_make, names, made).result()
            for netns in made:
                os.symlink(f"/proc/{os.getpid()}/fd/{netns.fd}", netns.path)
                netns._named = True
        except BaseException:
            for netns in made:
                netns.delete()
            raise
        return made

    @classmethod
    def open(cls, name: str) -> Netns:
        """A namespace somebody else made. Deleting it only lets go of it."""
        return cls(name, os.open(NAMES / name, os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def current(cls) -> Netns:
        """The namespace of the calling thread."""
        return cls("", os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC))

    @property
    def fd(self) -> int:
        """Descriptor for setns(2) and for netlink's IFLA_NET_NS_FD."""
        assert self._fd is not None, f"network namespace {self.name} is deleted"
        return self._fd

    @property
    def path(self) -> Path:
        """Where ``ip netns`` finds it."""
        return NAMES / self.name

    def delete(self) -> None:
        """Let go of it and, if made here, take the name away; twice is fine.

        The kernel ends the namespace and its interfaces once the last process and socket is gone.
        """
        if self._named:
            with suppress(FileNotFoundError):
                self.path.unlink()
            self._named = False
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @contextmanager
    def enter(self) -> Iterator[None]:
        """The calling thread is in this namespace for the length of a ``with`` block."""
        with _entered(self.fd):
            yield

    def call(self, function: Callable[[], _T]) -> _T:
        """Call a short function inside, on the helper thread; for callers that catch signals."""

        def inside() -> _T:
            with self.enter():
                return function()

        return _worker.submit(inside).result()

    def socket(
        self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM, proto: int = 0
    ) -> sockets.socket:
        """A socket that belongs to this namespace, whoever uses it."""
        return self.call(lambda: sockets.socket(family, kind, proto))

    def popen(
        self, argv: Sequence[str], *, also: Sequence[int] = (), **options: Any
    ) -> subprocess.Popen[Any]:
        """subprocess.Popen inside; ``also`` are descriptors of further namespaces (mount, uts, ipc).

        The helper thread starts it from within the namespaces, so no code of ours runs between fork
        and exec. The program keeps the terminal's process group unless ``process_group=0`` is given.
        """
        # The helper thread's own directory is not ours, and "/" once it has been in a mount namespace.
        options.setdefault("cwd", "/" if also else os.getcwd())

        def start() -> subprocess.Popen[Any]:
            with ExitStack() as back:
                for fd in (self.fd, *also):
                    back.enter_context(_entered(fd))
                return subprocess.Popen(argv, **options)

        return _worker.submit(start).result()

    def __enter__(self) -> Netns:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    def __repr__(self) -> str:
        return f"Netns({self.name!r}, fd={self._fd})"


def _make(names: Sequence[str], made: list[Netns]) -> None:
    with _entered(None):
        for name in names:
            linux.unshare(linux.CLONE_NEWNET)
            made.append(Netns(name, os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)))
            linux.interface_up("lo")


@contextmanager
def _entered(fd: int | None) -> Iterator[None]:
    """The calling thread enters a namespace of any kind, and comes back; None: a network one to be made."""
    kind = linux.CLONE_NEWNET if fd is None else fcntl.ioctl(fd, _NS_GET_NSTYPE)
    before = os.open(f"/proc/thread-self/ns/{_KINDS[kind]}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            if fd is not None:
                linux.setns(fd, kind)
            yield
        finally:
            linux.setns(before, kind)
    finally:
        os.close(before)
