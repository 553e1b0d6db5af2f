"""A second terminal: which labs run, run a command in one, end one.

The kernel kills what was started in a lab when the lab's process 1 ends, and a command started from
here dies with the process that waits for it.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress

from controller.api.errors import MachineError, UsageError
from topo import linux
from topo.sandbox_dir import LabRef, RunDirs, check_name

_STOP_TIMEOUT = 20.0  # seconds; process 1 itself kills a lab that takes more than ten


def labs() -> list[LabRef]:
    """The living labs of this machine (or, inside a sandbox, that one and those within), oldest first."""
    dirs = RunDirs()
    try:
        return dirs.live()
    finally:
        dirs.close()


def find(name: str | None) -> LabRef:
    """The lab of that name; without a name the only one there is."""
    if name is not None:
        check_name(name)
    running = labs()
    for lab in running:
        if name is None or lab.name == name:
            if name is None and len(running) > 1:
                names = ", ".join(one.name for one in running)
                raise UsageError(f"several labs run: {names}; choose one by --lab NAME")
            return lab
    raise UsageError(f"no lab named '{name}' runs" if name else "no lab runs: start one by ./lab up")


def join(name: str | None, argv: Sequence[str]) -> int:
    """Run ``argv`` in the lab with this terminal, and return its exit status (128 + n for a signal)."""
    lab, process_1 = _open(name)
    parent = os.getpid()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(process_1, linux.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            _become(process_1, parent, argv)
        linux.setns(own, linux.CLONE_NEWPID)
    except ProcessLookupError:
        raise UsageError(f"the lab '{lab.name}' has just ended") from None
    except OSError as error:
        raise MachineError(f"cannot enter the lab '{lab.name}': {error.strerror}") from None
    finally:
        os.close(own)
        os.close(process_1)
    # A Ctrl-C is the command's business: it is in the same process group.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def stop(name: str | None) -> LabRef:
    """End the lab in order and return when nothing of it is left."""
    lab, process_1 = _open(name)
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process_1, signal.SIGTERM)
        if not select.select([process_1], [], [], _STOP_TIMEOUT)[0]:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process_1, signal.SIGKILL)
            select.select([process_1], [], [], _STOP_TIMEOUT)
    finally:
        os.close(process_1)
    dirs = RunDirs()
    dirs.sweep()
    dirs.close()
    return lab


def _open(name: str | None) -> tuple[LabRef, int]:
    """The lab and a descriptor of its process 1, which cannot come to mean another process."""
    lab = find(name)
    try:
        fd = os.pidfd_open(lab.pid)
    except ProcessLookupError:
        raise UsageError(f"the lab '{lab.name}' has just ended") from None
    if lab.name not in {one.name for one in labs() if one.pid == lab.pid}:
        os.close(fd)
        raise UsageError(f"the lab '{lab.name}' has just ended")
    return lab, fd


def _become(process_1: int, parent: int, argv: Sequence[str]) -> None:
    """In the forked child: enter the other namespaces and turn into the command."""
    status = 126
    try:
        directory = os.getcwd()
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() not in (0, parent):  # 0: the parent is outside our process namespace
            os._exit(128 + signal.SIGKILL)
        linux.setns(
            process_1, linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
        )
        try:
            os.chdir(directory)
        except OSError:
            os.chdir("/")
        os.execvp(argv[0], list(argv))
    except FileNotFoundError:
        status = 127
        os.write(2, f"podwire: no program '{argv[0]}'\n".encode())
    except OSError as error:
        os.write(2, f"podwire: {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(status)
