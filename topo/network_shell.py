"""Mininet's shell, started late: what our hosts and bridges share."""

from __future__ import annotations

from typing import Any

from mininet.node import Node


class LazyShell:
    """Mixin: Mininet's shell (8 ms and a pty) starts when somebody first wants it."""

    shell: Any
    inNamespace: bool  # noqa: N815 (Mininet's name)

    def startShell(self: Any, mnopts: str | None = None) -> None:  # noqa: N802
        """Called by Node.__init__; here it only says that there is none yet."""

    def _need_shell(self: Any) -> None:
        if self.shell is None:
            inside, self.inNamespace = self.inNamespace, False  # else mnexec makes one more namespace
            try:
                Node.startShell(self, "-cd")
            finally:
                self.inNamespace = inside

    def sendCmd(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self._need_shell()
        Node.sendCmd(self, *args, **kwargs)

    def cmd(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._need_shell()
        return Node.cmd(self, *args, **kwargs)

    def popen(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("mncmd", [])
        kwargs.setdefault("start_new_session", True)
        return Node.popen(self, *args, **kwargs)
