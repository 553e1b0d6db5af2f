"""The box a pod's processes live in, and the only two ways in: ``create`` and ``spawn``.

A box is a mount, UTS, IPC and PID namespace of its own inside a given network namespace. Its root is
a fresh tmpfs holding read-only binds of the machine's programs and nothing else, so the lab's run
directory, Open vSwitch' and everything unnamed are absent rather than hidden. Process 1 only sleeps.

The caller must be single-threaded: it forks, and for a moment it moves the PID namespace of its
children. Nothing about pods, images or messages belongs here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from topo import linux, runtime_sys, runtime_volumes
from topo.images.image import Mount, Volume

NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox"
_FROM_MACHINE = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl", "/etc/services", "/etc/protocols")
_FILES = {
    "/etc/passwd": "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_READ_ONLY_PROC = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_HIDDEN_PROC = ("/proc/kcore", "/proc/keys", "/proc/timer_list")
_NET_SYSCTLS = {
    "ip_unprivileged_port_start": "0",  # an unprivileged pod may serve port 80
    "ping_group_range": "0 2147483647",  # and ping
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """What a box is made of. ``scratch`` is an empty directory to build the root on; ``binds`` are shown
    read-only under their own paths, where they are not there anyway."""

    netns: str
    hostname: str
    scratch: str
    busybox: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[str] = ()
    volumes: Sequence[Volume] = ()
    mounts: Sequence[Mount] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    """Where the machine has those volumes that outlive the box."""
    user: int = NOBODY


@dataclass(frozen=True, kw_only=True)
class Process:
    """A program to run in a box; ``fds`` are its standard input, output and error."""

    argv: Sequence[str]
    env: Mapping[str, str]
    fds: tuple[int, int, int]
    uid: int = NOBODY
    capabilities: tuple[int, ...] = ()
    workdir: str = "/"
    tty: bool = False


class Forker:
    """Forks children into PID namespaces; keeps the way back to the caller's own."""

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def create(self, box: Box) -> int:
        """Make a box; returns the pid of its process 1 when all of it stands. OSError when it cannot."""
        return self._fork(lambda: linux.unshare(linux.CLONE_NEWPID), lambda: _box_main(box))

    def spawn(self, box_pid: int, process: Process) -> int:
        """Start a program in a box; returns its pid once it was executed. OSError when it was not."""
        pidfd = os.pidfd_open(box_pid)
        try:
            return self._fork(
                lambda: linux.setns(pidfd, linux.CLONE_NEWPID), lambda: _process_main(pidfd, process)
            )
        finally:
            os.close(pidfd)

    def _fork(self, choose: Callable[[], None], main: Callable[[], None]) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            choose()
            try:
                pid = os.fork()
                if pid == 0:
                    _child(main, writer)
            finally:
                linux.setns(self._home, linux.CLONE_NEWPID)
        finally:
            os.close(writer)
        with open(reader, "rb") as answers:
            answer = answers.read()
        if answer:
            os.waitpid(pid, 0)
            number = struct.unpack("i", answer[:4])[0]
            raise OSError(number, answer[4:].decode() or os.strerror(number))
        return pid


def _child(main: Callable[[], None], writer: int) -> NoReturn:
    """The forked half: an exception becomes bytes for the parent; nothing ever returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        main()
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        with contextlib.suppress(OSError):
            os.write(writer, struct.pack("i", error.errno or 5) + text.encode())
    finally:
        os._exit(127)


def _box_main(box: Box) -> None:
    linux.die_with_parent(signal.SIGKILL)
    netns = os.open(box.netns, os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(netns, linux.CLONE_NEWNET)
    open_network_to_everyone()
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    _build_root(box)
    runtime_sys.sethostname(box.hostname)
    os.setsid()
    runtime_sys.drop_bounding_set()
    runtime_sys.set_capabilities()
    runtime_sys.no_new_privileges()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    # The smallest process 1: it sleeps, and the kernel reaps for whoever ignores SIGCHLD. Everything
    # else it inherited closes on exec, which also tells the caller that the box stands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.execve("/bin/sleep", ["sleep", "infinity"], {})


def open_network_to_everyone() -> None:
    """Low ports and ping without privileges, in the caller's network namespace (as containerd sets it)."""
    for name, value in _NET_SYSCTLS.items():
        Path("/proc/sys/net/ipv4", name).write_text(value)


