"""Process 1 of a sandbox: makes the namespaces, starts the lab process, ends everything.

It runs from the fork until the last process of the lab is gone. The process outside (sandbox.py)
holds the writing end of the *lifeline*: its bytes are signals to pass on, its end of file means
that the process outside is dead. The *report* goes the other way, one JSON object a line.
Nothing here knows of Open vSwitch, Mininet or Kubernetes.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from controller.api.errors import MachineError, PodwireError
from topo import linux
from topo.sandbox_dir import LOG, RUN, LabRef, RunDirs, Taken

MARK = Path(RUN) / "podwire" / ".inside"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HELD = (*PASSED_ON, signal.SIGCHLD, signal.SIGUSR1)  # blocked around the fork, so that none is lost
_NUDGE = signal.SIGURG  # ignored by default, so it harms no program that main turned into
_NUDGES = (0.02, 0.1, 0.5, 2.0)  # seconds after a signal
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL for a lab that was told to stop
_SAME_KEYPRESS = 0.05  # seconds within which a Ctrl-C reaches the whole process group
_OPEN_FILES = 16384  # enough for 1,000 pods; mnexec closes every possible descriptor, so no more

# Of the machine, hidden under a tmpfs where they exist: no command in the sandbox, whatever its
# environment, reaches the machine's Open vSwitch. /run itself is covered too.
_COVERED = (
    "/etc/openvswitch",
    "/var/log/openvswitch",
    "/usr/local/etc/openvswitch",
    "/usr/local/var/run/openvswitch",
    "/usr/local/var/log/openvswitch",
    "/dev/shm",
)
_MACHINE_VARIABLES = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_LOGDIR", "XDG_RUNTIME_DIR")


def run(main: Callable[[], int], name: str | None, *, lifeline: int, report: int, log: bool) -> NoReturn:
    """Be process 1. Called right after the fork, with HELD blocked; never returns."""
    status = 1
    try:
        dirs = RunDirs()
        taken = dirs.take(name)
        try:
            status = _Supervisor(main, dirs, taken, lifeline, report, log).run()
        finally:
            _end_everyone()
            dirs.release(taken)
    except PodwireError as error:
        _tell(report, {"error": type(error).__name__, "text": str(error)})
        status = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


class _Supervisor:
    """One lab process: started, listened to, reaped."""

    def __init__(
        self, main: Callable[[], int], dirs: RunDirs, taken: Taken, lifeline: int, report: int, log: bool
    ) -> None:
        self.main, self.dirs, self.taken, self.lifeline, self.report = main, dirs, taken, lifeline, report
        here = f"{RUN}/podwire/{taken.name}"
        # The old /proc still answers with our number outside.
        self.about = LabRef(
            name=taken.name,
            pid=int(os.readlink("/proc/self")),
            started=time.time(),
            log=f"{here}/{LOG}" if log else "",
        )
        self.inner_lock = -1
        self.lab = 0
        self.interrupted = float("-inf")  # when process 1 itself last saw a SIGINT
        self.interrupt_at: float | None = None  # when to pass a SIGINT on, unless one comes here too
        self.nudges: list[float] = []
        self.kill_at: float | None = None

    def run(self) -> int:
        self.dirs.write(self.taken, self.about)
        if self.about.log:
            self._log_to_file()
        _tell(self.report, {"taken": self.about.name, "log": self.about.log})
        try:
            self._make_namespaces()
        except OSError as error:
            raise MachineError(explain(error)) from None
        self.wakeup = _catch_signals()
        self.lab = os.fork()
        if self.lab == 0:
            self._be_the_lab()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        return self._supervise()

    def _log_to_file(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(LOG, flags, 0o600, dir_fd=self.taken.lock)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)

    def _make_namespaces(self) -> None:
        linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        safe = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("proc", "/proc", "proc", safe)
        with suppress(OSError):  # /sys/class/net of the new network namespace; some containers forbid it
            linux.mount("sysfs", "/sys", "sysfs", safe)
        linux.mount("podwire", RUN, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
        for path in _COVERED:
            if os.path.isdir(path):
                mode = "1777" if path == "/dev/shm" else "755"
                linux.mount("podwire", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode={mode}")
        for directory in ("netns", "lock", "openvswitch"):
            os.mkdir(f"{RUN}/{directory}", 0o755)
        inner = RunDirs()
        # Locked and described like the one outside, so that commands inside find the lab as well and
        # a sandbox within this one takes another name.
        taken = inner.take(self.about.name)
        inner.write(taken, LabRef(name=self.about.name, pid=1, started=self.about.started))
        self.inner_lock = taken.lock
        for directory in ("log", "tmp"):
            os.mkdir(f"{RUN}/podwire/{self.about.name}/{directory}", 0o700)
        inner.close()
        MARK.write_text(self.about.name + "\n", encoding="utf-8")
        linux.interface_up("lo")
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

    def _be_the_lab(self) -> NoReturn:
        """The lab process: runs ``main`` and leaves, past the frames of whoever called enter()."""
        status = 1
        try:
            try:
                status = self._run_main()
            except PodwireError as error:
                print(f"podwire: {error}", file=sys.stderr)
                status = error.exit_code
            except KeyboardInterrupt:
                status = 128 + signal.SIGINT
            except SystemExit as leave:
                status = _exit_status(leave)
            except BaseException:
                traceback.print_exc()
            finally:
                _flush()
        finally:
            os._exit(status & 0xFF)

    def _run_main(self) -> int:
        signal.set_wakeup_fd(-1)
        for fd in (*self.wakeup, self.lifeline, self.report, self.inner_lock, self.taken.lock, self.dirs.run):
            os.close(fd)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGINT, _first_interrupt)
        signal.signal(signal.SIGTERM, _terminated)
        signal.signal(signal.SIGHUP, _terminated)
        signal.signal(_NUDGE, lambda *_: None)
        for variable in _MACHINE_VARIABLES:
            os.environ.pop(variable, None)
        os.environ["TMPDIR"] = f"{RUN}/podwire/{self.about.name}/tmp"
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        return self.main()

    def _supervise(self) -> int:
        poll = select.poll()
        poll.register(self.lifeline, select.POLLIN)
        poll.register(self.wakeup[0], select.POLLIN)
        while True:
            deadlines = [at for at in (self.kill_at, self.interrupt_at, *self.nudges) if at is not None]
            left = max(0.0, min(deadlines) - time.monotonic()) * 1000 if deadlines else None
            for fd, _ in poll.poll(left):
                if fd == self.wakeup[0]:
                    status = self._own_signals()
                    if status is not None:
                        return status
                elif asked := os.read(self.lifeline, 64):
                    for number in asked:
                        self._asked(number)
                else:
                    poll.unregister(self.lifeline)
                    self._pass_on(signal.SIGTERM)
            if self.interrupt_at is not None and time.monotonic() >= self.interrupt_at:
                self.interrupt_at = None
                self._pass_on(signal.SIGINT)
            while self.nudges and time.monotonic() >= self.nudges[0]:
                self.nudges.pop(0)
                self._send(_NUDGE)
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.kill_at = None
                self._pass_on(signal.SIGKILL)

    def _own_signals(self) -> int | None:
        """Act on what reached process 1 itself; the lab's exit status once it has ended."""
        for number in os.read(self.wakeup[0], 64):
            if number == signal.SIGINT:
                # Sent to the whole process group, so the lab has it already.
                self.interrupted, self.interrupt_at = time.monotonic(), None
                self._nudge_later()
            elif number == signal.SIGUSR1:
                self.about = replace(self.about, ready=True)
                self.dirs.write(self.taken, self.about)
                _tell(self.report, {"ready": True})
            elif number != signal.SIGCHLD:
                self._pass_on(number)
        return self._reap()

    def _asked(self, number: int) -> None:
        """A signal the process outside caught; a Ctrl-C may come to the lab from the terminal as well."""
        if number != signal.SIGINT:
            self._pass_on(number)
        elif time.monotonic() - self.interrupted > _SAME_KEYPRESS:
            self.interrupt_at = time.monotonic() + _SAME_KEYPRESS

    def _pass_on(self, number: int) -> None:
        self._send(number)
        self._send(signal.SIGCONT)  # a stopped lab (reading a terminal it lost) cannot end
        self._nudge_later()
        if number in (signal.SIGTERM, signal.SIGHUP) and self.kill_at is None:
            self.kill_at = time.monotonic() + _GRACE

    def _nudge_later(self) -> None:
        """Python acts on a signal between two steps; one that came just before a step that waits (pause,
        a lock, input) would be acted on after it, so further ones follow, which end the waiting."""
        self.nudges = [time.monotonic() + after for after in _NUDGES]

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.lab, number)

    def _reap(self) -> int | None:
        with suppress(ChildProcessError):
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return None
                if pid == self.lab:
                    code = os.waitstatus_to_exitcode(wait_status)
                    return code if code >= 0 else 128 - code
        return None


