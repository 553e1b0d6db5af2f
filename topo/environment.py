"""Which python the lab runs under: ``ensure()`` is the first thing a scenario calls.

Also tells ``./lab`` what setup.py requires: ``python3 topo/environment.py [extra [alone]]`` prints one
requirement a line, without running setup.py. Standard library only, because it runs before anything
is installed; nothing here imports the rest of the house.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from pathlib import Path

HOME = Path(os.environ.get("PODWIRE_HOME", "/var/lib/podwire"))
PYTHON = HOME / "venv" / "bin" / "python"
_CHECKOUT = Path(__file__).resolve().parent.parent
_NEEDED = ("mininet", "os_ken", "aiohttp", "yaml", "scapy", "rich")
_AGAIN = "PODWIRE_STARTED_AGAIN"


def ensure() -> None:
    """Go on only under a python that has the packages; start again under the lab's, or say what to do.

    Also keeps the bytecode root would write into the user's checkout out of it, here and in every
    python started from here.
    """
    if os.geteuid() == 0 and "PYTHONPYCACHEPREFIX" not in os.environ:
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(HOME / "cache" / "bytecode")
    sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)  # a script forbade it until here
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        os.environ.pop(_AGAIN, None)
        return
    if PYTHON.exists() and _AGAIN not in os.environ:
        os.environ[_AGAIN] = "1"
        os.execv(PYTHON, [str(PYTHON), *sys.orig_argv[1:]])
    print(
        f"podwire: {sys.executable} lacks {', '.join(missing)}: run {_CHECKOUT}/lab setup once",
        file=sys.stderr,
    )
    sys.exit(2)


def requirements(extra: str = "", alone: str = "") -> list[str]:
    """What setup.py asks for, with one of its extras, or only the latter (``alone``)."""
    tree = ast.parse((_CHECKOUT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup"
    )
    said = {word.arg: word.value for word in call.keywords}
    wanted: list[str] = [] if alone else ast.literal_eval(said["install_requires"])
    if extra:
        wanted += ast.literal_eval(said["extras_require"])[extra]
    return wanted


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))
