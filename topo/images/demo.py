"""seblum/mlops-public with its real programs: Flask and Streamlit, as processes in the pods' boxes.

They are big (setup.py's extra ``demo``), so ``./lab`` installs them for one lesson only, into a Python
environment of their own, and a lab runs them only when it was asked to (``ask``). Otherwise the light
images of the same names answer. What the programs serve stands in ``demo_backend`` and ``demo_frontend``.
"""

from __future__ import annotations

import os
from pathlib import Path

from topo.environment import HOME
from topo.images.image import Container, Program

PLACE = HOME / "demo"
PYTHON = PLACE / "bin" / "python"
_ASKED = "PODWIRE_REAL_PROGRAMS"
_IMAGES = Path(__file__).resolve().parent


def present() -> bool:
    """Whether the programs are installed."""
    return PYTHON.exists() and any(PLACE.glob("lib/python*/site-packages/streamlit"))


def ask() -> None:
    """A lab started from now on by this process runs them."""
    os.environ[_ASKED] = "1"


def wanted() -> bool:
    """Whether this lab's pods run them. Asked in the lab's own process and in its runtime."""
    return os.environ.get(_ASKED) == "1"


def program(container: Container) -> Program:
    """The image's own server, as its Dockerfile starts it."""
    if ":backend-flask" in container.image:
        words: tuple[str, ...] = ("-m", "topo.images.demo_backend")
    else:
        words = (
            *("-m", "streamlit", "run", str(_IMAGES / "demo_frontend.py"), "--server.port=8501"),
            *("--server.headless=true", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false"),
            "--browser.serverAddress=localhost",  # or it asks the internet for its own address
        )
    env = {"PYTHONPATH": str(_IMAGES.parents[1]), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return Program(argv=(str(PYTHON), *words), env=env, binds=(str(PLACE), str(_IMAGES)))
