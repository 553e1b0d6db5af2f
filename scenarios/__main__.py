"""``python -m scenarios``: what ``./lab`` runs once the environment is there.

Only makes sure that the packages are there, before anything that needs them is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    from topo.environment import ensure

    ensure()
    from scenarios import cli

    return cli.main(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
