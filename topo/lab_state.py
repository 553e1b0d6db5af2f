"""What a running lab tells a second terminal: a state file to read, a control socket to ask.

The file says where everything is (``LabState.load``); nearly all a second terminal does then goes through
the API's socket, the runtime's socket or a namespace by name. Only what needs the lab's own process is
asked for on the control socket, one JSON line each way.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.api.errors import PodwireError, UserError
from topo.capture import LinkEnd

STATE, CONTROL = "state.json", "control.sock"
API, RUNTIME, STORE, LOGS, PKI = "api.sock", "runtime.sock", "store.db", "log", "pki"
"""What else lies in the run directory."""


@dataclass(frozen=True, kw_only=True)
class LabState:
    """``hosts`` maps a host's name to kind (node, client, router, pod), netns, address, and ``ipv6`` where it
    has one."""

    datapath: str
    config: Mapping[str, Any]
    hosts: Mapping[str, Mapping[str, str]]
    links: Sequence[LinkEnd]

    @classmethod
    def load(cls, run_dir: Path) -> LabState:
        """Read it inside the sandbox of a running lab; UserError when that lab is not up (yet)."""
        try:
            data = json.loads((run_dir / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError("the lab is not up yet: wait until `./lab up` says so") from None
        return cls(**{**data, "links": [LinkEnd(**link) for link in data["links"]]})

    def save(self, run_dir: Path) -> None:
        """Replace it at once: a reader sees the old or the new."""
        new = run_dir / (STATE + ".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.replace(run_dir / STATE)


Verbs = Mapping[str, Callable[..., Any]]


class Control:
    """Answers ``{"verb": ..., "arguments": {...}}`` with ``{"result": ...}`` or ``{"error": ...}``."""

    def __init__(self, run_dir: Path, verbs: Verbs) -> None:
        self._verbs = verbs
        path = run_dir / CONTROL
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("r", encoding="utf-8") as lines:
                connection.settimeout(60)
                try:
                    if line := lines.readline():
                        connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")
                except OSError:
                    pass  # the asker went away

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb = self._verbs.get(request["verb"])
            if verb is None:
                return {"error": f"the lab knows {', '.join(self._verbs)}, not {request['verb']}"}
            return {"result": verb(**request.get("arguments", {}))}
        except PodwireError as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not understood: {error}"}


def is_asked(run_dir: Path) -> bool:
    """Whether a lab's process listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(run_dir / CONTROL)) == 0


def ask(run_dir: Path, verb: str, **arguments: Any) -> Any:
    """Ask the lab's process, from inside its sandbox."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(run_dir / CONTROL))
        except OSError as error:
            raise UserError(f"the lab's process does not answer: {error.strerror}") from None
        with connection.makefile("rw", encoding="utf-8") as lines:
            lines.write(json.dumps({"verb": verb, "arguments": arguments}) + "\n")
            lines.flush()
            answer = json.loads(lines.readline() or '{"error": "the lab ended"}')
    if "error" in answer:
        raise PodwireError(answer["error"])
    return answer["result"]
