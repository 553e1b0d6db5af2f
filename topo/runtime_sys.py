"""Mounts, capabilities and sockets elsewhere: the calls of a container runtime beyond ``topo.linux``.

Each raises OSError with the name of what was attempted. Only calls, no policy: what a pod may and
may not do is decided in ``runtime_box``.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from topo.linux import (
    CLONE_NEWNET,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    mount,
    setns,
)

_libc = ctypes.CDLL(None, use_errno=True)

CAPABILITIES = {"NET_RAW": 13}

_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def bind(source: str, target: str, *, device: bool = False) -> None:
    """Bind-mount read-only, without set-uid programs; ``device`` keeps a device node usable."""
    mount(source, target, flags=MS_BIND)
    flags = MS_BIND | MS_REMOUNT | MS_NOSUID
    mount("none", target, flags=flags | (MS_NOEXEC if device else MS_RDONLY | MS_NODEV))


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_libc.pivot_root(new_root.encode(), put_old.encode()), f"pivot_root {new_root}")


def sethostname(name: str) -> None:
    raw = name.encode()
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), f"sethostname {name}")


def _prctl(option: int, argument: int, third: int = 0) -> None:
    u = ctypes.c_ulong
    _check(_libc.prctl(option, u(argument), u(third), u(0), u(0)), f"prctl {option}")


def no_new_privileges() -> None:
    """From now on no execve of this process or its children can gain a right."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding_set(keep: Iterable[int] = ()) -> None:
    kept = set(keep)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        if capability not in kept:
            _prctl(_PR_CAPBSET_DROP, capability)


def set_capabilities(keep: Iterable[int] = ()) -> None:
    """Make ``keep`` the permitted, effective and inheritable set (capabilities 0 to 31 only)."""
    mask = sum(1 << capability for capability in keep)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _check(_libc.capset(header, data), "capset")


def become(uid: int, gid: int, keep: Iterable[int] = ()) -> None:
    """Change user for good; ``keep`` are the capabilities that survive, across execve too."""
    kept = tuple(keep)
    if kept:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    set_capabilities(kept)
    for capability in kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


@contextmanager
def in_netns(path: str | Path) -> Iterator[None]:
    """The calling thread is in another network namespace for the body; sockets made there stay there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(other, CLONE_NEWNET)
        finally:
            os.close(other)
        try:
            yield
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)


def socket_in(path: str | Path, kind: int, family: int = socket.AF_INET, proto: int = 0) -> socket.socket:
    """A non-blocking socket that lives in the network namespace at ``path``."""
    with in_netns(path):
        made = socket.socket(family, kind, proto)
    made.setblocking(False)
    return made
