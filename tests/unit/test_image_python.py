"""The image python: which names mean it, what its containers run and see."""

from __future__ import annotations

import subprocess

import pytest

from tests.unit.test_images import container
from topo import python_clients
from topo.images import python
from topo.images.table import find
from topo.kubelet_spec import remarks


@pytest.mark.parametrize(
    "name", ["python", "python:3.12-slim", "docker.io/library/python:3", "bitnami/python"]
)
def test_any_python_is_the_machine_s(name: str) -> None:
    assert (find(name).name, find(name).runs_command) == ("python", True)


def test_a_manifest_s_command_is_run_and_nobody_is_told_otherwise() -> None:
    spec = {"name": "main", "image": "python:3.12", "command": ["python", "-m", "http.server"]}
    assert [*remarks({"spec": {"containers": [spec]}}, spec)] == []
    made = python.program(container("python:3.12", argv=("python", "-m", "http.server"), command=3))
    assert made.argv == ("python", "-m", "http.server")


def test_without_the_clients_python_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_clients, "present", lambda: False)
    made = python.program(container("python"))
    (bound,) = made.binds
    done = subprocess.run(
        ["sh", "-c", "python -c 'import sys; print(sys.prefix)'"],
        env=dict(made.env),
        capture_output=True,
        text=True,
    )
    assert (made.env["PATH"].split(":")[0], done.stdout) == (bound, "/usr\n")


def test_with_the_clients_it_is_theirs_and_a_container_s_own_variables_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(python_clients, "present", lambda: True)
    made = python.program(container("python", env={"PYTHONUNBUFFERED": ""}))
    assert made.binds == (str(python_clients.PLACE),)
    assert made.env["PATH"].startswith(f"{python_clients.PLACE}/bin:")
    assert "PYTHONUNBUFFERED" not in made.env
