"""Bench g: the API server alone: one object, many, writes, watches, memory, and kubectl in front of it."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from scenarios import kubeconfig
from tests.bench.figures import Aim, Figure
from tests.bench.objects import Obj
from tests.unit.kubectl_kit import Cluster

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = [
    ROOT / "scenarios" / "manifests" / f"services_{name}-deployment.yaml" for name in ("backend", "frontend")
]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


class _Wire(http.client.HTTPConnection):
    """One kept connection to the API's socket, without a client's work in between."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: Obj | None = None, **headers: str) -> bytes:
        data = json.dumps(body) if body else None
        given = {"Content-Type": "application/json", "User-Agent": "podwire-bench"}
        self.request(method, path, data, {**given, **headers})
        response = self.getresponse()
        text = response.read()
        assert response.status < 300, text
        return text


@contextmanager
def _server() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as directory:
        server = Cluster(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def measure(*, quick: bool = False) -> list[Figure]:
    """All figures; each has a server of its own start."""
    turns = 3 if quick else 15
    with _server() as server:
        return [*_reading(server, 200 if quick else 2000, turns), _kubectl(server, 1 if quick else 5),
                _writing(server, 200 if quick else 2000, 1 if quick else 3),
                _watching(server, 20 if quick else 200), _memory(1000 if quick else 10_000)]  # fmt: skip


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def pod(number: int) -> Obj:
    """As a ReplicaSet makes one, on a node."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": f"web-{number:05}", "labels": {"app": "web", "pod-template-hash": "abcdef"}},
        "spec": {"nodeName": "node1", "containers": [{
            "name": "web", "image": "nginx:1", "ports": [{"containerPort": 80}],
            "env": [{"name": "DB_SERVICE", "value": "backendflask:5001"}]}]},
    }  # fmt: skip


def _reading(server: Cluster, count: int, turns: int) -> list[Figure]:
    wire = _Wire(server.socket)
    for number in range(count):
        wire.ask("POST", PODS, pod(number))
    one, many, table, floor = [], [], [], []
    for turn in range(turns):
        floor.append(1000 * median(_seconds(lambda: wire.ask("GET", "/healthz")) for _ in range(50)))
        path = f"{PODS}/web-{turn:05}"
        one.append(1000 * median(_seconds(partial(wire.ask, "GET", path)) for _ in range(50)))
        many.append(1000 * _seconds(lambda: wire.ask("GET", PODS)))
        table.append(1000 * _seconds(lambda: wire.ask("GET", PODS, Accept=TABLE)))
    parsed = json.loads(wire.ask("GET", PODS))
    texts = [1000 * _seconds(lambda: json.dumps(parsed)) for _ in range(turns)]
    wire.close()
    return [
        Figure(bench="g", name="GET of one object", unit="ms", samples=one, beside="/healthz", against=floor,
               aims=[Aim(of="value", bound=1)]),
        Figure(bench="g", name=f"list of {count} pods", unit="ms", samples=many, beside="json.dumps of it",
               against=texts, aims=[Aim(of="value", bound=50)], parts={"as a Table, ms": median(table)}),
    ]  # fmt: skip


def _writing(server: Cluster, count: int, turns: int) -> Figure:
    ours, beside = [], []
    wire = _Wire(server.socket)
    for turn in range(turns):
        bodies = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"c{turn}-{number}"},
                "data": {"a": "1"},
            }
            for number in range(count)
        ]
        ours.append(count / _seconds(partial(_create, wire, bodies)))
        beside.append(count / _seconds(lambda: _commits(server.directory / "plain.db", count)))
    wire.close()
    return Figure(bench="g", name="creates, durable", unit="/s", samples=ours, beside="bare SQLite commits",
                  against=beside, aims=[Aim(of="value", bound=1000, at_least=True)])  # fmt: skip


def _create(wire: _Wire, bodies: list[Obj]) -> None:
    for body in bodies:
        wire.ask("POST", CONFIG_MAPS, body)


def _commits(path: Path, count: int) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS objects (body BLOB)")
    for number in range(count):
        database.execute("INSERT INTO objects VALUES (?)", (b"x" * 300 + str(number).encode(),))
    database.close()


def _watching(server: Cluster, changes: int) -> Figure:
    """From the start of a write to the moment the last of 20 watchers (or the only one) has its line."""
    return Figure(
        bench="g", name="a change to 20 watchers", unit="ms", samples=_fan_out(server, 20, changes),
        beside="to one watcher", against=_fan_out(server, 1, changes), paired=False,
        aims=[Aim(of="value", bound=10)],
    )  # fmt: skip


def _fan_out(server: Cluster, watchers: int, changes: int) -> list[float]:
    path = f"/api/v1/namespaces/default/secrets?watch=1&fieldSelector=metadata.name=w{watchers}"
    barrier = threading.Barrier(watchers + 1)
    came = [0.0] * watchers

    def watch(at: int) -> None:
        wire = _Wire(server.socket)
        wire.request("GET", path)
        response = wire.getresponse()
        barrier.wait()
        for _ in range(changes):
            response.readline()
            came[at] = time.perf_counter()
            barrier.wait()
        wire.close()

    threads = [threading.Thread(target=watch, args=(at,)) for at in range(watchers)]
    for thread in threads:
        thread.start()
    barrier.wait()
    wire, found = _Wire(server.socket), []
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"w{watchers}"}}
    for number in range(changes):
        began = time.perf_counter()
        if number:
            target = f"/api/v1/namespaces/default/secrets/w{watchers}"
            wire.ask("PATCH", target, {"metadata": {"labels": {"n": str(number)}}},
                     **{"Content-Type": "application/merge-patch+json"})  # fmt: skip
        else:
            wire.ask("POST", "/api/v1/namespaces/default/secrets", secret)
        barrier.wait()
        found.append(1000 * (max(came) - began))
    for thread in threads:
        thread.join()
    wire.close()
    return found


def _memory(count: int) -> Figure:
    with _server() as server:
        empty = _resident(server)
        wire = _Wire(server.socket)
        for number in range(count):
            wire.ask("POST", PODS, pod(number))
            service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{number:05}"},
                       "spec": {"ports": [{"port": 80}]}}  # fmt: skip
            wire.ask("POST", "/api/v1/namespaces/default/services", service)
        server.client.settle(["managers"], timeout=60)
        wire.close()
        full = _resident(server)
    return Figure(bench="g", name=f"memory with {count} Services and {count} pods", unit="MB", samples=[full],
                  beside="empty", against=[empty], aims=[Aim(of="value", bound=150)])  # fmt: skip


def _resident(server: Cluster) -> float:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _kubectl(server: Cluster, turns: int) -> Figure:
    """The mission's two files, applied anew each time; beside what kubectl takes to start."""
    words = [word for path in MANIFESTS for word in ("-f", str(path))]
    applied, started = [], []
    program = kubeconfig.kubectl()
    for _ in range(turns):
        began = time.perf_counter()
        done = server.run(program, "apply", *words)
        applied.append(1000 * (time.perf_counter() - began))
        assert done.returncode == 0, done.stderr
        server.run(program, "delete", *words)
        started.append(1000 * _seconds(lambda: server.run(program, "version", "--client")))
    return Figure(
        bench="g", name="kubectl apply of the mission's two files", unit="ms", samples=applied,
        beside="kubectl version --client", against=started, aims=[Aim(of="value", bound=300)],
    )  # fmt: skip
