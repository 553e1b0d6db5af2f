"""The kubeproxy process itself: its command line, and that it does not outlive who started it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
APP = (sys.executable, "-m", "controller.kubeproxy.app")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*APP, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("listen", ["6653", "udp:127.0.0.1:6653", "tcp:127.0.0.1", "tcp:127.0.0.1:70000"])
def test_a_bad_listen_address_is_one_sentence_and_exit_code_2(listen):
    done = run("--api", "api.sock", "--listen", listen)
    assert done.returncode == 2
    assert done.stderr == (
        f"kubeproxy: --listen {listen}: write tcp:ADDRESS:PORT, for example tcp:127.0.0.1:6653\n"
    )


def test_an_unknown_backend_is_refused():
    done = run("--api", "api.sock", "--backend", "nox")
    assert done.returncode == 2
    assert "invalid choice: 'nox'" in done.stderr


def test_ryu_where_it_is_not_installed_says_how_to_install_it(tmp_path):
    done = run("--api", "api.sock", "--backend", "ryu", PODWIRE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        "kubeproxy: ryu is not installed; python -m controller.kubeproxy.ryu_venv installs it\n"
    )


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path):
    command = [*APP, "--api", str(tmp_path / "api.sock"), "--listen", f"tcp:127.0.0.1:{_free_port()}"]
    # started by a thread that ends at once: that alone must not end it
    starter = (
        "import subprocess, threading, signal\n"
        f"start = threading.Thread(target=subprocess.Popen, args=({command!r},))\n"
        "start.start(); start.join(); signal.pause()"
    )
    read, write = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", starter], cwd=REPOSITORY, stderr=write, stdout=subprocess.DEVNULL
    )
    os.close(write)
    try:
        said = b""
        while b"listens at" not in said:
            assert select.select([read], [], [], 15)[0], said
            said += os.read(read, 4096)
        parent.kill()
        parent.wait()
        # the end of the pipe is reached when the last process that holds it, the kubeproxy, is gone
        while select.select([read], [], [], 15)[0] and os.read(read, 4096):
            pass
        assert not os.read(read, 1)
    finally:
        os.close(read)
        parent.kill()
        parent.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
