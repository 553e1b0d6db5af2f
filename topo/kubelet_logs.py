"""The files that containers write their output to: one for this life, one for the life before.

Who shows them is the API server's ``logs``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from controller.api.logs import previous


def turn_log(log: str, *, again: bool) -> None:
    """A container begins with an empty log; ``again``: that of its life before stays beside it."""
    if not log:
        return
    path = Path(log)
    with contextlib.suppress(FileNotFoundError):
        if again:
            path.replace(previous(path))
        else:  # of another pod that had this name
            previous(path).unlink(missing_ok=True)
            path.unlink()
