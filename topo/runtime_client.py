"""The runtime as seen by a caller that blocks: the lab's handles, ``./lab exec``, tests.

The kubelet talks to it by ``runtime_wire`` on its own loop instead. A command runs on descriptors of
the caller's, so output needs no copying and a joined second terminal works across namespaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import tty as terminal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topo.runtime_wire import GONE, RuntimeFault, encode

_EXIT_BY_REASON = {"NotFound": 1, "ExecFailed": 126}


class Exec:
    """A command that runs in a pod. ``kill`` ends it, and so does dropping the connection."""

    def __init__(self, sock: socket.socket, argv: Sequence[str]) -> None:
        self._sock, self.args = sock, list(argv)
        self._lines = sock.makefile("rb")
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. RuntimeFault when it could not be started, TimeoutExpired when it still runs."""
        if self.returncode is None:
            if not select.select([self._sock], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(_answer(self._lines)["exitCode"])
            self.close()
        return self.returncode

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._sock.fileno()

    def kill(self) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._sock.close()


class RuntimeClient:
    """One connection a call; any thread may use it."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)

    def popen(
        self,
        pod: str,
        argv: Sequence[str],
        *,
        namespace: str = "default",
        container: str = "",
        fds: tuple[int, int, int] = (0, 1, 2),
        env: Mapping[str, str] | None = None,
        tty: bool = False,
    ) -> Exec:
        """Start a command in a pod's container (the first, if not named) on the given descriptors."""
        message = {
            "id": 1, "method": "exec", "pod": pod, "namespace": namespace, "container": container,
            "argv": list(argv), "env": dict(env or {}), "tty": tty,
        }  # fmt: skip
        return Exec(self._send(message, list(fds)), argv)

    def run(
        self,
        pod: str,
        argv: Sequence[str],
        *,
        namespace: str = "default",
        container: str = "",
        input: str = "",
        timeout: float = 30,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and collect both outputs; killed, and TimeoutExpired, when it does not end."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(_memory_file(name, input)) for name in ("in", "out", "err")]
            fds = (files[0].fileno(), files[1].fileno(), files[2].fileno())
            running = self.popen(pod, argv, namespace=namespace, container=container, fds=fds, env=env)
            try:
                code = running.wait(timeout)
            finally:
                running.close()
            texts = []
            for file in files[1:]:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(list(argv), code, *texts)

    def containers(self) -> list[dict[str, Any]]:
        """The containers that run: id, namespace, pod, container, image, program, box."""
        with self._send({"id": 1, "method": "list"}, []) as sock, sock.makefile("rb") as lines:
            found: list[dict[str, Any]] = _answer(lines)
            return found

    def attach(
        self,
        pod: str,
        argv: Sequence[str],
        *,
        namespace: str = "default",
        container: str = "",
        tty: bool = False,
    ) -> int:
        """Run on this process' own terminal or pipes; returns the exit code a command line gives."""
        try:
            if not (tty and sys.stdin.isatty()):
                return self.popen(pod, argv, namespace=namespace, container=container).wait()
            return self._attach_tty(pod, argv, namespace, container)
        except RuntimeFault as fault:
            print(f"exec: {fault.message}", file=sys.stderr)
            return _EXIT_BY_REASON.get(fault.reason, 1)
        except OSError as error:
            print(f"exec: no container runtime answers at {self._path}: {error.strerror}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130

    def _attach_tty(self, pod: str, argv: Sequence[str], namespace: str, container: str) -> int:
        master, slave = pty.openpty()
        env = {"TERM": os.environ.get("TERM", "xterm")}

        def resize(*_: object) -> None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetwinsize(master, termios.tcgetwinsize(0))

        resize()
        before = signal.signal(signal.SIGWINCH, resize)
        saved = termios.tcgetattr(0)
        try:
            running = self.popen(
                pod,
                argv,
                namespace=namespace,
                container=container,
                fds=(slave, slave, slave),
                env=env,
                tty=True,
            )
            os.close(slave)
            terminal.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
            _relay(master, running)
            return running.wait()
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
            signal.signal(signal.SIGWINCH, before)
            os.close(master)

    def _send(self, message: dict[str, Any], fds: list[int]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
            data = encode(message)
            sent = socket.send_fds(sock, [data], fds) if fds else sock.send(data)
            sock.sendall(data[sent:])
        except BaseException:
            sock.close()
            raise
        return sock


def _relay(master: int, running: Exec) -> None:
    """Copy between our terminal and the pod's until the command ends."""
    watched = [0, master, running.fileno()]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if master in ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: the other side is closed
                data = b""
            if not data:
                return
            os.write(1, data)
        elif running.fileno() in ready:
            return
        if 0 in ready:
            data = os.read(0, 65536)
            if data:
                os.write(master, data)
            else:
                watched.remove(0)


def _answer(lines: Any) -> Any:
    while True:
        line = lines.readline()
        if not line:
            raise RuntimeFault(GONE, "the container runtime went away")
        message = json.loads(line)
        if "error" in message:
            raise RuntimeFault(message["error"]["reason"], message["error"]["message"])
        if "result" in message:
            return message["result"]


@contextlib.contextmanager
def _memory_file(name: str, content: str) -> Any:
    """A file without a name, so that a pod never holds a descriptor of the lab's file system."""
    fd = os.memfd_create(f"podwire-{name}", os.MFD_CLOEXEC)
    with open(fd, "r+b") as file:
        if name == "in":
            file.write(content.encode())
            file.seek(0)
        yield file
