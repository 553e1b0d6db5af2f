"""A CoreDNS that is not ours: its Corefile, its start and end, and what it asks the API server for.

The program here is a stand-in; its requests to the API server are those of CoreDNS' kubernetes plugin.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.dns.mounted import Mounted
from tests.unit.api_kit import ROOT, ApiServer, api_server, namespace
from tests.unit.kubectl_kit import Cluster, cluster
from tests.unit.test_api_loopback import ask

Obj = dict[str, Any]
PROTOBUF = "application/vnd.kubernetes.protobuf"
TOKEN = "/api/v1/namespaces/kube-system/serviceaccounts/coredns/token"


def config(text: str | None) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {} if text is None else {"Corefile": text},
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as made:
        if not any(one["metadata"]["name"] == "kube-system" for one in made.client.list("Namespace")[0]):
            made.client.create(namespace("kube-system"))
        yield made


def test_the_file_is_as_the_configmap_is_and_stays_when_that_goes(server: ApiServer, tmp_path: Path) -> None:
    file, written = tmp_path / "Corefile", queue.Queue[str]()
    mounted = Mounted(server.client, file, lambda: written.put(file.read_text())).start()
    try:
        server.client.create(config("first"))
        assert written.get(timeout=10) == "first"
        server.client.apply(config("second"))
        assert written.get(timeout=10) == "second"
        server.client.apply(config(None))
        server.client.delete("ConfigMap", "coredns", "kube-system")
        server.client.create(config("third"))
        assert written.get(timeout=10) == "third"
        assert written.empty()
        assert [one.name for one in tmp_path.glob("*Corefile*")] == ["Corefile"]
    finally:
        mounted.stop()


def start(server: ApiServer, tmp_path: Path, script: str) -> subprocess.Popen[str]:
    program = tmp_path / "coredns"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    file = str(tmp_path / "Corefile")
    command = [
        sys.executable,
        "-m",
        "controller.dns.mounted",
        "--api",
        str(server.socket),
        file,
        str(program),
    ]
    return subprocess.Popen([*command, "-conf", file], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_the_program_starts_with_its_file_and_its_exit_status_is_told(
    server: ApiServer, tmp_path: Path
) -> None:
    server.client.create(config("a Corefile"))
    with start(server, tmp_path, 'echo "$1 $(cat "$2")"; exit 3') as process:
        said, _ = process.communicate(timeout=20)
    assert (said, process.returncode) == ("-conf a Corefile\n", 3)


def test_what_ends_it_ends_the_program(server: ApiServer, tmp_path: Path) -> None:
    server.client.create(config("a Corefile"))
    script = "trap 'kill $!; echo lame; exit 0' TERM; sleep 60 >/dev/null & echo up; wait"
    with start(server, tmp_path, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert (said, process.returncode) == ("lame\n", 0)


def test_it_ends_also_while_there_is_no_configmap_yet(server: ApiServer, tmp_path: Path) -> None:
    with start(server, tmp_path, "echo never") as process:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert (said, process.returncode in (143, -signal.SIGTERM)) == ("", True)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """An API server by TLS, and the token of CoreDNS' service account."""
    with cluster(tmp_path_factory.mktemp("coredns")) as made:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "coredns"}}
        ask(made, "POST", "/api/v1/namespaces/kube-system/serviceaccounts", account, token=made.token)
        yield made, ask(made, "POST", TOKEN, {}, token=made.token)[1]["status"]["token"]


@pytest.mark.parametrize("accept", [f"{PROTOBUF}, */*", f"{PROTOBUF},application/json"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/version", None),
        ("/apis/discovery.k8s.io/v1", "APIResourceList"),
        ("/api/v1/services?limit=500&resourceVersion=0", "ServiceList"),
        ("/api/v1/namespaces?limit=500&resourceVersion=0", "NamespaceList"),
        ("/api/v1/pods?limit=500&resourceVersion=0", "PodList"),
        ("/apis/discovery.k8s.io/v1/endpointslices?limit=500&resourceVersion=0", "EndpointSliceList"),
    ],
)
def test_a_client_that_prefers_protobuf_is_answered_in_json_and_told_so(
    loopback: tuple[Cluster, str], accept: str, path: str, kind: str | None
) -> None:
    server, token = loopback
    code, told, headers = ask(server, "GET", path, token=token, Accept=accept)
    assert (code, headers.get_content_type()) == (200, "application/json")
    assert told.get("kind") == kind


@pytest.mark.parametrize("initial", [False, True], ids=["from a list", "with the list"])
def test_its_watches_begin_in_json_too(loopback: tuple[Cluster, str], initial: bool) -> None:
    server, token = loopback
    _, listed, _ = ask(server, "GET", "/api/v1/services", token=token)
    query = "watch=true&allowWatchBookmarks=true&timeoutSeconds=1"
    if initial:
        query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    else:
        query += f"&resourceVersion={listed['metadata']['resourceVersion']}"
    path = f"/api/v1/services?{query}"
    code, _, headers = ask(server, "GET", path, token=token, Accept=f"{PROTOBUF},application/json")
    assert (code, headers.get_content_type()) == (200, "application/json")
