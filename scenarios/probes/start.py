"""How a probe starts when it is run by itself: its packages are there, its errors are one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def start(main: Callable[[Sequence[str]], int]) -> int:
    """Run a probe's ``main`` on this process' command line; returns the exit status."""
    from topo.environment import ensure

    ensure()
    from controller.api.errors import PodwireError

    try:
        return main(sys.argv[1:])
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
