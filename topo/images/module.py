"""A module of ``controller`` as a pod's program: in a python of its own, that sees the controller's code
read-only and of the machine's packages only those it is given. Which image that is, its own file says.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from topo.images.image import Program

_CONTROLLER = Path(__file__).resolve().parents[2] / "controller"
_CACHE = "PYTHONPYCACHEPREFIX"


def run_module(module: str, *args: str, packages: Sequence[str] = (), binds: Sequence[str] = ()) -> Program:
    """``python -m module args``; ``packages`` are what it imports beside the standard library, ``binds``
    what else of the machine it needs to see."""
    found = [_folder(package) for package in packages]
    shown = [str(_CONTROLLER), *found, *binds]
    env = {"PYTHONPATH": os.pathsep.join([str(_CONTROLLER.parent), *found]), "PYTHONUNBUFFERED": "1"}
    prefix = os.environ.get(_CACHE)
    if prefix:
        _compile(module, prefix)
        shown.append(prefix)
        env[_CACHE] = prefix
    python = os.path.realpath(sys.executable)
    return Program(argv=(python, "-sSB", "-m", module, *args), env=env, binds=tuple(shown))


def _folder(package: str) -> str:
    found = importlib.util.find_spec(package)
    assert found is not None, f"setup.py requires what brings {package}"
    assert found.origin is not None
    return str(Path(found.origin).parents[1])


def _compile(module: str, prefix: str) -> None:
    """Bytecode for a python that may not write any: made once, by importing all of it here beside."""
    source = _CONTROLLER.parent.joinpath(*module.split("."))
    kept = Path(prefix, *source.parts[1:-1], f"{source.name}.{sys.implementation.cache_tag}.pyc")
    newest = max(path.stat().st_mtime for path in source.parent.glob("*.py"))
    if not kept.exists() or kept.stat().st_mtime < newest:
        subprocess.run([sys.executable, "-c", f"import {module}"], cwd=_CONTROLLER.parent, check=False)
        if kept.exists():
            os.utime(kept)
