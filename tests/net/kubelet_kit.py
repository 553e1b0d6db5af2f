"""A kubelet with a real API server, a real runtime and the plainest wires, for one node.

node1's namespace routes to each pod over a veth of its own: no switch, no controller.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from controller.api.client import Client
from controller.api.errors import NotFound
from controller.api.objects import Obj
from tests.net.pods_kit import Runtime, running_runtime
from topo.kubelet import Kubelet
from topo.kubelet_machine import Pace
from topo.netns import Netns
from topo.wires import PodPlug

NODE = IPv4Address("192.168.49.2")
POD_CIDR = "10.244.1.0/24"


class PlainWires:
    """A veth between node and pod for each plug; what was plugged and not unplugged is ``plugged``."""

    def __init__(self, node: Netns) -> None:
        self._node = node
        self.plugged: dict[str, tuple[PodPlug, Netns]] = {}

    def plug(self, pods: Sequence[PodPlug]) -> None:
        made = Netns.create_all([pod.name for pod in pods])
        lines = []
        for pod, netns in zip(pods, made, strict=True):
            self.plugged[pod.name] = (pod, netns)
            lines += [
                f"link add {pod.interface} type veth peer name eth0 netns {pod.name}",
                f"link set {pod.interface} up",
                f"route add {pod.address} dev {pod.interface}",
            ]
        self._ip(self._node, lines)
        for pod, netns in zip(pods, made, strict=True):
            inside = ["link set eth0 up", f"addr add {pod.address}/32 dev eth0", f"route add {NODE} dev eth0"]
            self._ip(netns, inside)

    def unplug(self, names: Sequence[str]) -> None:
        for name in names:
            pod, netns = self.plugged.pop(name)
            self._ip(self._node, [f"link del {pod.interface}"])
            netns.delete()

    def close(self) -> None:
        for _, netns in self.plugged.values():
            netns.delete()

    @staticmethod
    def _ip(netns: Netns, lines: Sequence[str]) -> None:
        with netns.enter():
            subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


class ApiServer:
    """The API server without managers, over one database; with a ``listener`` by TLS, too."""

    def __init__(self, directory: Path, listener: socket.socket | None = None) -> None:
        self.socket = directory / "api.sock"
        self._places = ["--socket", str(self.socket), "--db", f"{directory}/store.db"]
        self._fds = [listener.fileno()] if listener else []
        self._places += [f"--loopback-fd={fd}" for fd in self._fds]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "controller.api.server", *self._places, "--no-managers"],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=self._fds,
        )

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def crash(self) -> None:
        self._process.kill()
        self.wait()

    def close(self) -> None:
        self._process.terminate()
        self.wait()

    def wait(self) -> None:
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Cluster:
    """One node, its kubelet, and shortcuts to look at pods."""

    def __init__(self, api: ApiServer, client: Client, runtime: Runtime, wires: PlainWires) -> None:
        self.api, self.client, self.runtime, self.wires = api, client, runtime, wires

    def run(self, name: str, image: str = "nginx", *, ports: Sequence[int] = (80,), **spec: Any) -> Obj:
        """Create a pod of one container on node1; ``container`` holds more of the container's spec."""
        container = {"name": "main", "image": image, **spec.pop("container", {})}
        if ports:
            container["ports"] = [{"containerPort": port} for port in ports]
        containers = spec.pop("containers", [container])
        return self.client.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": "node1", "containers": containers, **spec},
            }
        )

    def settle(self) -> None:
        self.client.settle(["kubelet"], 20)

    def pod(self, name: str) -> Obj:
        return self.client.get("Pod", name)

    def when(self, name: str, condition: Callable[[Obj], object], timeout: float = 15) -> Obj:
        """The pod as soon as ``condition`` holds for it."""
        deadline = time.monotonic() + timeout
        for line in self.client.watch("Pod", fields=f"metadata.name={name}"):
            if line["type"] in ("ADDED", "MODIFIED") and condition(line["object"]):
                found: Obj = line["object"]
                return found
            assert time.monotonic() < deadline, line["object"]
        raise AssertionError("the watch ended")

    def until_gone(self, name: str) -> None:
        try:
            seen = self.pod(name)["metadata"]["resourceVersion"]
        except NotFound:
            return
        for line in self.client.watch("Pod", fields=f"metadata.name={name}", resource_version=seen):
            if line["type"] == "DELETED":
                return

    def events(self, name: str) -> dict[str, str]:
        """Message by reason of the events of a pod."""
        found, _ = self.client.list("Event", "default", fields=f"involvedObject.name={name}")
        return {event["reason"]: event["message"] for event in found}

    def event(self, name: str, reason: str, timeout: float = 15) -> str:
        """The message of an event, as soon as there is one."""
        deadline = time.monotonic() + timeout
        for line in self.client.watch("Event", fields=f"involvedObject.name={name}"):
            if line["object"].get("reason") == reason:
                return str(line["object"]["message"])
            assert time.monotonic() < deadline, line["object"]
        raise AssertionError("the watch ended")

    def inside(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        return self.runtime.client.run(name, ["sh", "-c", command])


def main_status(pod: Obj) -> Obj:
    """containerStatuses[0]."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    status: Obj = statuses[0]
    return status


def condition(pod: Obj, kind: str) -> str:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


@contextmanager
def one_node(
    directory: Path, *, pace: Pace, listener: socket.socket | None = None, logs: Path | None = None
) -> Iterator[Cluster]:
    """``pace`` makes back-off short; by ``listener`` the API is served by TLS, too."""
    api = ApiServer(directory, listener)
    try:
        with running_runtime(directory) as runtime, Netns.create("node1") as node:
            api.wait_ready()
            PlainWires._ip(node, [f"addr add {NODE}/32 dev lo"])
            client = Client(api.socket)
            client.create(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": "node1"},
                    "spec": {"podCIDR": POD_CIDR},
                    "status": {"addresses": [{"type": "InternalIP", "address": str(NODE)}]},
                }
            )
            wires = PlainWires(node)
            kubelet = Kubelet(client, wires, ["node1"], runtime.socket, log=print, pace=pace, logs=logs)
            kubelet.start()
            try:
                yield Cluster(api, client, runtime, wires)
            finally:
                kubelet.stop()
                wires.close()
    finally:
        api.close()
