"""The Python clients of Kubernetes, in a Python environment of their own: 250 MB that nothing else needs.

Made once for a machine, outside of the sandbox that the net tier runs in (there is no network inside).
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

CLIENTS = ("kubernetes", "kubernetes-asyncio", "kr8s", "lightkube")


@cache
def python() -> str:
    """A Python that has them all."""
    place = Path(os.environ.get("PODWIRE_HOME", "/var/lib/podwire")) / "cache" / "python-clients"
    program, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        install = [str(program), "-m", "pip", "install", "--quiet", *CLIENTS]
        for command in ([sys.executable, "-m", "venv", str(place)], install):
            subprocess.run(command, check=True, timeout=600)
        done.touch()
    return str(program)
