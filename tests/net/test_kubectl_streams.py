"""Bytes into and out of pods by the real kubectl: 1.20 speaks SPDY, the newest WebSocket."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import select
import signal
import socket
import subprocess
import termios
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.api.objects import Obj
from tests.net.kubelet_kit import Cluster, main_status
from tests.net.streams_kit import Kubectl, Terminal, streaming
from tests.unit.kubectl_kit import newest, oldest

NUMBERS = itertools.count()
ON_NODE1 = '--overrides={"spec": {"nodeName": "node1"}}'  # there is no scheduler


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    with streaming(place) as made:
        yield made


@pytest.fixture(params=["1.20", "newest"])
def kubectl(request: pytest.FixtureRequest, cluster: Cluster, place: Path) -> Kubectl:
    return Kubectl(oldest() if request.param == "1.20" else newest(), place)


def line_like(running: subprocess.Popen[str], pattern: str) -> str:
    assert running.stdout is not None
    for line in running.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"ended without {pattern}")


def test_a_command_has_input_two_outputs_and_an_exit_code(kubectl: Kubectl) -> None:
    done = kubectl.run("exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr.decode().splitlines() == ["err", "command terminated with exit code 3"]
    assert kubectl("exec", "-i", "shell", "--", "tr", "a-z", "A-Z", input=b"hello\n") == "HELLO\n"
    missing = kubectl.run("exec", "shell", "--", "nosuch")
    assert (missing.returncode, b'exec: "nosuch": executable file not found' in missing.stderr) == (1, True)
    unknown = kubectl.run("exec", "shell", "-c", "other", "--", "true")
    assert (unknown.returncode, b"container other is not valid for pod shell" in unknown.stderr) == (1, True)


def test_megabytes_pass_both_ways_unharmed(kubectl: Kubectl) -> None:
    sent = os.urandom(5_000_000)
    done = kubectl.run("exec", "-i", "shell", "--", "sh", "-c", "tee /tmp/got | cat", input=sent)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent).digest()
    counted = kubectl("exec", "shell", "--", "sha256sum", "/tmp/got")
    assert counted.split()[0] == hashlib.sha256(sent).hexdigest()


def test_a_light_pod_has_a_shell_too(kubectl: Kubectl) -> None:
    assert kubectl("exec", "web", "--", "hostname") == "web\n"


def test_a_terminal_has_a_size_and_passes_keys_and_the_exit_code(kubectl: Kubectl) -> None:
    terminal = Terminal(kubectl, "exec", "-it", "shell", "--", "sh", rows=31, columns=97)
    terminal.until(r"[$#] ")
    terminal.type("stty size\n")
    terminal.until(r"31 97\r\n")
    termios.tcsetwinsize(terminal.fd, (40, 120))
    os.kill(terminal.pid, signal.SIGWINCH)
    terminal.type("while [ \"$(stty size)\" != '40 120' ]; do :; done; echo re''sized\n")
    terminal.until("resized\r\n")
    terminal.type('sh -c "echo be""gun; exec sleep 100"\n')
    terminal.until(r"begun\r\n")
    terminal.type("\x03")
    terminal.until(r"[$#] ")
    terminal.type("exit 4\n")
    assert terminal.end() == 4


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "one.bin").write_bytes(data)
    for pod in ("shell", "web"):
        kubectl("cp", str(tmp_path / "one.bin"), f"default/{pod}:/tmp/two.bin")
        told = kubectl("exec", pod, "--", "sha256sum", "/tmp/two.bin")
        assert told.split()[0] == hashlib.sha256(data).hexdigest()
        kubectl("cp", f"default/{pod}:/tmp/two.bin", str(tmp_path / f"{pod}.bin"))
        assert (tmp_path / f"{pod}.bin").read_bytes() == data


def forwarded(running: subprocess.Popen[str]) -> int:
    found = re.search(r"127\.0\.0\.1:(\d+) ->", line_like(running, "Forwarding from 127"))
    assert found
    return int(found[1])


def test_a_port_is_forwarded_into_the_pod(kubectl: Kubectl) -> None:
    with kubectl.started("port-forward", "pod/web", ":80") as running:
        url = f"http://127.0.0.1:{forwarded(running)}/"
        for _ in range(20):
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert answer.status == 200


def test_a_forward_to_a_closed_port_says_so(kubectl: Kubectl) -> None:
    with kubectl.started("port-forward", "pod/web", ":81") as running:
        with socket.create_connection(("127.0.0.1", forwarded(running)), 10) as made:
            assert made.recv(10) == b""
        line_like(running, "failed to connect to localhost:81 inside the pod: connection refused")


def test_a_forward_carries_bytes_unharmed_and_half_closed(kubectl: Kubectl, cluster: Cluster) -> None:
    data = os.urandom(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    listener = kubectl.started("exec", "shell", "--", "/busybox/nc", "-l", "-p", "7000", "-e", "sha256sum")
    with listener, kubectl.started("port-forward", "pod/shell", ":7000") as running:
        port = forwarded(running)
        cluster.inside("shell", "until netstat -ltn | grep -q :7000; do :; done")
        with socket.create_connection(("127.0.0.1", port), 10) as made:
            made.sendall(data)
            made.shutdown(socket.SHUT_WR)
            assert made.makefile("r").read().split()[0] == digest


def test_a_killed_pod_ends_the_forward(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"mortal-{next(NUMBERS)}"
    cluster.run(name)
    cluster.when(name, lambda pod: pod["status"].get("phase") == "Running")
    with kubectl.started("port-forward", f"pod/{name}", ":80") as running:
        url = f"http://127.0.0.1:{forwarded(running)}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
        cluster.client.delete("Pod", name, grace=0)
        line_like(running, "lost connection to pod")
        assert running.wait(10) in (0, 1)  # 1.20 does not take it for an error


def test_a_killed_pod_ends_the_command(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"mortal-{next(NUMBERS)}"
    cluster.run(name, "busybox", container={"command": ["sleep", "1000"]}, ports=())
    cluster.when(name, lambda pod: pod["status"].get("phase") == "Running")
    with kubectl.started("exec", name, "--", "sh", "-c", "echo begun; sleep 1000") as running:
        line_like(running, "begun")
        cluster.client.delete("Pod", name, grace=0)
        line_like(running, "exit code 137")
        assert running.wait(10) == 137


def test_a_client_that_leaves_takes_its_command_along(kubectl: Kubectl, cluster: Cluster) -> None:
    with kubectl.started("exec", "shell", "--", "sh", "-c", "echo begun; exec sleep 4321") as running:
        line_like(running, "begun")
        assert cluster.inside("shell", "until pgrep -f '^sleep 4321'; do :; done").returncode == 0
    look = "for i in $(seq 500); do pgrep -f '^sleep 4321' > /dev/null || exit 0; done; exit 1"
    assert cluster.inside("shell", look).returncode == 0


def test_logs_are_followed_and_attach_shows_only_what_is_new(kubectl: Kubectl) -> None:
    with kubectl.started("logs", "-f", "--tail=1", "talk") as running:
        first = int(line_like(running, "line ").split()[1])
        assert int(line_like(running, "line ").split()[1]) == first + 1
    with kubectl.started("attach", "talk") as running:
        attached = int(line_like(running, r"^line \d+").split()[1])
        assert attached > first


def test_a_pod_is_run_on_ones_own_terminal(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"tty-{next(NUMBERS)}"
    words = ["run", name, "-it", "--rm", "--restart=Never", "--image=busybox", ON_NODE1, "--", "sh"]
    terminal = Terminal(kubectl, *words, rows=31, columns=97)
    terminal.until("try pressing enter")
    terminal.type("\n")
    terminal.until(r"[$#] ")
    terminal.type("while [ \"$(stty size)\" != '31 97' ]; do :; done; echo si''zed on $(hostname)\n")
    terminal.until(f"sized on {name}\r\n")
    terminal.type("exit 5\n")
    assert terminal.end() == 5
    cluster.until_gone(name)


def test_a_pod_is_run_on_a_pipe(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"pipe-{next(NUMBERS)}"
    words = [
        "run",
        name,
        "-i",
        "--rm",
        "--restart=Never",
        "--image=busybox",
        ON_NODE1,
        "--",
        "tr",
        "a-z",
        "A-Z",
    ]
    done = kubectl.run(*words, input=b"through a pipe\n")
    assert (done.returncode, b"THROUGH A PIPE\n" in done.stdout) == (0, True), done
    cluster.until_gone(name)


def test_the_proxy_serves_the_api_on_the_users_side(kubectl: Kubectl) -> None:
    with kubectl.started("proxy", "--port=0") as running:
        found = re.search(r"127\.0\.0\.1:\d+", line_like(running, "Starting to serve"))
        assert found
        with urllib.request.urlopen(f"http://{found[0]}/api/v1/nodes/node1", timeout=10) as answer:
            assert b'"node1"' in answer.read()


def test_logs_have_times(kubectl: Kubectl) -> None:
    """A stand-in, which has no process, logs its requests."""
    with kubectl.started("port-forward", "pod/web", ":80") as running:
        address = f"http://127.0.0.1:{forwarded(running)}/asked-for"
        urllib.request.urlopen(address, timeout=10).close()
    pattern = r'(\S+) 127\.0\.0\.1:\d+ "GET /asked-for" 200 \d+ "Python-urllib/3\.\d+"$'
    with kubectl.started("logs", "-f", "--timestamps", "web") as running:
        line = line_like(running, pattern)
    found = re.search(pattern, line)
    assert found
    age = datetime.now(UTC) - datetime.fromisoformat(found[1])
    assert timedelta(0) < age < timedelta(seconds=30)
    soon = datetime.now(UTC) + timedelta(seconds=1)  # kubectl sends whole seconds
    assert "asked-for" not in kubectl("logs", f"--since-time={soon:%Y-%m-%dT%H:%M:%SZ}", "web")
    lines = kubectl("logs", "--since=2s", "talk").splitlines()
    assert 1 <= len(lines) <= 12
    assert kubectl("logs", "--since=1h", "talk").splitlines()[0] == "line 1"


def test_following_ends_with_the_containers_life(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"restarts-{next(NUMBERS)}"
    script = "echo in; echo wrong >&2; sleep 1; printf out"
    cluster.run(name, "busybox", container={"command": ["sh", "-c", script]}, ports=())
    cluster.when(name, lambda pod: main_status(pod).get("restartCount", 0) >= 1 and running_now(pod))
    followed = kubectl("logs", "-f", name)
    assert sorted(followed.splitlines()) == ["in", "out", "wrong"]
    assert sorted(kubectl("logs", "--previous", name).splitlines()) == ["in", "out", "wrong"]
    cluster.client.delete("Pod", name, grace=0)


def running_now(pod: Obj) -> bool:
    return "running" in main_status(pod)["state"]


def test_a_pod_that_writes_without_end_fills_nothing_and_holds_up_nobody(
    kubectl: Kubectl, cluster: Cluster, place: Path
) -> None:
    name = f"floods-{next(NUMBERS)}"
    cluster.run(name, "busybox", container={"command": ["yes"]}, ports=())
    cluster.when(name, lambda pod: pod["status"].get("phase") == "Running")
    with kubectl.started("logs", "-f", name) as running:
        line_like(running, "y")
    file = place / "log" / f"default_{name}_main.log"
    first = file.stat().st_ino
    sizes = []
    while file.stat().st_ino == first:  # until it has begun anew
        sizes.append(file.stat().st_size)
        assert kubectl("exec", "shell", "--", "echo", "served") == "served\n"
    assert max(sizes) <= 10 << 20
    assert kubectl("logs", "--tail=2", name) == "y\ny\n"
    cluster.client.delete("Pod", name, grace=0)
    cluster.until_gone(name)


def test_a_container_that_does_not_run_takes_no_command(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"half-{next(NUMBERS)}"
    lives = {"name": "lives", "image": "busybox", "command": ["sleep", "1000"]}
    dies = {"name": "dies", "image": "busybox", "command": ["true"]}
    cluster.run(name, containers=[lives, dies], restartPolicy="Never")
    cluster.when(
        name, lambda pod: "terminated" in state_of(pod, "dies") and "running" in state_of(pod, "lives")
    )
    assert kubectl("exec", name, "-c", "lives", "--", "echo", "here") == "here\n"
    refused = kubectl.run("exec", name, "-c", "dies", "--", "true")
    assert (refused.returncode, b'container not found ("dies")' in refused.stderr) == (1, True), refused
    cluster.client.delete("Pod", name, grace=0)


def test_commands_run_in_an_init_container_and_in_a_pod_that_ends(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"slow-{next(NUMBERS)}"
    script = "while [ ! -e /tmp/go ]; do sleep 0.1; done"
    first = {"name": "first", "image": "busybox", "command": ["sh", "-c", script]}
    stays = {
        "name": "stays",
        "image": "busybox",
        "command": ["sh", "-c", "trap : TERM; while :; do sleep 1; done"],
    }
    cluster.run(name, initContainers=[first], containers=[stays], terminationGracePeriodSeconds=60)
    cluster.when(name, lambda pod: "running" in state_of(pod, "first"))
    waiting = kubectl.run("exec", name, "-c", "stays", "--", "true")
    assert (waiting.returncode, b'container not found ("stays")' in waiting.stderr) == (1, True), waiting
    kubectl("exec", name, "-c", "first", "--", "touch", "/tmp/go")
    cluster.when(name, lambda pod: "running" in state_of(pod, "stays"))
    kubectl("delete", "pod", name, "--wait=false")
    assert kubectl("exec", name, "-c", "stays", "--", "echo", "still here") == "still here\n"
    cluster.client.delete("Pod", name, grace=0)
    cluster.until_gone(name)


def state_of(pod: Obj, container: str) -> Obj:
    status = pod.get("status") or {}
    every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next((one["state"] for one in every if one["name"] == container), {})


def test_a_stand_in_is_attached_to(kubectl: Kubectl) -> None:
    with (
        kubectl.started("attach", "web") as attached,
        kubectl.started("port-forward", "pod/web", ":80") as running,
    ):
        port = forwarded(running)
        for number in range(100):  # kubectl says nothing when it is there
            urllib.request.urlopen(f"http://127.0.0.1:{port}/try-{number}", timeout=10).close()
            assert attached.stdout is not None
            if select.select([attached.stdout], [], [], 0.1)[0]:
                break
        assert "GET /try-" in line_like(attached, "GET")


def test_debug_is_refused_in_words(kubectl: Kubectl) -> None:
    verb = ["alpha", "debug"] if "old" in kubectl.program else ["debug"]
    refused = kubectl.run(*verb, "web", "--image=busybox")
    assert refused.returncode == 1
    assert b"ephemeral containers" in refused.stderr, refused