def _first_interrupt(number: int, frame: object) -> NoReturn:
    """Ctrl-C stops in order; the next one takes the default action and ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _terminated(number: int, frame: object) -> NoReturn:
    """SIGTERM or SIGHUP: stop in order, once; process 1 kills what takes too long."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _catch_signals() -> tuple[int, int]:
    """Have every signal of HELD come as a byte through a pipe; process 1 has no default actions."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in HELD:
        signal.signal(number, lambda *_: None)
    return reader, writer


def _end_everyone() -> None:
    """Kill and reap every other process of the sandbox, so that its name is free when it is free."""
    if os.getpid() != 1:
        return
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _exit_status(leave: SystemExit) -> int:
    if leave.code is None or isinstance(leave.code, int):
        return leave.code or 0
    print(leave.code, file=sys.stderr)
    return 1


def _tell(report: int, message: dict[str, object]) -> None:
    with suppress(OSError):  # the process outside is dead: nobody listens
        os.write(report, json.dumps(message).encode() + b"\n")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def explain(error: OSError) -> str:
    """One sentence for a user whose machine refuses to make namespaces."""
    what = f"{error.strerror}" + (f" ({error.filename})" if error.filename else "")
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"this machine does not let root make namespaces: {what}; a container needs --privileged"
    if error.errno == errno.EINVAL and error.filename == "/":
        return "cannot make a lab in this chroot: its / is no mount; bind-mount the directory onto itself"
    if error.errno in (errno.EINVAL, errno.ENOSPC, errno.ENOSYS):
        return f"the kernel cannot make the lab's namespaces: {what}; see /proc/sys/user/max_*_namespaces"
    return f"cannot make the lab's namespaces: {what}"
