"""Whether this process is in the lab that is meant, and how to get there."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
_SENT = "PODWIRE_SENT_INTO"


def here(lab: str | None) -> bool:
    """True in the sandbox of the lab that ``lab`` means (a lab's shell, a command that was sent there).

    A sandbox without a lab's API is not meant: the tests have one of their own around the labs.
    """
    from topo import sandbox
    from topo.lab_state import API

    if not sandbox.inside():
        return False
    if os.environ.get(_SENT) == sandbox.name():
        return True
    return lab in (None, sandbox.name()) and os.access(sandbox.run_dir() / API, os.W_OK)


def send(lab: str | None, module: str, argv: Sequence[str]) -> int:
    """Run ``python -m module argv`` inside a running lab with this terminal; returns its exit status."""
    from topo import sandbox
    from topo.sandbox_join import find

    sandbox.need_root()
    name = find(lab).name
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    os.environ[_SENT] = name
    return sandbox.join(name, [sys.executable, "-m", module, *argv])
