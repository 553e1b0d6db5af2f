"""registry.k8s.io/coredns/coredns: the cluster's DNS server, a real process in its pod.

By default ours (``controller.dns``) in a python of its own; ``podwire/coredns-binary`` (``--dns coredns``)
is the machine's own coredns program; its Corefile comes by an environment variable, since pods have no
volumes here, so that a changed one needs a new pod. Nothing here resolves names.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from topo.images.image import Container, Program

BINARY = "podwire/coredns-binary"
MODULE = "controller.dns.app"
_CONTROLLER = Path(__file__).resolve().parents[2] / "controller"
_CACHE = "PYTHONPYCACHEPREFIX"


def coredns_program() -> str | None:
    """The machine's coredns, if it has one."""
    return shutil.which("coredns")


def program(container: Container) -> Program:
    """What runs, and what of the machine it needs to see beside the usual."""
    if container.image.partition(":")[0] == BINARY:
        binary = coredns_program()
        if binary is None:
            raise OSError(2, "there is no program coredns on the PATH")
        script = f'printf %s "$COREFILE" >/tmp/Corefile && exec {shlex.quote(binary)} -conf /tmp/Corefile'
        return Program(argv=("/bin/sh", "-c", script), binds=(binary,))
    packages = _packages()
    binds = [str(_CONTROLLER), *packages]
    env = {"PYTHONPATH": os.pathsep.join([str(_CONTROLLER.parent), *packages]), "PYTHONUNBUFFERED": "1"}
    prefix = os.environ.get(_CACHE)
    if prefix:
        _compile(prefix)
        binds.append(prefix)
        env[_CACHE] = prefix
    python = os.path.realpath(sys.executable)
    return Program(argv=(python, "-sSB", "-m", MODULE), env=env, binds=tuple(binds))


def _packages() -> list[str]:
    """Where dnspython is."""
    found = importlib.util.find_spec("dns")
    assert found is not None, "setup.py requires dnspython"
    assert found.origin is not None
    return [str(Path(found.origin).parents[1])]


def _compile(prefix: str) -> None:
    """Bytecode for a python that may not write any: made once, by importing all of it here beside."""
    source = _CONTROLLER / "dns"
    kept = Path(prefix, *source.parts[1:], f"app.{sys.implementation.cache_tag}.pyc")
    newest = max(path.stat().st_mtime for path in source.glob("*.py"))
    if not kept.exists() or kept.stat().st_mtime < newest:
        subprocess.run([sys.executable, "-c", f"import {MODULE}"], cwd=_CONTROLLER.parent, check=False)
        if kept.exists():
            os.utime(kept)
