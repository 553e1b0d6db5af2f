"""The Python clients of Kubernetes, each with a script of its own, against the API and real pods."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clients_kit
from tests.net.streams_kit import streaming

SCRIPT = Path(__file__).with_name("python_clients.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("clients")
    with streaming(directory):
        yield directory


@pytest.mark.parametrize("client", [name.replace("-", "_") for name in clients_kit.CLIENTS])
def test_a_python_client_lists_watches_creates_patches_runs_and_forwards(client: str, place: Path) -> None:
    done = subprocess.run(
        [clients_kit.python(), str(SCRIPT), client],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "KUBECONFIG": str(place / "config")},
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr
