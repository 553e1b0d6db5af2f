"""The process outside a sandbox: starts process 1, passes signals on, cleans up after it.

It holds the lifeline (see sandbox_init.py) and never enters a namespace itself, so its caller's
files, terminal and current directory are the machine's.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from controller.api import errors
from topo import linux, sandbox_init
from topo.sandbox_dir import RunDirs

Message = dict[str, object]
_SUDO = {"sudo", "doas", "su", "pkexec"}


def run_attached(
    main: Callable[[], int],
    name: str | None,
    *,
    log: bool = False,
    guard: int | None = None,
    tell: Callable[[Message], None] = lambda message: None,
) -> int:
    """Fork process 1, pass signals on until it ends, clean up after it, return the exit status.

    ``guard`` is a descriptor whose end of file ends a lab that is not ready yet (a detached start
    whose foreground was interrupted); ``tell`` gets what process 1 and the lab report.
    """
    if _parent_is_sudo():
        parent = os.getppid()
        linux.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            return 128 + signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, sandbox_init.HELD)
    lifeline, lifeline_out = os.pipe2(os.O_CLOEXEC)
    report, report_out = os.pipe2(os.O_CLOEXEC)
    pid = _fork_process_1()
    if pid == 0:
        os.close(lifeline_out)
        os.close(report)
        if guard is not None:
            os.close(guard)
        sandbox_init.run(main, name, lifeline=lifeline, report=report_out, log=log)
    os.close(lifeline)
    os.close(report_out)
    try:
        return _attend(pid, lifeline_out, report, guard, tell)
    finally:
        os.close(report)
        dirs = RunDirs()
        dirs.sweep()
        dirs.close()


def _fork_process_1() -> int:
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWPID)
    except OSError as error:
        os.close(own)
        raise errors.MachineError(sandbox_init.explain(error)) from None
    pid = os.fork()
    if pid:
        linux.setns(own, linux.CLONE_NEWPID)  # later children of ours are ordinary ones again
    os.close(own)
    return pid


def _attend(pid: int, lifeline: int, report: int, guard: int | None, tell: Callable[[Message], None]) -> int:
    wakeup, wakeup_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    old_fd = signal.set_wakeup_fd(wakeup_out, warn_on_full_buffer=False)
    old = {number: signal.signal(number, lambda *_: None) for number in sandbox_init.PASSED_ON}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, sandbox_init.HELD)
    child = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (wakeup, report, child) if guard is None else (wakeup, report, child, guard):
        poll.register(fd, select.POLLIN)
    failure: errors.PodwireError | None = None
    alive, text = True, b""
    try:
        while alive:
            for fd, _ in poll.poll():
                if fd == wakeup:
                    passed = bytes(n for n in os.read(wakeup, 64) if n in sandbox_init.PASSED_ON)
                    with suppress(BrokenPipeError):
                        os.write(lifeline, passed)
                elif fd == guard:
                    poll.unregister(guard)
                    with suppress(BrokenPipeError):
                        os.write(lifeline, bytes([signal.SIGTERM]))
                elif fd == child:
                    alive = False
            while select.select([report], [], [], 0)[0]:
                got = os.read(report, 4096)
                text += got
                if not got:
                    with suppress(KeyError):
                        poll.unregister(report)
                    break
            *lines, text = text.split(b"\n")
            for message in map(json.loads, lines):
                if message.get("ready") and guard is not None:
                    poll.unregister(guard)
                    guard = None
                if "error" in message:
                    failure = getattr(errors, message["error"])(message["text"])
                tell(message)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old.items():
            signal.signal(number, handler)
        for fd in (wakeup, wakeup_out, child, lifeline):
            os.close(fd)
    if failure is not None:
        raise failure
    return code if code >= 0 else 128 - code


def _parent_is_sudo() -> bool:
    with suppress(OSError):
        return Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip() in _SUDO
    return False
