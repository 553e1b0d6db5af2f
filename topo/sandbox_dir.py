"""/run/podwire/NAME: the one thing a lab leaves visible outside, and only while it lives.

A directory is *live* while the lab's process 1 holds its flock; nobody's word is trusted, so a
lab that was killed in any way is simply not live any more. Taking and sweeping happen under a
flock of /run/podwire itself. Everything works relative to a descriptor of /run, because process 1
still has to remove the directory after a tmpfs covers /run for it.
Nothing here starts, stops or enters a lab.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from controller.api.errors import MachineError, UsageError

RUN = "/run"
ROOT = "podwire"
DEFAULT_NAME = "podwire"
LOG = "log.txt"
_ABOUT = "lab.json"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class LabRef:
    """What a lab says of itself: process 1 as its reader sees it, the start in Unix seconds."""

    name: str
    pid: int
    started: float
    ready: bool = False
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A directory that is ours as long as ``lock`` stays open."""

    name: str
    lock: int


def check_name(name: str) -> str:
    """A lab's name is a DNS label of at most 40 characters, because it becomes a path."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is no name for a lab: lower case letters, digits and '-', at most 40 characters"
        )
    return name


class RunDirs:
    """/run/podwire, reached through a descriptor of /run that is kept open."""

    def __init__(self, run_fd: int | None = None) -> None:
        self.run = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if run_fd is None else run_fd

    def close(self) -> None:
        os.close(self.run)

    def take(self, name: str | None) -> Taken:
        """Make the lab's directory and lock it; without a name the first free podwire, podwire-2, ...

        Stale directories are removed on the way.
        """
        if name is not None:
            check_name(name)
        try:
            with self._locked(create=True) as root:
                assert root is not None
                self._sweep(root)
                for candidate in [name] if name is not None else _default_names():
                    taken = self._make(root, candidate)
                    if taken is not None:
                        return taken
        except PermissionError as error:
            raise MachineError(f"cannot write to {RUN}/{ROOT}: {error.strerror}; run as root") from None
        except OSError as error:
            raise MachineError(f"cannot make {RUN}/{ROOT}: {error.strerror}") from None
        raise UsageError(
            f"a lab named '{name}' is running: end it with ./lab down --lab {name}, or choose another name"
        )

    def sweep(self) -> None:
        """Remove the directories no living lab holds."""
        with suppress(OSError), self._locked(create=False) as root:
            if root is not None:
                self._sweep(root)

    def release(self, taken: Taken) -> None:
        """Remove our own directory and give the lock back."""
        with suppress(OSError), self._locked(create=False) as root:
            if root is not None:
                shutil.rmtree(taken.name, ignore_errors=True, dir_fd=root)
        os.close(taken.lock)

    def write(self, taken: Taken, about: LabRef) -> None:
        """Replace what the lab says of itself."""
        text = json.dumps(asdict(about)).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(_ABOUT + ".new", flags, 0o600, dir_fd=taken.lock)
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
        os.rename(_ABOUT + ".new", _ABOUT, src_dir_fd=taken.lock, dst_dir_fd=taken.lock)

    def live(self) -> list[LabRef]:
        """What each living lab says of itself, oldest first."""
        found: list[LabRef] = []
        try:
            with self._locked(create=False) as root:
                for name in sorted(os.listdir(root)) if root is not None else []:
                    with _opened(root, name) as fd:
                        if fd is not None and not _try_lock(fd):
                            with suppress(OSError, ValueError, TypeError):
                                found.append(_read(fd))
        except PermissionError:
            raise MachineError(f"cannot read {RUN}/{ROOT}: run as root") from None
        return sorted(found, key=lambda about: about.started)

    @contextmanager
    def _locked(self, *, create: bool) -> Iterator[int | None]:
        """Descriptor of the locked /run/podwire; None when it is not there. Gone again when empty."""
        root = None
        while root is None:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(ROOT, 0o755, dir_fd=self.run)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(ROOT, flags, dir_fd=self.run)
            except FileNotFoundError:
                if create:
                    continue  # its last user removed it between our two calls
                yield None
                return
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                root = fd
            else:
                os.close(fd)  # removed while we waited: take the new one
        try:
            yield root
        finally:
            with suppress(OSError):
                os.rmdir(ROOT, dir_fd=self.run)
            os.close(root)

    def _sweep(self, root: int) -> None:
        for name in os.listdir(root):
            with _opened(root, name) as fd:
                if fd is not None and _try_lock(fd):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=root)

    def _make(self, root: int, name: str) -> Taken | None:
        try:
            os.mkdir(name, 0o700, dir_fd=root)
        except FileExistsError:
            return None
        lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Taken(name=name, lock=lock)


def _default_names() -> Iterator[str]:
    yield DEFAULT_NAME
    yield from (f"{DEFAULT_NAME}-{number}" for number in itertools.count(2))


@contextmanager
def _opened(root: int | None, name: str) -> Iterator[int | None]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> LabRef:
    about = os.open(_ABOUT, os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
    with open(about, encoding="utf-8") as file:
        return LabRef(**json.load(file))
