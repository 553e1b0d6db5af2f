"""busybox for pods: its commands, and the nc that init containers wait by."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from topo.runtime_busybox import applets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = applets(tmp_path_factory.mktemp("busybox"))
    assert applets(Path(made)) == made  # a second time over the first
    return Path(made)


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def nc(folder: Path, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "nc"), *words], input=input, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize("flags", [["-z"], ["-zv"], ["-z", "-w", "2"], ["-vzw2"]])
def test_nc_z_tells_by_its_exit_status_whether_somebody_listens(
    folder: Path, port: int, flags: list[str]
) -> None:
    assert nc(folder, *flags, "127.0.0.1", str(port)).returncode == 0


def test_nc_z_says_why_nobody_answers(folder: Path) -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        refused = nc(folder, "-z", "127.0.0.1", str(port))
    assert (refused.returncode, refused.stderr) == (
        1,
        f"nc: 127.0.0.1 (127.0.0.1:{port}): Connection refused\n",
    )
    unknown = nc(folder, "-z", "no-such-host.invalid", "80")
    assert (unknown.returncode, unknown.stderr) == (1, "nc: bad address 'no-such-host.invalid'\n")


def test_nc_without_z_is_busybox_own(folder: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            [str(folder / "nc"), "127.0.0.1", str(listener.getsockname()[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        connection, _ = listener.accept()
        with connection:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert connection.recv(100) == b"hello\n"
            connection.sendall(b"bye\n")
        process.stdin.close()
        assert process.stdout.read() == b"bye\n"


def test_what_acts_on_the_machine_is_not_for_pods(folder: Path) -> None:
    there = {path.name for path in folder.iterdir()}
    assert {"wget", "nslookup", "vi", "nc"} <= there
    assert not {"init", "reboot", "su"} & there
