"""The sandbox: a lab runs in namespaces of its own and never touches the machine.

    outside (this process) ──fork──► process 1 (sandbox_init.py) ──fork──► the lab process: main()

Each of them may be killed alone at any moment, and everything goes: process 1 reads the end of its
lifeline when this process dies, the kernel ends the namespaces when process 1 dies, and process 1
ends when the lab process does. /run/podwire/NAME is removed by whoever is left.
This file is what others import; the work is in sandbox_*.py. What runs inside is not here: no Open
vSwitch, no Mininet.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from controller.api.errors import MachineError
from topo.sandbox_detach import run_detached
from topo.sandbox_dir import ROOT, RUN, LabRef, check_name
from topo.sandbox_init import MARK
from topo.sandbox_join import join, labs, stop
from topo.sandbox_outside import run_attached

__all__ = [
    "LabRef",
    "enter",
    "inside",
    "interactive",
    "join",
    "labs",
    "name",
    "need_root",
    "own_by_user",
    "ready",
    "run_dir",
    "stop",
]


def inside() -> bool:
    """Whether this process runs in a sandbox."""
    return MARK.exists()


def name() -> str:
    """The name of the sandbox this process runs in."""
    assert inside(), "not in a sandbox"
    return MARK.read_text(encoding="utf-8").strip()


def run_dir() -> Path:
    """The lab's own directory, seen only inside: sockets, the database, ``log/`` and ``tmp/``."""
    return Path(RUN) / ROOT / name()


def ready() -> None:
    """Say that the lab is up: labs() shows it, and ``enter(detach=True)`` returns in the foreground."""
    if inside():
        os.kill(1, signal.SIGUSR1)


def enter(main: Callable[[], int], *, name: str | None = None, detach: bool = False) -> NoReturn:
    """Run ``main`` in a new sandbox and exit with what it returns (128 + n when signal n ended it).

    Without a name the lab is called podwire, or podwire-2 and so on when that one runs already.
    Within a sandbox this makes a further one. ``main`` runs in a forked process in the terminal's
    foreground group: Ctrl-C raises KeyboardInterrupt in it, a second one ends it at once; SIGTERM
    and SIGHUP raise SystemExit. atexit functions do not run; what main needs undone it undoes.

    ``detach=True`` leaves the lab running in the background: its output goes to a log file and is
    shown here until the lab calls ready(), or ends.
    Call it from the main thread, before threads are started.
    """
    if name is not None:
        check_name(name)
    need_root()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if detach:
        sys.exit(run_detached(main, name))
    sys.exit(run_attached(main, name))


def need_root() -> None:
    """Raise unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise MachineError("a lab makes network namespaces, so it needs root: sudo ./lab ...")


@contextmanager
def interactive() -> Iterator[None]:
    """Give Ctrl-C Python's usual meaning for a while: a prompt survives any number of them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def own_by_user(path: str | Path) -> None:
    """Hand a file, or a directory with all in it, to the user behind sudo."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdigit() and gid.isdigit()):
        return
    os.chown(path, int(uid), int(gid), follow_symlinks=False)
    for directory, subdirectories, files in os.walk(path):
        for entry in subdirectories + files:
            os.chown(os.path.join(directory, entry), int(uid), int(gid), follow_symlinks=False)
