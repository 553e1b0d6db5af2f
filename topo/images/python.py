"""The image python: a shell with ``python`` on its PATH, the machine's own Python 3 whatever the tag says.

Where the clients of Kubernetes were installed (``./lab setup python``) it is theirs, so that a program in a
pod asks the API as it would in a cluster. There is no pip: a pod reaches no registry.
"""

from __future__ import annotations

from pathlib import Path

from topo import python_clients
from topo.images.image import Container, Program
from topo.runtime_box import PATH

_PLAIN = Path(__file__).resolve().parent / "bin"
"""Holds nothing but the word ``python``, which Debian does not know."""


def program(container: Container) -> Program:
    """The manifest's command, or nothing: then the container only waits for ``exec``."""
    place, words = (
        (python_clients.PLACE, python_clients.PYTHON.parent) if python_clients.present() else (_PLAIN, _PLAIN)
    )
    env = {"PATH": f"{words}:{PATH}", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    own = {name: value for name, value in env.items() if name not in container.env}
    return Program(argv=container.argv, env=own, binds=(str(place),))
