"""What the programs among the tests share: how a command line of theirs ends, and where ``--json`` goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from controller.api.errors import PodwireError, UsageError


def end(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run ``main`` and exit; a mistake of the user's or of the machine is one sentence, no traceback."""
    try:
        sys.exit(main(sys.argv[1:]))
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def json_file(path: str | None) -> TextIO | None:
    """The file that ``--json`` names (``-``: standard output), opened before anything has run."""
    if path is None:
        return None
    if path == "-":
        return sys.stdout
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: {error.strerror}") from None