def _build_root(box: Box) -> None:
    root = box.scratch
    linux.mount("podwire", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=2m,mode=755")
    for name in ("etc", "proc", "sys", "dev", "tmp", "run", "var/log", "var/lib", "root", "home", "usr"):
        Path(root, name).mkdir(parents=True)
    Path(root, "var/tmp").symlink_to("/tmp")
    Path(root, "var/run").symlink_to("/run")
    runtime_sys.bind("/usr", f"{root}/usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        source = Path("/", name)
        if source.is_symlink():
            Path(root, name).symlink_to(source.readlink())
        elif source.is_dir():
            Path(root, name).mkdir()
            runtime_sys.bind(str(source), f"{root}/{name}")
    if box.busybox:
        Path(root, "busybox").mkdir()
        runtime_sys.bind(box.busybox, f"{root}/busybox")
    for name, size in (("tmp", "64m"), ("run", "16m")):
        linux.mount(
            name, f"{root}/{name}", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"size={size},mode=1777"
        )
    for path in box.binds:  # after that: podwire itself may lie under the machine's /tmp
        target = Path(root + path)
        if target.exists():
            continue
        if Path(path).is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        runtime_sys.bind(path, root + path)
    for path in _FROM_MACHINE:
        if Path(path).is_dir():
            Path(root + path).mkdir()
        elif Path(path).exists():
            Path(root + path).touch()
        else:
            continue
        runtime_sys.bind(path, root + path)
    late = {path: text for path, text in box.files.items() if path.startswith("/run/")}
    for path, text in {**_FILES, **box.files}.items():
        if path not in late:
            Path(root + path).write_text(text)
    _build_dev(f"{root}/dev")
    quiet = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("proc", f"{root}/proc", "proc", quiet)
    linux.mount("sysfs", f"{root}/sys", "sysfs", quiet | linux.MS_RDONLY)
    for path in _READ_ONLY_PROC:
        if Path(root + path).exists():
            runtime_sys.bind(root + path, root + path)
    for path in _HIDDEN_PROC:
        if Path(root + path).exists():
            runtime_sys.bind(f"{root}/dev/null", root + path, device=True)
    for path, text in late.items():
        Path(root + path).parent.mkdir(parents=True, exist_ok=True)
        Path(root + path).write_text(text)
    if box.mounts:
        runtime_volumes.stage(root, box.shared)
    os.chdir(root)
    runtime_sys.pivot_root(".", ".")
    linux.umount(".")
    os.chdir("/")
    if box.mounts:
        runtime_volumes.mount_all(box.volumes, box.mounts, box.user)
    remount = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount("none", "/", flags=remount | linux.MS_NOSUID | linux.MS_NODEV)


def _build_dev(dev: str) -> None:
    linux.mount("dev", dev, "tmpfs", linux.MS_NOSUID | linux.MS_NOEXEC, "size=64k,mode=755")
    for name in _DEVICES:
        Path(dev, name).touch()
        runtime_sys.bind(f"/dev/{name}", f"{dev}/{name}", device=True)
    for name, target in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")):
        Path(dev, name).symlink_to(target)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        Path(dev, name).symlink_to(f"/proc/self/fd/{number}")
    for name, kind, data in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
        ("shm", "tmpfs", "size=16m,mode=1777"),
    ):
        Path(dev, name).mkdir()
        linux.mount(kind, f"{dev}/{name}", kind, linux.MS_NOSUID | linux.MS_NOEXEC, data)


def _process_main(pidfd: int, process: Process) -> None:
    os.setsid()
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in process.fds]
    for fd, copy in enumerate(kept):
        os.dup2(copy, fd)
    if process.tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    linux.setns(pidfd, linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET)
    restrict(process.uid, process.capabilities)
    os.chdir(process.workdir)
    env = {"PATH": PATH, "HOME": "/tmp", **process.env}
    try:
        os.execvpe(process.argv[0], list(process.argv), env)
    except OSError as error:
        reason = "executable file not found in $PATH" if "/" not in process.argv[0] else error.strerror
        raise OSError(error.errno, f'exec: "{process.argv[0]}": {reason}') from None


def restrict(uid: int, capabilities: Iterable[int] = ()) -> None:
    """Nothing this process becomes can gain a right: the last thing before a pod's program runs."""
    kept = tuple(capabilities)
    runtime_sys.drop_bounding_set(kept)
    runtime_sys.become(uid, uid, kept)
    runtime_sys.no_new_privileges()
