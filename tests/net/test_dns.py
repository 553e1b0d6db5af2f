"""Names from inside pods, through the VIP: the table by dig, real programs, what a change costs and breaks.

node1, node2; kube-dns 10.96.0.10 before the pod coredns on node1; internet 198.51.100.1 outside
shell    a pod on node2 in default, other in namespace bare; the objects of tests/dns_rows.py

PODWIRE_DNS=coredns asks the machine's own coredns instead of our server; the table's rows are those of both.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.objects import Obj
from controller.dns.corefile import DEFAULT
from tests.dns_rows import OBJECTS, ROWS, endpoint, endpoint_slice
from tests.dns_wire_kit import ask_by_dig
from topo.addons import COREDNS
from topo.config import ClusterConfig
from topo.hosts import Pod
from topo.lab import Lab

VIP = "10.96.0.10"
NAMESPACE, NAME = COREDNS
MINE = "svc1.testns"


def pod(name: str, namespace: str = "default", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "busybox"}], "nodeName": "node2", **spec},
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2, dns=os.environ.get("PODWIRE_DNS", "podwire"))) as lab:
        for obj in OBJECTS:
            lab.client.create(obj)
        lab.apply(
            pod("shell"),
            pod("other", "bare"),
            pod("outward", dnsPolicy="Default"),
            pod("on-host", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
        )
        lab.wait_dns()
        yield lab


def say(who: Pod, command: str) -> str:
    done = who.run(["sh", "-c", command])
    return done.stdout.strip()


def short(who: Pod, name: str, *words: str) -> list[str]:
    return sorted(say(who, f"dig +short +search +time=2 +tries=1 {' '.join(words)} {name}").split())


def config(lab: Lab, text: str) -> None:
    lab.client.patch("ConfigMap", NAME, {"data": {"Corefile": text}}, NAMESPACE)
    lab.settle()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("sender", ["shell", "node2"])
def test_every_row_is_answered_through_the_vip(lab: Lab, sender: str, tcp: bool) -> None:
    questions = [(row.name, row.type) for row in ROWS]
    told = ask_by_dig(lambda argv: lab.host(sender).run(argv), VIP, questions, tcp=tcp)
    wrong = [
        (row.says, got)
        for row, got in zip(ROWS, told, strict=True)
        if got != (row.rcode, tuple(sorted(row.answers)))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "command",
    [
        f"nslookup {MINE}",
        f"busybox nslookup {MINE}.svc.cluster.local",
        f"host {MINE}.svc.cluster.local",
        f"getent ahostsv4 {MINE}",
        f"getent hosts {MINE}.svc",
        f"dig +search {MINE}",
    ],
)
@pytest.mark.parametrize("sender", ["shell", "bare.other", "on-host"])
def test_real_programs_find_a_service_from_every_namespace(lab: Lab, sender: str, command: str) -> None:
    assert "10.96.10.1" in say(_pod(lab, sender), command)


def _pod(lab: Lab, name: str) -> Pod:
    namespace, _, pod_name = name.rpartition(".")
    return lab.pod(pod_name, namespace or "default")


def test_a_short_name_is_of_the_pods_own_namespace(lab: Lab) -> None:
    assert short(_pod(lab, "shell"), "kubernetes") == ["10.96.0.1"]
    assert short(_pod(lab, "bare.other"), "kubernetes") == []
    assert short(_pod(lab, "bare.other"), "kubernetes.default") == ["10.96.0.1"]


def test_a_pods_name_does_not_resolve_and_its_address_does(lab: Lab) -> None:
    shell = _pod(lab, "shell")
    assert "NXDOMAIN" in say(shell, "nslookup shell")
    dashed = str(shell.ip).replace(".", "-")
    assert short(shell, f"{dashed}.default.pod.cluster.local") == [str(shell.ip)]


def test_the_outside_is_asked_by_the_cluster_and_by_a_pod_of_policy_default(lab: Lab) -> None:
    for sender in ("shell", "outward"):
        assert short(_pod(lab, sender), "www.example.com") == ["198.51.100.1"]
        assert "www.example.com" in say(_pod(lab, sender), "curl -s -m 5 http://www.example.com/")
    assert short(_pod(lab, "outward"), f"{MINE}.svc.cluster.local") == []


def test_the_server_is_a_pod_with_a_readiness_and_metrics_behind_its_service(lab: Lab) -> None:
    text = say(_pod(lab, "shell"), f"curl -s -m 5 http://{VIP}:9153/metrics")
    assert re.search(r"^coredns_dns_requests_total\{.*\} [1-9]", text, re.M)
    server = lab.pods("k8s-app=kube-dns", NAMESPACE)[0]
    assert say(_pod(lab, "shell"), f"curl -s -m 5 http://{server.ip}:8181/ready") == "OK"
    assert say(_pod(lab, "shell"), f"curl -s -m 5 http://{server.ip}:8080/health") == "OK"


def test_after_settle_names_are_those_of_the_objects(lab: Lab) -> None:
    shell = _pod(lab, "shell")
    for number in range(90, 95):
        made = endpoint_slice(
            "hdlsempty-b", "hdlsempty", [endpoint(f"10.244.200.{number}")], ("http", "TCP", 80)
        )
        lab.client.apply(made)
        lab.settle()
        assert short(shell, "hdlsempty.testns.svc.cluster.local") == [f"10.244.200.{number}"]
    lab.client.delete("EndpointSlice", "hdlsempty-b", "testns")
    lab.settle()
    assert short(shell, "hdlsempty.testns.svc.cluster.local") == []


def test_a_changed_configmap_is_in_force_at_once_and_a_mistaken_one_is_not(lab: Lab) -> None:
    shell = _pod(lab, "shell")
    try:
        config(
            lab,
            DEFAULT.replace("    ready\n", "    ready\n    hosts {\n        192.0.2.7 here.test\n    }\n"),
        )
        assert short(shell, "here.test") == ["192.0.2.7"]
        config(lab, DEFAULT.replace("loadbalance", "loadbalanse"))
        assert short(shell, "here.test") == ["192.0.2.7"]
        config(lab, DEFAULT.replace("pods insecure", "pods verified"))
        assert short(shell, "here.test") == []
        assert short(shell, f"{str(shell.ip).replace('.', '-')}.default.pod.cluster.local") == [str(shell.ip)]
        assert short(shell, "10-244-9-9.default.pod.cluster.local") == []
    finally:
        config(lab, DEFAULT)
    assert short(shell, "10-244-9-9.default.pod.cluster.local") == ["10.244.9.9"]


def test_a_dns_pod_that_ends_answers_on_while_another_one_starts(lab: Lab) -> None:
    shell = _pod(lab, "shell")
    (old,) = lab.pods("k8s-app=kube-dns", NAMESPACE)
    lab.client.delete("Pod", old.pod, NAMESPACE)
    assert say(shell, f"dig +short +time=1 +tries=1 @{old.ip} {MINE}.svc.cluster.local") == "10.96.10.1"
    lab.wait_dns()
    (new,) = (one for one in lab.pods("k8s-app=kube-dns", NAMESPACE) if one.pod != old.pod)
    assert new.ip != old.ip
    for _ in range(5):
        assert short(shell, MINE) == ["10.96.10.1"]


def test_names_survive_the_api_servers_restart(lab: Lab) -> None:
    shell = _pod(lab, "shell")
    lab.kill("apiserver")
    try:
        assert short(shell, MINE) == ["10.96.10.1"]
    finally:
        lab.restart("apiserver")
    lab.settle()
    made = endpoint_slice("hdlsempty-c", "hdlsempty", [endpoint("10.244.200.77")], ("http", "TCP", 80))
    lab.client.create(made)
    began = time.monotonic()
    lab.settle()
    assert short(shell, "hdlsempty.testns.svc.cluster.local") == ["10.244.200.77"]
    assert time.monotonic() - began < 10
