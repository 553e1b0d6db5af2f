"""A node with pods whose bytes can be streamed, its API by TLS, the real kubectl on pipes or a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scenarios import kubeconfig
from tests.net.kubelet_kit import Cluster, one_node
from topo.kubelet_machine import Pace

TALKER = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done"
GREETER = "/busybox/nc -ll -p 7777 -e echo hello & exec sleep 1000"


class Kubectl:
    """One version of it; ``home`` holds its kubeconfig."""

    def __init__(self, program: str, home: Path) -> None:
        self.program = program
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": f"{home}/config"}
        self.environment["TERM"] = "xterm"

    def run(self, *words: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.program, *words], input=input, capture_output=True, timeout=30, env=self.environment
        )

    def __call__(self, *words: str, input: bytes | None = None) -> str:
        done = self.run(*words, input=input)
        assert done.returncode == 0, f"{words}\n{done.stdout!r}{done.stderr!r}"
        return done.stdout.decode()

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [self.program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=self.environment,
        ) as running:  # fmt: skip
            try:
                yield running
            finally:
                running.kill()


class Terminal:
    """A kubectl on a terminal of its own."""

    def __init__(self, kubectl: Kubectl, *words: str, rows: int, columns: int) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (rows, columns))
            os.execve(kubectl.program, [kubectl.program, *words], kubectl.environment)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + 20
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern} not in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536).decode()
        self.seen = self.seen[found.end() :]
        return found

    def end(self) -> int:
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def streaming(place: Path) -> Iterator[Cluster]:
    """``place`` gets a kubeconfig. The pods: ``shell`` (greets on port 7777), ``web`` (light), ``talk``."""
    (place / "log").mkdir()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        one_node(place, pace=Pace(back_off=0.2, retry=0.1), listener=listener, logs=place / "log") as made,
    ):
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        made.client.settle([])
        ca, token = (place / "pki" / "ca.crt").read_bytes(), (place / "pki" / "admin.token").read_text()
        (place / "config").write_text(kubeconfig.config("test", url, ca=ca, token=token))
        made.run("shell", "busybox", container={"command": ["sh", "-c", GREETER]}, ports=())
        made.run("web", "nginx")
        made.run("talk", "busybox", container={"command": ["sh", "-c", TALKER]}, ports=())
        for name in ("shell", "web", "talk"):
            made.when(name, lambda pod: pod["status"].get("phase") == "Running")
        yield made
