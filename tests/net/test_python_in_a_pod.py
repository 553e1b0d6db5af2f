"""The same API, in a cluster: a pod's own program asks it by the ClusterIP ``kubernetes``.

node1   192.168.49.2, the API server on port 6443; Service 10.96.0.1:443
asker   a pod of image python:3.12 on node2; web: a pod behind Service web, on node1
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from scenarios import watch
from scenarios.objects import pod, service
from topo.config import ClusterConfig
from topo.lab import Lab

PROGRAM = Path(__file__).with_name("in_cluster.py").read_text(encoding="utf-8")
IMAGE = {"image": "python:3.12", "args": [], "ports": []}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2, dns="none")) as lab:
        lab.apply(pod("web", "node1"), service("web"), pod("asker", "node2", container=IMAGE))
        lab.settle()
        yield lab


def test_the_official_client_lists_watches_and_is_refused_to_write(lab: Lab) -> None:
    command = ["python", "-c", PROGRAM]
    said = []
    with watch.watch(lab, ()) as seen, lab.pod("asker").popen(command, stdout=PIPE, stderr=STDOUT) as program:
        assert program.stdout
        for line in program.stdout:
            said.append(line.rstrip("\n"))
            if line == "watching\n":
                lab.client.create(service("late", port=8443))
        assert program.wait(10) == 0, said
    assert said == [
        "services kubernetes web",
        "server https://10.96.0.1:443",
        'delete 403 services "web" is forbidden: User "system:serviceaccount:default:default" cannot delete '
        'resource "services" in API group "" in the namespace "default"',
        "create 403 Forbidden",
        "watching",
        "event ADDED late 8443",
        f"endpoints {lab.pod('web').ip}",
    ]
    asked = seen.all_to("10.96.0.1", 443)
    asker = str(lab.pod("asker").ip)
    assert asked
    for connection in asked:
        assert (connection.asked.src.address, connection.served.src.address) == (asker, asker)
        assert str(connection.served.dst) == f"{lab.node(1).ip}:6443"
        assert str(connection.reply.hops[-1].src) == "10.96.0.1:443"
    tables = {flow.table for flow in seen.flows["node2"] if flow.concerns("default", "kubernetes")}
    assert {"ServiceLB", "EndpointDNAT"} <= tables


def test_a_manifest_s_command_runs_in_the_image_python(lab: Lab) -> None:
    code = "import os, sys; sys.exit(40 + sys.version_info.major - len(os.environ['ONE']))"
    words = {**IMAGE, "command": ["python", "-c"], "args": [code], "env": [{"name": "ONE", "value": "x"}]}
    lab.apply(pod("once", "node2", container=words, restartPolicy="Never"))
    for event in lab.client.watch("Pod", "default", fields="metadata.name=once", timeoutSeconds="20"):
        if event["object"]["status"].get("phase") in ("Succeeded", "Failed"):
            ended = event["object"]["status"]["containerStatuses"][0]["state"]["terminated"]
            assert ended["exitCode"] == 42
            break
    else:
        pytest.fail("it did not end")
    events = lab.client.list("Event", "default", fields="involvedObject.name=once")[0]
    assert {"CommandIgnored", "StandIn"}.isdisjoint(event["reason"] for event in events)


def test_python_is_there_for_a_shell_in_the_pod_too(lab: Lab) -> None:
    done = lab.pod("asker").run("python -c 'import kubernetes; print(kubernetes.__name__)'; id -u")
    assert done.stdout.split() == ["kubernetes", "65534"], done.stderr
