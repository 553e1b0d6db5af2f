"""Ryu in an environment of its own: ``python -m controller.kubeproxy.ryu_venv`` makes it when it is missing.

Why apart: Ryu 4.34 (2020) builds only with setuptools < 68 and pins nothing it needs, so it must not share
an environment with the lab. It is made once, from the system's python3; later runs ask no registry.
Nothing of OpenFlow here; ``backend`` imports Ryu once ``enter`` has put the process there.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from controller.api.errors import MachineError

VERSION = "4.34"
REPOSITORY = Path(__file__).resolve().parents[2]


def home() -> Path:
    """Where the environment is: beside the lab's own, outside the checkout."""
    return Path(os.environ.get("PODWIRE_HOME", "/var/lib/podwire")) / "ryu"


def _interpreter(venv: Path) -> Path:
    return venv / "bin" / "python"


def _complete(venv: Path) -> Path:
    return venv / f"ryu-{VERSION}-installed"


def install() -> Path:
    """The interpreter that has Ryu; makes the environment when it is missing (about 10 s, asks PyPI)."""
    venv = home()
    if _complete(venv).exists():
        return _interpreter(venv)
    try:
        venv.parent.mkdir(parents=True, exist_ok=True)
        with venv.with_name(venv.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _complete(venv).exists():
                _make(venv)
    except OSError as error:
        raise MachineError(f"cannot make {venv} for Ryu: {error.strerror}") from error
    return _interpreter(venv)


def _make(venv: Path) -> None:
    print(f"podwire: installing Ryu {VERSION} into {venv}, once", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    constraint = venv / "constraint.txt"
    # pip before 25.3 heeds only the first variable, from 26.3 only the second
    environment = os.environ | {"PIP_CONSTRAINT": str(constraint), "PIP_BUILD_CONSTRAINT": str(constraint)}
    pip = (str(_interpreter(venv)), "-m", "pip")
    try:
        _run("/usr/bin/python3", "-m", "venv", str(venv), env=environment)
        constraint.write_text("setuptools<68\n")
        _run(*pip, "install", "--quiet", "--use-pep517", f"ryu=={VERSION}", env=environment)
    except subprocess.CalledProcessError as error:
        said = [str(error), *str(error.stderr).strip().splitlines()]
        raise MachineError(f"cannot install Ryu {VERSION} into {venv}: {said[-1]}") from error
    _complete(venv).touch()


def _run(*command: str, env: dict[str, str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=env)


def enter(module: str, arguments: Sequence[str]) -> None:
    """Go on as ``python -m module arguments`` under the environment with Ryu, unless this one has it."""
    if importlib.util.find_spec("ryu") is not None:
        return
    if not _complete(home()).exists():
        raise MachineError("ryu is not installed; python -m controller.kubeproxy.ryu_venv installs it")
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    interpreter = str(_interpreter(home()))
    quiet = ("-W", "ignore::SyntaxWarning")  # Ryu compares with "is" here and there
    command = [interpreter, *quiet, "-m", module, *arguments]
    os.execve(interpreter, command, {**os.environ, "PYTHONPATH": path})


def main() -> int:
    """Prints the interpreter."""
    try:
        print(install())
    except MachineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
