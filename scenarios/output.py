"""``--out DIR``: a folder of the user's, written to from within a sandbox.

It is opened before the sandbox covers directories of the machine, and reached by that descriptor.
What is written, and every folder made for it, belongs to the user behind sudo.
"""

from __future__ import annotations

import os
from pathlib import Path

from controller.api.errors import UsageError


class Output:
    """A folder, made if it is not there. Make it before entering the sandbox."""

    def __init__(self, folder: str) -> None:
        from topo import sandbox

        sandbox.need_root()
        self._shown = folder
        path = Path(folder).resolve()
        made = [parent for parent in (path, *path.parents) if not parent.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"--out {folder}: {error.strerror}") from None
        for parent in made:
            sandbox.own_by_user(parent)

    def path(self, name: str) -> Path:
        """Where to write a file of that name."""
        return Path(f"/proc/self/fd/{self._fd}/{name}")

    def name(self, name: str) -> str:
        """What to call it to the user."""
        return str(Path(self._shown) / name)

    def wrote(self, name: str) -> str:
        """Hand the file over to the user; returns what to call it."""
        from topo import sandbox

        sandbox.own_by_user(self.path(name))
        return self.name(name)
