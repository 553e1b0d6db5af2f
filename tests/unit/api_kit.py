"""Builders and a real server process for the tests of the API.

apiVersion v1 Pod default/web   one container "web", image web:1, port 80, labels app=web
Service default/web             port 80, selector app=web
Deployment default/web          one replica of the pod above
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.api.client import Client
from controller.api.objects import Obj
from controller.api.patch import merge_patch

ROOT = Path(__file__).parents[2]


def pod(name: str = "web", **changes: Any) -> Obj:
    """``changes`` is merged over the object, as a merge patch."""
    base = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
    }
    return _merged(base, changes)


def service(name: str = "web", **changes: Any) -> Obj:
    base = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    return _merged(base, changes)


def deployment(name: str = "web", **changes: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    base = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    return _merged(base, changes)


def namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config_map(name: str = "settings") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"a": "1"},
    }


def _merged(base: Obj, changes: Obj) -> Obj:
    made: Obj = merge_patch(base, changes)
    return made


class ApiServer:
    """A server process of its own on files in ``directory``; may be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket, self._database = directory / "api.sock", directory / "store.db"
        self._process: subprocess.Popen[str] | None = None
        self.client = Client(self.socket)

    def start(self) -> None:
        command = [sys.executable, "-m", "controller.api.server", "--no-managers"]
        command += ["--socket", str(self.socket), "--db", str(self._database)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._end()

    @property
    def running(self) -> bool:
        return self._process is not None

    def _end(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(timeout=10)
        self._process.stdout.close()
        self._process = None
        return code


@contextmanager
def api_server(directory: Path) -> Iterator[ApiServer]:
    server = ApiServer(directory)
    server.start()
    try:
        yield server
    finally:
        if server.running:
            server.stop()
