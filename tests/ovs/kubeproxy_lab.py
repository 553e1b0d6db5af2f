"""An API server, a kubeproxy and a private Open vSwitch as real processes; objects are made by hand."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from controller.api.client import Client
from controller.api.wiring import DATAPATH_ID, HOST_INTERFACE, INTERFACE, UPLINK_INTERFACE
from controller.kubeproxy import ryu_venv
from tests.ovs.private_ovs import PrivateOvs

Obj = dict[str, Any]
REPOSITORY = Path(__file__).resolve().parents[2]
FLOW_MODS = re.compile(r"(received|rcvd).*OFPT_(FLOW_MOD|GROUP_MOD|BUNDLE_ADD_MESSAGE)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A component; its lines are kept and can be waited for, each once."""

    def __init__(self, *command: str) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._news.put(line.rstrip())
        self._news.put(None)

    def wait_for(self, pattern: str, timeout: float = 15) -> str:
        end = time.monotonic() + timeout
        while True:
            try:
                line = self._news.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {pattern!r}; it said:\n" + "\n".join(self.lines))
            if re.search(pattern, line):
                return line

    def forget(self) -> None:
        """Wait from here on: what was said so far does not count."""
        while not self._news.empty():
            self._news.get()

    def ready(self) -> Process:
        self.wait_for("^ready$")
        return self

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=15)
        self._reader.join(timeout=5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class KubeproxyLab:
    """``start_*`` and ``stop``; nodes are bridges ``br-nodeN`` with host, uplink and pod ports.

    ``PODWIRE_BACKEND=ryu ./lab test tests/ovs`` runs every test of this tier that has a kubeproxy under Ryu.
    """

    def __init__(self, directory: Path, backend: str = "") -> None:
        self.directory = directory
        self.backend = backend or os.environ.get("PODWIRE_BACKEND", "os-ken")
        if self.backend == "ryu":
            ryu_venv.install()
        (directory / "ovs").mkdir()
        self.ovs = PrivateOvs(directory / "ovs")
        self.port = free_port()
        self.target = f"tcp:127.0.0.1:{self.port}"
        self.client = Client(directory / "api.sock")
        self.timing = directory / "timing.jsonl"
        self.api: Process | None = None
        self.kubeproxy: Process | None = None
        self._processes: list[Process] = []

    def start(self) -> KubeproxyLab:
        """Open vSwitch and the API server."""
        starting = self._spawn_api()
        self.ovs.start()
        starting.ready()
        return self

    def start_api(self) -> Process:
        return self._spawn_api().ready()

    def _spawn_api(self) -> Process:
        files = ("--socket", str(self.directory / "api.sock"), "--db", str(self.directory / "store.db"))
        self.api = Process("-m", "controller.api.server", *files, "--no-managers")
        self._processes.append(self.api)
        return self.api

    def spawn_kubeproxy(self, *more: str) -> Process:
        self.kubeproxy = Process(
            *("-m", "controller.kubeproxy.app", "--api", str(self.directory / "api.sock")),
            *("--listen", self.target, "--backend", self.backend, "--timing", str(self.timing)),
            *("--read-every", "0.5", *more),
        )
        self._processes.append(self.kubeproxy)
        return self.kubeproxy

    def start_kubeproxy(self, *more: str) -> Process:
        """Bridges of a kubeproxy that ended come back by themselves, within their pause of a second."""
        started = self.spawn_kubeproxy(*more)
        return self.connect(started)

    def connect(self, kubeproxy: Process) -> Process:
        """Point every bridge at a kubeproxy once it is ready."""
        kubeproxy.ready()
        for bridge in self.ovs.vsctl("list-br").split():
            self.ovs.set_controller(bridge, self.target)
        return kubeproxy

    def restart_kubeproxy(self) -> Process:
        """Returns when it has read node1's switch back and compared."""
        assert self.kubeproxy is not None
        self.kubeproxy.kill()
        started = self.spawn_kubeproxy().ready()
        started.wait_for("node1: the switch holds")
        return started

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
        self.ovs.stop()

    def settle(self, *nodes: int, timeout: float = 15) -> int:
        return self.client.settle([f"kubeproxy/node{n}" for n in nodes or (1,)], timeout)

    # bridges

    def add_bridge(self, number: int, pods: int = 2) -> None:
        node = f"node{number}"
        ports = [f"{node}-host", f"{node}-up", *(f"{node}-p{n + 2}" for n in range(pods))]
        self.ovs.add_bridge(f"br-{node}", datapath_id=number, ports=ports)

    def flows(self, number: int = 1) -> list[str]:
        """Sorted, without what counts or ages."""
        text = self.ovs.ofctl("--no-stats", "dump-flows", f"br-node{number}")
        return sorted(line.strip() for line in text.splitlines() if "actions=" in line)

    def groups(self, number: int = 1) -> list[str]:
        text = self.ovs.ofctl("dump-groups", f"br-node{number}")
        return sorted(line.strip() for line in text.splitlines() if "group_id=" in line)

    def count_messages(self) -> None:
        """From now on the switch logs each message it receives."""
        self.ovs.appctl("vlog/set", "vconn:file:dbg")
        self.ovs.appctl("vlog/set", "ANY:ANY:off", "vconn:file:dbg")
        self._counted_from = self.ovs.log.stat().st_size

    def flow_mods(self) -> list[str]:
        """Flow-mods and group-mods received since ``count_messages``, in bundles or not."""
        with self.ovs.log.open() as log:
            log.seek(self._counted_from)
            return [line.rstrip() for line in log if FLOW_MODS.search(line)]

    # objects

    def add_node(self, number: int) -> None:
        node = f"node{number}"
        notes = {
            DATAPATH_ID: f"{number:016x}",
            HOST_INTERFACE: f"{node}-host",
            UPLINK_INTERFACE: f"{node}-up",
        }
        network = f"10.244.{number}.0/24"
        self.client.create(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": node, "annotations": notes},
                "spec": {"podCIDR": network, "podCIDRs": [network]},
            }
        )
        status = {"addresses": [{"type": "InternalIP", "address": f"192.168.49.{number + 1}"}]}
        self.client.patch("Node", node, {"status": status}, subresource="status")

    def add_pod(self, number: int, pod: int, interface: str | None = None) -> None:
        """The pod at 10.244.NUMBER.POD, wired as node NUMBER's port pPOD."""
        name, address = f"pod-{number}-{pod}", f"10.244.{number}.{pod}"
        self.client.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": f"node{number}", "containers": [{"name": "c", "image": "echo"}]},
            }
        )
        patch = {
            "metadata": {"annotations": {INTERFACE: interface or f"node{number}-p{pod}"}},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        }
        self.client.patch("Pod", name, patch, subresource="status")

    def add_service(self, name: str, cluster_ip: str, addresses: list[str]) -> None:
        self.client.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "clusterIP": cluster_ip,
                    "selector": {"app": name},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                },
            }
        )
        self.client.create(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{name}-1",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": endpoints(addresses),
            }
        )

    def set_endpoints(self, name: str, addresses: list[str]) -> None:
        self.client.patch("EndpointSlice", f"{name}-1", {"endpoints": endpoints(addresses)}, "default")


def endpoints(addresses: list[str]) -> list[Obj]:
    ready = {"ready": True, "serving": True, "terminating": False}
    return [{"addresses": [a], "conditions": ready, "nodeName": f"node{a.split('.')[2]}"} for a in addresses]
