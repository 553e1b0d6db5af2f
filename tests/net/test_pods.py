"""What a pod may and may not do, and what a pod costs: the runtime alone, without a cluster."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.pods_kit import Runtime, container, proportional_kib, running_runtime, tcp, udp
from topo.images.image import Container
from topo.netns import Netns
from topo.runtime_wire import RuntimeFault, listen


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("run")) as started:
        yield started


@pytest.fixture
def netns(request: pytest.FixtureRequest) -> Iterator[Netns]:
    with Netns.create("pod-a") as made:
        yield made


@pytest.fixture
def shell(runtime: Runtime, netns: Netns) -> Iterator[Container]:
    made = container(netns, "busybox")
    assert runtime.start(made) == [None]
    yield made
    runtime.stop(made, grace=0)


def run(runtime: Runtime, command: str, pod: str = "pod-a") -> subprocess.CompletedProcess[str]:
    return runtime.client.run(pod, ["sh", "-c", command])


# -- walls


def test_a_pod_is_an_unprivileged_user_that_cannot_gain_rights(runtime: Runtime, shell: Container) -> None:
    status = run(runtime, "cat /proc/self/status").stdout
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "NoNewPrivs:\t1" in status
    for kind in ("Prm", "Eff", "Bnd", "Amb", "Inh"):
        assert f"Cap{kind}:\t0000000000000000" in status


def test_a_pod_cannot_become_root(runtime: Runtime, shell: Container) -> None:
    for command in (
        "su -c id",
        "setpriv --reuid 0 id",
        "busybox su -c id",
        "unshare -m id",
        "mount -t tmpfs x /tmp",
    ):
        done = run(runtime, command + " </dev/null")
        assert done.returncode != 0, command
        assert "uid=0" not in done.stdout, command


@pytest.mark.parametrize(
    "directory", ["/", "/usr", "/etc", "/dev", "/var", "/root", "/sys", "/proc/sys/kernel"]
)
def test_a_pod_cannot_write_there(runtime: Runtime, shell: Container, directory: str) -> None:
    done = run(runtime, f"echo x > {directory}/written")
    assert done.returncode != 0
    assert not Path(directory, "written").exists()


def test_even_root_in_the_box_meets_a_read_only_root(runtime: Runtime, shell: Container) -> None:
    mounts = run(runtime, "cat /proc/self/mounts").stdout.splitlines()
    writable = {line.split()[1] for line in mounts if "rw" in line.split()[3].split(",")}
    assert {"/tmp", "/run"} <= writable
    assert not writable & {"/", "/usr", "/etc", "/proc/sys", "/proc/sysrq-trigger", "/sys"}


def test_what_a_pod_writes_to_its_tmp_nobody_else_sees(runtime: Runtime, shell: Container) -> None:
    assert run(runtime, "echo mine > /tmp/mine && cat /tmp/mine").stdout == "mine\n"
    assert not Path("/tmp/mine").exists()


def test_a_pod_has_only_its_own_run_directory(runtime: Runtime, shell: Container) -> None:
    assert run(runtime, "ls -A /run /var/log /root /home").stdout.split() == [
        "/home:",
        "/root:",
        "/run:",
        "/var/log:",
    ]


def test_a_pod_sees_no_socket_of_the_lab_or_of_open_vswitch(runtime: Runtime, shell: Container) -> None:
    with listen(str(runtime.directory / "api.sock")):
        ours = f"{runtime.socket} {runtime.directory} /run/podwire /run/netns"
        script = f"""
            for path in {ours} /run/openvswitch /etc/openvswitch /var/log/openvswitch; do
                test -e $path && echo "sees $path"
            done
            find / -xdev -type s 2>/dev/null
            ovs-vsctl --timeout=1 show 2>&1 | grep -c Bridge
            cat /proc/net/unix | grep -v -c Path"""
        assert run(runtime, script).stdout.split() == ["0", "0"]


def test_a_pod_cannot_rename_the_machine(runtime: Runtime, shell: Container) -> None:
    before = socket.gethostname()
    assert run(runtime, "hostname").stdout == "pod-a\n"
    assert run(runtime, "hostname stolen; echo stolen > /proc/sys/kernel/hostname").returncode != 0
    assert run(runtime, "hostname").stdout == "pod-a\n"
    assert socket.gethostname() == before


def test_a_pod_sees_its_own_processes_only(runtime: Runtime, shell: Container) -> None:
    pids = run(runtime, "ls /proc | grep -c '^[0-9]'").stdout
    assert int(pids) <= 5
    assert "Operation not permitted" in run(runtime, "kill -9 1").stderr


def test_a_pod_has_no_way_out_through_process_1_or_a_descriptor(runtime: Runtime, shell: Container) -> None:
    assert run(runtime, "ls /proc/1/root/").returncode != 0
    assert run(runtime, "ls /proc/1/fd").returncode != 0
    assert run(runtime, "exec ls /proc/self/fd").stdout.split() == ["0", "1", "2", "3"]  # 3 is ls' own


def test_a_pod_can_serve_a_low_port_and_open_a_terminal(runtime: Runtime, shell: Container) -> None:
    low = "import socket; s = socket.create_server(('127.0.0.1', 80)); print(s.getsockname()[1])"
    assert runtime.client.run("pod-a", ["/usr/bin/python3", "-c", low]).stdout == "80\n"
    assert run(runtime, "ping -c 1 -W 1 127.0.0.1").returncode == 0
    assert run(runtime, "script -qc 'tty' /dev/null </dev/null").stdout.strip() == "/dev/pts/0"


def test_only_an_image_that_says_why_has_raw_sockets(runtime: Runtime, shell: Container) -> None:
    raw = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    assert "PermissionError" in runtime.client.run("pod-a", ["/usr/bin/python3", "-c", raw]).stderr
    with Netns.create("pod-b") as other:
        allowed = container(other, "podwire/scapy")
        runtime.start(allowed)
        done = runtime.client.run(
            "pod-b", ["/usr/bin/python3", "-c", raw + "; import os; print(os.getuid())"]
        )
        runtime.stop(allowed)
    assert (done.stdout, done.stderr) == ("65534\n", "")


# -- running


def test_a_stand_in_can_be_entered_too(runtime: Runtime, netns: Netns) -> None:
    made = container(netns, "nginx:1.27", ports=(tcp(80),), env={"COLOUR": "blue"})
    assert runtime.start(made) == [None]
    done = run(
        runtime, "echo $COLOUR; hostname; id -u; curl -s http://127.0.0.1/ | grep -o pod-a; cat /etc/hostname"
    )
    assert done.stdout.split() == ["blue", "pod-a", "65534", "pod-a", "pod-a"]
    runtime.stop(made)


def test_a_command_runs_and_its_exit_code_is_told(runtime: Runtime, netns: Netns) -> None:
    made = container(
        netns, argv=("sh", "-c", "trap 'exit 7' TERM; echo up > /tmp/up; while :; do sleep 0.05; done")
    )
    assert runtime.start(made) == [None]
    assert run(runtime, "until test -e /tmp/up; do sleep 0.02; done").returncode == 0
    assert runtime.stop(made) == {made.id: 7}


def test_a_command_that_ignores_term_is_killed_after_its_grace(runtime: Runtime, netns: Netns) -> None:
    made = container(
        netns, argv=("sh", "-c", "trap '' TERM; echo up > /tmp/up; while :; do sleep 0.05; done")
    )
    runtime.start(made)
    run(runtime, "until test -e /tmp/up; do sleep 0.02; done")
    assert runtime.stop(made, grace=0.2) == {made.id: 137}


def test_a_command_that_does_not_exist_is_a_start_error(runtime: Runtime, netns: Netns) -> None:
    [answer] = runtime.start(container(netns, argv=("no-such-program",)))
    assert answer["reason"] == "StartError"
    assert 'exec: "no-such-program": executable file not found in $PATH' in answer["message"]


def test_exec_has_standard_input_and_both_outputs(runtime: Runtime, shell: Container) -> None:
    done = runtime.client.run("pod-a", ["sh", "-c", "cat; echo bad >&2; exit 3"], input="good")
    assert (done.stdout, done.stderr, done.returncode) == ("good", "bad\n", 3)


def test_exec_that_takes_too_long_is_killed(runtime: Runtime, shell: Container) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        runtime.client.run("pod-a", ["sleep", "987"], timeout=0.2)
    assert run(runtime, "until ! pgrep -f 'sleep 98[7]'; do sleep 0.02; done; echo gone").stdout.endswith(
        "gone\n"
    )


def test_exec_in_a_pod_that_is_not_there_says_so(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFault, match="no running pod default/nobody"):
        runtime.client.run("nobody", ["true"])


def test_a_probe_command_is_cut_off_at_its_timeout(runtime: Runtime, shell: Container) -> None:
    done = runtime.request("exec_sync", container=shell.id, argv=["sh", "-c", "echo no; exit 1"], timeout=5)
    assert done == {"exitCode": 1, "output": "no\n"}
    with pytest.raises(RuntimeFault, match=r"timed out after 0\.1s"):
        runtime.request("exec_sync", container=shell.id, argv=["sleep", "60"], timeout=0.1)


def test_a_port_that_is_taken_in_the_pod_ends_the_second_container(runtime: Runtime, netns: Netns) -> None:
    first, second = (container(netns, "nginx", name=n, ports=(tcp(80),)) for n in ("one", "two"))
    assert runtime.start(first, second) == [None, None]
    assert [c["container"] for c in runtime.client.containers() if c["pod"] == "pod-a"] == ["one"]
    runtime.stop(first)


def test_a_light_container_that_ends_closes_its_connections(runtime: Runtime, netns: Netns) -> None:
    made = container(netns, "nginx", ports=(tcp(80), udp(53)))
    runtime.start(made)
    with netns.socket() as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", 80))
        client.sendall(b"hello")
        client.recv(100)
        runtime.stop(made)
        assert client.recv(100) == b""
    with netns.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", 80))


def test_the_loss_of_the_light_child_ends_its_containers_only(
    runtime: Runtime, netns: Netns, shell: Container
) -> None:
    with Netns.create("pod-c") as other:
        runtime.start(container(other, "nginx", ports=(tcp(80),)))
        children = (
            Path(f"/proc/{runtime.process.pid}/task/{runtime.process.pid}/children").read_text().split()
        )
        [light] = [c for c in children if b"runtime_light" in Path(f"/proc/{c}/cmdline").read_bytes()]
        subprocess.run(["kill", "-9", light], check=True)
        while any(c["pod"] == "pod-c" for c in runtime.client.containers()):
            pass
        assert run(runtime, "echo alive").stdout == "alive\n"
        while runtime.start(again := container(other, "nginx", ports=(tcp(80),))) != [None]:
            pass
        runtime.stop(again)


def test_a_terminal_is_relayed_by_the_command_line(runtime: Runtime, shell: Container) -> None:
    command = ["-m", "topo.runtime", "exec", "--socket", str(runtime.socket), "-t", "pod-a", "--", "sh"]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 77))
    with subprocess.Popen([sys.executable, *command], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = read_until(ours, b"$ ")
        os.write(ours, b"test -t 0 && test -t 1 && stty size; id -u; exit 5\n")
        seen = read_until(ours, b"65534")
        assert b"33 77" in seen
        assert process.wait(10) == 5
    os.close(ours)


def read_until(fd: int, end: bytes) -> bytes:
    seen = b""
    while end not in seen:
        seen += os.read(fd, 4096)
    return seen


# -- cost


@pytest.mark.parametrize("image", ["nginx", "busybox"])
def test_an_idle_pod_costs_less_than_3_mb(tmp_path: Path, image: str) -> None:
    namespaces = Netns.create_all([f"idle-{n}" for n in range(100)])
    try:
        with running_runtime(tmp_path) as runtime:
            pods = [container(n, image, ports=(tcp(80),)) for n in namespaces]
            assert runtime.start(*pods) == [None] * 100
            each = proportional_kib(runtime.process.pid) / 100
            print(f"PSS of an idle {image} pod: {each:.0f} KiB")
            assert each < 3 * 1024
    finally:
        for n in namespaces:
            n.delete()
