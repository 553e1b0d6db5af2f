"""What a lab could leave on a machine, and the means to end each of its processes at any moment.

Reusable for every way to start a lab. The "machine" is the sandbox
the tests run in, so nothing else comes and goes in it.

    with nothing_left() as start:
        chain = start(["./lab", "nodeport"])
        chain.reach(LAB)
        chain.kill("process 1")
        assert chain.end() == 137

"""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from topo.sandbox_init import MARK

TIMEOUT = 20.0  # seconds to wait for any condition
_LOOK = 0.001
_DIRECTORIES = ("/run", "/etc/openvswitch", "/var/log/openvswitch", "/tmp", "/var/tmp/podwire", "/dev/shm")
_NAMESPACES = ("net", "mnt", "uts", "ipc", "pid")


def until(what: str, condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s in vain: {what}"
        time.sleep(_LOOK)


def snapshot() -> set[str]:
    """Everything a lab could leave, one line each."""
    found = {f"link {name}" for _, name in socket.if_nameindex()}
    found |= {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    for directory in _DIRECTORIES:
        for where, directories, files in os.walk(directory):
            found |= {f"file {where}/{entry}" for entry in directories + files}
            # Not Path.is_mount, which raises for what is gone by now.
            directories[:] = [entry for entry in directories if not os.path.ismount(Path(where, entry))]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.add(f"process {process.name} {command}")
                found |= {f"namespace {(process / 'ns' / kind).readlink()}" for kind in _NAMESPACES}
    if Path("/run/openvswitch/db.sock").exists():
        bridges = subprocess.run(["ovs-vsctl", "list-br"], capture_output=True, text=True, check=True).stdout
        found |= {f"bridge {bridge}" for bridge in bridges.split()}
    return found


@dataclass(frozen=True)
class Moment:
    """A point in a lab's life: a name and how to see that it has come."""

    name: str
    reached: Callable[[Chain], bool]


class Chain:
    """A command that starts a lab, and the processes of its chain.

    ``through_sudo`` says that the command's first process only waits for the outermost Python.
    """

    def __init__(self, argv: list[str], *, through_sudo: bool = False, terminal: bool = False) -> None:
        if terminal:
            self._reader, theirs = pty.openpty()
            # setsid -c makes it the controlling terminal and us its foreground group, as a login does.
            argv = ["setsid", "-c", *argv]
        else:
            self._reader, theirs = os.pipe2(os.O_CLOEXEC)
        self.command = subprocess.Popen(
            argv,
            stdin=theirs if terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=not terminal,
        )
        os.close(theirs)
        self.through_sudo = through_sudo
        self._output = b""

    def processes(self) -> dict[str, int]:
        """The chain as far as it has come: sudo, outside, process 1, lab."""
        names = (["sudo"] if self.through_sudo else []) + ["outside", "process 1", "lab"]
        found: dict[str, int] = {}
        pid: int | None = self.command.pid
        for name in names:
            if pid is None:
                break
            found[name] = pid
            pid = _only_child(pid)
        return found

    def type(self, keys: str) -> None:
        """Type on the chain's terminal."""
        os.write(self._reader, keys.encode())

    def kill(self, member: str, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process of the chain, alone."""
        os.kill(self.processes()[member], signum)

    def said(self, text: str) -> bool:
        """Whether the lab has printed this."""
        while select.select([self._reader], [], [], 0)[0]:
            got = b""
            with suppress(OSError):  # a terminal whose last user is gone
                got = os.read(self._reader, 65536)
            if not got:
                break
            self._output += got
        return text in self.output

    @property
    def output(self) -> str:
        """All that was printed and read so far."""
        return self._output.decode(errors="replace")

    def reach(self, moment: Moment) -> None:
        """Wait for a moment; fail when the chain ends before."""
        until(
            f"{moment.name}; printed so far: {self.output}",
            lambda: moment.reached(self) or self.command.poll() is not None,
        )

    def end(self) -> int:
        """Wait for the command and return its exit status, negative for a signal."""
        # Read on while waiting: a full pipe would stop the lab from ending.
        until(f"the command ends; it has printed: {self.output}", lambda: self.said("") and self._over())
        self.said("")
        os.close(self._reader)
        return self.command.returncode

    def abandon(self) -> None:
        """The test has failed: end what runs."""
        if self.command.poll() is None:
            for pid in reversed(self.processes().values()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.command.wait(TIMEOUT)

    def _over(self) -> bool:
        return self.command.poll() is not None


@contextmanager
def nothing_left() -> Iterator[Callable[..., Chain]]:
    """Gives what starts a Chain; after the block the machine is, or shortly becomes, what it was before."""
    before = snapshot()
    chains: list[Chain] = []

    def start(argv: list[str], **options: bool) -> Chain:
        chains.append(Chain(argv, **options))
        return chains[-1]

    try:
        yield start
    except BaseException:
        for chain in chains:
            chain.abandon()
        raise
    left: set[str] = set()

    def clean() -> bool:
        nonlocal left
        left = snapshot() - before
        return not left

    try:
        until("nothing is left", clean)
    except AssertionError:
        raise AssertionError("left behind:\n" + "\n".join(sorted(left))) from None


def _only_child(pid: int) -> int | None:
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
    return None


def _has(member: str) -> Callable[[Chain], bool]:
    return lambda chain: member in chain.processes()


def _covered(chain: Chain) -> bool:
    pid = chain.processes().get("process 1")
    return pid is not None and Path(f"/proc/{pid}/root{MARK}").exists()


def _in_new_netns(chain: Chain) -> bool:
    pid = chain.processes().get("process 1")
    with suppress(OSError):
        own = Path("/proc/self/ns/net").readlink()
        return pid is not None and Path(f"/proc/{pid}/ns/net").readlink() != own
    return False


def said(text: str) -> Moment:
    """The lab has printed this."""
    return Moment(f"it has printed '{text}'", lambda chain: chain.said(text))


# In order. At the first two there is no process 1 yet, or it has done nothing.
STARTED = Moment("the command has started", lambda chain: True)
FORKED = Moment("process 1 exists", _has("process 1"))
TAKEN = Moment("the lab has its directory", lambda _: any(Path("/run/podwire").glob("small*/")))
UNSHARED = Moment("process 1 has a network namespace", _in_new_netns)
COVERED = Moment("process 1 has covered /run", _covered)
LAB = Moment("the lab process exists", _has("lab"))
