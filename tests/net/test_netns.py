"""Namespaces by descriptor: named for ip(8), entered by one thread, used for programs and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.leaks import snapshot, until
from topo.netns import Netns


@pytest.fixture
def netns() -> Iterator[Netns]:
    with Netns.create("test-a") as made:
        yield made


def links(*command: str) -> str:
    return subprocess.run([*command, "ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def test_ip_netns_finds_it_by_name_and_lo_is_up(netns: Netns) -> None:
    subprocess.run(["ip", "link", "add", "test-v", "type", "veth", "peer", "test-w"], check=True)
    subprocess.run(["ip", "link", "set", "test-w", "netns", "test-a"], check=True)
    seen = links("ip", "netns", "exec", "test-a")
    assert "test-w" in seen
    assert "lo               UNKNOWN" in seen
    assert "test-w" not in links()


def test_only_the_calling_thread_is_inside_and_comes_back(netns: Netns) -> None:
    outside = Path("/proc/thread-self/ns/net").readlink()
    seen: list[Path] = []
    with netns.enter():
        inside = Path("/proc/thread-self/ns/net").readlink()
        other = threading.Thread(target=lambda: seen.append(Path("/proc/thread-self/ns/net").readlink()))
        other.start()
        other.join()
        # A thread starts in the namespaces of the one that starts it.
        assert seen == [inside]
    assert inside != outside
    assert Path("/proc/thread-self/ns/net").readlink() == outside
    with pytest.raises(ZeroDivisionError), netns.enter():
        raise ZeroDivisionError
    assert Path("/proc/thread-self/ns/net").readlink() == outside


def test_a_socket_belongs_to_it_whoever_uses_it(netns: Netns) -> None:
    with netns.socket() as server, netns.socket() as client, socket.socket() as stranger:
        server.bind(("127.0.0.1", 8080))
        server.listen()
        client.settimeout(5)
        client.connect(("127.0.0.1", 8080))
        with pytest.raises(ConnectionRefusedError):
            stranger.connect(("127.0.0.1", 8080))


def test_a_program_runs_in_it_and_in_further_namespaces(netns: Netns, tmp_path: Path) -> None:
    script = "mount -t tmpfs x /mnt && touch /mnt/seen && hostname pod && echo ready && exec sleep 100"
    with subprocess.Popen(["unshare", "-mu", "sh", "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        also = [os.open(f"/proc/{holder.pid}/ns/{kind}", os.O_RDONLY) for kind in ("mnt", "uts")]
        inside = netns.popen(
            ["sh", "-c", "ls /mnt; hostname; ip -br link"], also=also, stdout=subprocess.PIPE
        )
        shown = inside.communicate()[0].decode()
        after = netns.popen(["sh", "-c", "ls /mnt; pwd"], stdout=subprocess.PIPE).communicate()[0].decode()
        for fd in also:
            os.close(fd)
        holder.kill()
    assert shown.split()[:3] == ["seen", "pod", "lo"]
    assert "seen" not in after
    assert after.splitlines()[-1] == str(Path.cwd())


def test_a_taken_name_is_refused_and_leaves_nothing(netns: Netns) -> None:
    before = snapshot()
    with pytest.raises(FileExistsError):
        Netns.create_all(["test-b", "test-a"])
    assert not Path("/run/netns/test-b").exists()
    assert snapshot() - before == set()


def test_deleting_it_ends_its_links(netns: Netns) -> None:
    subprocess.run(
        ["ip", "link", "add", "test-x", "type", "veth", "peer", "test-y", "netns", "test-a"], check=True
    )
    netns.delete()
    netns.delete()
    assert not Path("/run/netns/test-a").exists()
    until("the pair is gone", lambda: "test-x" not in {name for _, name in socket.if_nameindex()})
