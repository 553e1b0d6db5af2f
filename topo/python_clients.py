"""The Python clients of Kubernetes, in an environment of their own: 250 MB that nothing else needs.

``./lab setup python`` makes it, once for a machine; pods of the image python see it from then on. It must
be made outside of a lab, from where no registry is reached.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from controller.api.errors import MachineError
from topo.environment import HOME, requirements

PLACE = HOME / "cache" / "python-clients"
PYTHON = PLACE / "bin" / "python"
_DONE = PLACE / "complete"


def present() -> bool:
    """Whether the environment is there."""
    return _DONE.exists()


def install() -> Path:
    """The interpreter that has them; makes the environment when it is missing (a minute, asks PyPI)."""
    if present():
        return PYTHON
    try:
        PLACE.mkdir(parents=True, exist_ok=True)
        with PLACE.with_name(PLACE.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not present():
                _make()
    except OSError as error:
        raise MachineError(f"cannot make {PLACE} for the Python clients: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise MachineError(f"cannot install the Python clients into {PLACE}, see above: {error}") from error
    return PYTHON


def _make() -> None:
    print(f"podwire: installing the Python clients of Kubernetes into {PLACE}, once", file=sys.stderr)
    for link in PYTHON.parent.glob("python*"):
        link.unlink()  # to be the machine's own, which a pod sees, whoever began here
    pip = (str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    for command in (
        ("/usr/bin/python3", "-m", "venv", str(PLACE)),
        (*pip, *requirements("clients", "alone")),
    ):
        subprocess.run(command, check=True, timeout=600, stdout=sys.stderr)
    _DONE.touch()


def main() -> int:
    """Makes it, or says in one sentence why not."""
    try:
        install()
    except MachineError as error:
        print(f"podwire: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
