"""Somebody at a machine outside of the cluster who types kubectl: the real one, over the lab's own wires.

kubectl runs in a client's network namespace and talks TLS to node1, port 6443, with the administrator's
token, so that even what it asks is seen on the links. What is typed, and why, belongs to the lessons.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.api.wiring import ADMIN_TOKEN, API_PORT
from scenarios import kubeconfig

if TYPE_CHECKING:
    from scenarios.lesson import Lesson


class Administrator:
    """Types on the first client, in ``folder``; each command is shown as the lesson's."""

    def __init__(self, lesson: Lesson, folder: Path) -> None:
        from topo.lab_state import PKI

        lab = lesson.lab
        self._lesson, self._host, self._folder = lesson, lab.outside(), folder
        self.name = self._host.name
        home = lab.run_dir / "administrator"
        home.mkdir(mode=0o700, exist_ok=True)
        config = home / "kubeconfig"
        config.touch(mode=0o600)
        config.write_text(
            kubeconfig.config(
                "podwire",
                f"https://{lab.node(1).ip}:{API_PORT}",
                ca=(lab.run_dir / PKI / "ca.crt").read_bytes(),
                token=(lab.run_dir / PKI / ADMIN_TOKEN).read_text(),
            ),
            encoding="utf-8",
        )
        first = str(Path(kubeconfig.kubectl()).parent)
        path = f"{first}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        self._environment = {"PATH": path, "HOME": str(home), "KUBECONFIG": str(config)}

    def run(
        self, command: str | Sequence[str], *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        with self.popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def popen(self, command: str | Sequence[str], **options: Any) -> Any:
        """subprocess.Popen (text) of a command line's words; one that is ``|`` makes a pipe."""
        if not isinstance(command, str) and "|" in command:
            command = " ".join(word if word == "|" else shlex.quote(word) for word in command)
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        options = {"stdout": subprocess.PIPE, "text": True, "cwd": self._folder} | options
        return self._host.popen(argv, env=self._environment, **options)

    def kubectl(self, words: str) -> str:
        """What kubectl printed, whatever became of it."""
        done = self._lesson.run(self, f"kubectl {words}")
        return done.stdout + done.stderr

    def rows(self, words: str) -> list[dict[str, str]]:
        """The rows of a table that kubectl printed, by its headers."""
        head, *lines = self._lesson.run(self, f"kubectl {words}").stdout.splitlines()
        found = [(match[0], match.start()) for match in re.finditer(r"\S+(?: \S+)*", head)]
        ends = [start for _, start in found[1:]] + [None]
        return [
            {name: line[start:end].strip() for (name, start), end in zip(found, ends, strict=True)}
            for line in lines
        ]

    def facts(self, words: str) -> dict[str, str]:
        """What ``kubectl describe`` printed, by its labels."""
        pairs = (line.partition(":") for line in self.kubectl(words).splitlines() if line[:1].strip())
        return {label: value.strip() for label, _, value in pairs}
