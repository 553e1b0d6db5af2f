"""The DNS probe in a running lab: what names cost, whom the wires saw, every record beside its object."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenarios.objects import pod, service
from topo.config import ClusterConfig
from topo.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = [sys.executable, "scenarios/probes/dns.py", "--json"]


@pytest.fixture(scope="module", params=["ipv4", "dual"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(ClusterConfig(nodes=2, ip_family=request.param)) as lab:
        external = {"type": "ExternalName", "externalName": "api.example.com"}
        lab.apply(
            pod("asker", "node2"),
            pod("web", "node1", hostname="web-0", subdomain="each"),
            service("web", protocols=("TCP", "UDP")),
            service("each", "web", clusterIP="None"),
            service("empty", "nobody"),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "partner"},
                "spec": external,
            },
        )
        lab.wait_dns()
        yield lab


def probe(*words: str, status: int = 0) -> dict[str, Any]:
    done = subprocess.run([*SCRIPT, *words], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == status, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_name_outside_costs_eight_questions_and_with_a_dot_two(lab: Lab) -> None:
    result = probe("www.example.com", "--from", "asker", "--count", "20")
    walks = {walk["asked"]: (walk["questions"], walk["packets"]) for walk in result["walks"]}
    assert walks == {"www.example.com": (8, 16), "www.example.com.": (2, 4)}
    assert result["latency"]["answered"] == 20
    there, back = result["journey"]["packets"]
    vip, server = "10.96.0.10:53", f"{lab.pods('k8s-app=kube-dns', 'kube-system')[0].ip}:53"
    changes = [(r["what"], r["before"], r["after"]) for h in there["hops"] for r in h["rewrites"]]
    assert changes == [("DNAT", vip, server)]
    changes = [(r["what"], r["before"], r["after"]) for h in back["hops"] for r in h["rewrites"]]
    assert changes == [("un-DNAT", server, vip)]


def test_by_tcp_the_same_is_found_and_costs_more(lab: Lab) -> None:
    result = probe("web", "--from", "asker", "--tcp", "--count", "5")
    assert [walk["questions"] for walk in result["walks"]] == [2, 2]
    assert all(walk["packets"] >= 10 for walk in result["walks"])
    assert result["walks"][0]["addresses"] == lab.client.get("Service", "web")["spec"]["clusterIPs"]
    assert result["latency"]["lost"] == 0


def test_every_record_is_as_the_objects_promise(lab: Lab) -> None:
    records = probe("--records", "--from", "asker")["records"]
    assert len(records) > 20
    assert {row["type"] for row in records} == {"A", "AAAA", "CNAME", "PTR", "SRV", "TXT"}


def test_a_name_that_nobody_has_is_exit_status_1(lab: Lab) -> None:
    result = probe("nosuch", "--from", "node1", "--count", "1", status=1)
    assert result["walks"][0]["answers"][0]["rcode"] == "NXDOMAIN"


def test_a_server_that_refuses_is_named_so(lab: Lab) -> None:
    result = probe("web", "--from", "asker", "--server", "10.96.0.1", "--count", "1", status=1)
    assert {answer["rcode"] for answer in result["walks"][0]["answers"]} == {"connection refused"}


def test_records_that_are_wrong_are_found(lab: Lab) -> None:
    """Asked of the internet's server, which knows nothing of the cluster."""
    done = probe("--records", "--from", "node1", "--server", "198.51.100.1", status=1)
    assert not any(row["ok"] for row in done["records"])
