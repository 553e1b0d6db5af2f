"""The flows of each rule as text, against tests/golden/kubeproxy: names, not ids, in the pipeline's order.

After a wanted change: ``PODWIRE_GOLDEN=write pytest tests/unit/test_kubeproxy_golden.py``; read the diff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from controller.api import wiring
from controller.kubeproxy import pipeline
from controller.kubeproxy.flow import Desired
from controller.kubeproxy.proxier import Proxier
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)

Obj = dict[str, Any]

GOLDEN = Path(__file__).parent.parent / "golden" / "kubeproxy"
HTTP = port_object(80, 8080)
NODE_PORT = port_object(80, 8080, node_port=30080)
NODE_PORT_UDP = port_object(53, 5353, protocol="UDP", node_port=30053)
LOCAL = endpoint_object("10.244.1.2", "node1")
REMOTE = endpoint_object("10.244.2.2", "node2")
THIRD = endpoint_object("10.244.3.2", "node3")
NODE1, NODE2 = endpoint_object("192.168.49.2", "node1"), endpoint_object("192.168.49.3", "node2")


def web(port: Obj, *endpoints: Obj) -> list[Obj]:
    """A Service ``web`` over these endpoints."""
    return [service_object("web", "10.96.0.50", port), slice_object("web", [port], list(endpoints))]


def balanced(**spec: Any) -> list[Obj]:
    """A LoadBalancer Service ``web`` over one endpoint here and one elsewhere."""
    service = service_object("web", "10.96.0.50", NODE_PORT, type="LoadBalancer", **spec)
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.60"}]}}
    return [service, slice_object("web", [NODE_PORT], [LOCAL, REMOTE])]


def scheduled(scheduler: str, *weights: str) -> list[Obj]:
    """``web`` with a scheduler, over two pods of these weights."""
    service = service_object("web", "10.96.0.50", NODE_PORT)
    service["metadata"]["annotations"] = {wiring.SCHEDULER: scheduler}
    pods: list[Obj] = []
    endpoints: list[Obj] = []
    for place, weight in enumerate(weights):
        metadata = {"name": f"web-{place}", "namespace": "default", "annotations": {wiring.WEIGHT: weight}}
        pods.append({"kind": "Pod", "metadata": metadata})
        endpoints.append(
            (LOCAL, REMOTE)[place] | {"targetRef": {"kind": "Pod", "name": f"web-{place}"}},
        )
    return [service, *pods, slice_object("web", [NODE_PORT], endpoints)]


def with_host_ports(pod: Obj) -> Obj:
    ports = [
        {"containerPort": 8080, "hostPort": 80},
        {"containerPort": 5353, "hostPort": 53, "hostIP": "192.168.49.2", "protocol": "UDP"},
        {"containerPort": 9090, "hostPort": 81, "hostIP": "127.0.0.1"},
    ]
    return pod | {"spec": pod["spec"] | {"containers": [{"name": "main", "ports": ports}]}}


CASES: dict[str, list[Obj]] = {
    "node": [],
    "pod": [pod_object("alice", "node1", "10.244.1.2", "node1-p2")],
    "hostport": [with_host_ports(pod_object("alice", "node1", "10.244.1.2", "node1-p2"))],
    "clusterip": web(HTTP, LOCAL, REMOTE),
    "clusterip_three_endpoints": web(HTTP, LOCAL, REMOTE, THIRD),
    "clusterip_without_endpoints": web(HTTP),
    "nodeport": web(NODE_PORT, LOCAL, REMOTE),
    "nodeport_without_endpoints": web(NODE_PORT),
    "nodeport_udp_without_endpoints": web(NODE_PORT_UDP),
    "external_ip": [
        service_object("web", "10.96.0.50", HTTP, externalIPs=["192.0.2.60"]),
        slice_object("web", [HTTP], [LOCAL, REMOTE]),
    ],
    "loadbalancer_source_ranges": balanced(loadBalancerSourceRanges=["198.51.100.0/24"]),
    "loadbalancer_without_endpoints": balanced()[:1],
    "external_traffic_policy_local": balanced(externalTrafficPolicy="Local"),
    "external_traffic_policy_local_elsewhere": [
        *balanced(externalTrafficPolicy="Local")[:1],
        slice_object("web", [NODE_PORT], [REMOTE]),
    ],
    "internal_traffic_policy_local": [
        service_object("web", "10.96.0.50", HTTP, internalTrafficPolicy="Local"),
        slice_object("web", [HTTP], [LOCAL, REMOTE]),
    ],
    "session_affinity": [
        service_object("web", "10.96.0.50", NODE_PORT, sessionAffinity="ClientIP"),
        slice_object("web", [NODE_PORT], [LOCAL, REMOTE]),
    ],
    "weights": scheduled("", "2", "1"),
    "scheduler_sh": scheduled("sh", "2", "1"),
    "scheduler_mh": scheduled("mh", "1", "1"),
    "scheduler_dh": scheduled("dh", "2", "1"),
    "scheduler_wrr": scheduled("wrr", "2", "1"),
    "scheduler_lc": scheduled("lc", "2", "1"),
    "host_network_endpoints": web(NODE_PORT, NODE1, NODE2),
    "endpoint_outside_the_cluster": web(NODE_PORT, endpoint_object("198.51.100.11")),
}


def written(desired: Desired, base: Desired) -> str:
    """What is desired beyond ``base``."""
    names = {
        group_id: f"{group.cause}{', local' if group.local else ''}"
        for group_id, group in desired.groups.items()
    }
    flows = [f for key, f in desired.flows.items() if key not in base.flows]
    lines = [str(f) for f in sorted(flows, key=lambda f: (f.table.id, -f.priority, f.match_text))]
    groups = sorted(str(group) for key, group in desired.groups.items() if key not in base.groups)
    return "".join(f"{line}\n" for line in (*_named(lines, names), *_named(groups, names)))


def _named(lines: Iterable[str], groups: dict[int, str]) -> Iterable[str]:
    for line in lines:
        line = re.sub(r"group:(\d+)", lambda m: f"group:<{groups[int(m[1])]}>", line)
        line = re.sub(r"group_id=(\d+)", lambda m: f"group_id=<{groups[int(m[1])]}>", line)
        yield re.sub(r"bucket=bucket_id:\d+", "\n  bucket=", line).replace("bucket=,", "bucket=")


def proxier(objects: Iterable[Obj], dual: bool = False) -> Proxier:
    made = Proxier("node1")
    made.set_ports({"node1-host": 1, "node1-up": 2, "node1-p2": 3})
    everything = [node_object("node1"), *objects]
    for obj in in_both_families(everything) if dual else everything:
        made.apply("ADDED", obj)
    return made


def compare(text: str, path: Path) -> None:
    if os.environ.get("PODWIRE_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_flows_of_a_rule_are_what_they_were(name: str) -> None:
    base = proxier([]).desired() if CASES[name] else Desired({}, {})
    text = written(proxier(CASES[name]).desired(), base)
    compare(text, GOLDEN / f"{name}.txt")


@pytest.mark.parametrize("name", CASES)
def test_a_second_family_adds_its_own_flows_and_leaves_the_first_alone(name: str) -> None:
    """Of a rule that is its alone, the file holds what is added in IPv6; of ``node`` all of that."""
    single, both = proxier(CASES[name]).desired(), proxier(CASES[name], dual=True).desired()
    assert {key: str(flow) for key, flow in single.flows.items()}.items() <= {
        key: str(flow) for key, flow in both.flows.items()
    }.items()
    assert single.groups.items() <= both.groups.items()
    base = proxier([], dual=True).desired() if CASES[name] else Desired({}, {})
    known = Desired({**single.flows, **base.flows}, {**single.groups, **base.groups})
    compare(written(both, known), GOLDEN / "ipv6" / f"{name}.txt")


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)
    assert {path.stem for path in (GOLDEN / "ipv6").glob("*.txt")} == set(CASES)


def test_the_pipeline_document_names_every_table_in_order() -> None:
    readme = Path(pipeline.__file__).with_name("README.md").read_text()
    section = readme.split("## The way of a packet")[1].split("##")[0]
    assert re.findall(r"^\| (\w+) \| ", section, flags=re.M)[1:] == [table.name for table in pipeline.TABLES]
