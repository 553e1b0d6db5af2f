"""The flows of each rule as text, against tests/golden/kubeproxy: names, not ids, in the pipeline's order.

After a wanted change: ``PODWIRE_GOLDEN=write pytest tests/unit/test_kubeproxy_golden.py``; read the diff.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from controller.api import wiring
from controller.kubeproxy import pipeline
from controller.kubeproxy.dispatch import IDLE, LEASE
from controller.kubeproxy.fields import TCP, UDP
from controller.kubeproxy.flow import Category, Desired
from controller.kubeproxy.node import ZONE_LABEL
from controller.kubeproxy.openflow_packets import Connection, connection_flow, lease_flow
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
from tests.ovs.switch import ofp_print
from tests.packets_dual import in_ipv6

Obj = dict[str, Any]

GOLDEN = Path(__file__).parent.parent / "golden" / "kubeproxy"
FLOW_MODULES = sorted(Path(pipeline.__file__).parent.glob("flows_*.py"))
ALICE, CLUSTER_IP = "10.244.1.2", "10.96.0.50"
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


def hinted(kind: str, here: str, elsewhere: str) -> list[Obj]:
    """``web``, each endpoint with a hint for whom it is (trafficDistribution); node1 is in ``east``."""
    node = node_object("node1")
    node["metadata"]["labels"] = {ZONE_LABEL: "east"}
    endpoints = [
        endpoint | {"hints": {kind: [{"name": name}]}}
        for endpoint, name in ((LOCAL, here), (REMOTE, elsewhere), (THIRD, elsewhere))
    ]
    return [node, *web(HTTP, *endpoints)]


def turns(port: Obj, **spec: Any) -> list[Obj]:
    """``web`` by the scheduler rr."""
    service = service_object("web", "10.96.0.50", port, **spec)
    service["metadata"]["annotations"] = {wiring.SCHEDULER: "rr"}
    return [service, slice_object("web", [port], [LOCAL, REMOTE])]


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
    "nodeport_udp": web(NODE_PORT_UDP, LOCAL, REMOTE),
    "nodeport_sctp": web(port_object(80, 8080, protocol="SCTP", node_port=30080), LOCAL, REMOTE),
    "nodeport_without_endpoints": web(NODE_PORT),
    "nodeport_udp_without_endpoints": web(NODE_PORT_UDP),
    "external_ip": [
        service_object("web", "10.96.0.50", HTTP, externalIPs=["192.0.2.60"]),
        slice_object("web", [HTTP], [LOCAL, REMOTE]),
    ],
    "external_ip_of_the_node_without_endpoints": [
        service_object("web", "10.96.0.50", HTTP, externalIPs=["192.168.49.2"]),
    ],
    "terminating": web(
        HTTP,
        LOCAL | {"conditions": {"ready": False, "serving": True, "terminating": True}},
        REMOTE | {"conditions": {"ready": False, "serving": False, "terminating": True}},
    ),
    "prefer_same_zone": hinted("forZones", "east", "west"),
    "prefer_same_node": hinted("forNodes", "node1", "node2"),
    "loadbalancer": balanced(),
    "loadbalancer_source_ranges": balanced(loadBalancerSourceRanges=["198.51.100.0/24"]),
    "loadbalancer_without_endpoints": balanced()[:1],
    "external_traffic_policy_local": balanced(externalTrafficPolicy="Local"),
    "health_check_node_port": balanced(externalTrafficPolicy="Local", healthCheckNodePort=31999),
    "external_traffic_policy_local_elsewhere": [
        *balanced(externalTrafficPolicy="Local")[:1],
        slice_object("web", [NODE_PORT], [REMOTE]),
    ],
    "internal_traffic_policy_local": [
        service_object("web", "10.96.0.50", HTTP, internalTrafficPolicy="Local"),
        slice_object("web", [HTTP], [LOCAL, REMOTE]),
    ],
    "internal_traffic_policy_local_elsewhere": [
        service_object("web", "10.96.0.50", HTTP, internalTrafficPolicy="Local"),
        slice_object("web", [HTTP], [REMOTE]),
    ],
    "session_affinity": [
        service_object("web", "10.96.0.50", NODE_PORT, sessionAffinity="ClientIP"),
        slice_object("web", [NODE_PORT], [LOCAL, REMOTE]),
    ],
    "session_affinity_longer_than_a_timeout": [
        service_object(
            "web",
            "10.96.0.50",
            HTTP,
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86400}},
        ),
        slice_object("web", [HTTP], [LOCAL]),
    ],
    "weights": scheduled("", "2", "1"),
    "scheduler_sh": scheduled("sh", "2", "1"),
    "scheduler_mh": scheduled("mh", "1", "1"),
    "scheduler_dh": scheduled("dh", "2", "1"),
    "scheduler_rr_udp": turns(NODE_PORT_UDP),
    "scheduler_rr_session_affinity": turns(HTTP, sessionAffinity="ClientIP"),
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


def test_fields_that_the_kernels_datapath_lacks_are_written_from_the_stack() -> None:
    """Above it Open vSwitch refuses set_field and move of them (OFPBAC_BAD_SET_ARGUMENT)."""
    text = "".join(file.read_text() for file in GOLDEN.glob("**/*.txt"))
    written = set(re.findall(r"(\w+):[^, ]*ND_(?:RESERVED|OPTIONS_TYPE)", text, flags=re.I))
    assert written == {"pop"}


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {*CASES, "dispatch"}
    assert {path.stem for path in (GOLDEN / "ipv6").glob("*.txt")} == set(CASES)


def reasons(source: str) -> Iterable[str]:
    """A pattern for the reason of each flow a module can make: given to Flow, or called ``why``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="Flow"), args=[_, _, _, _, _, why]):
                yield from patterns(why)
            case ast.Assign(targets=[ast.Name(id="why")], value=why):
                yield from patterns(why)


def patterns(why: ast.expr) -> Iterable[str]:
    match why:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=values):
            yield "".join(re.escape(str(v.value)) if isinstance(v, ast.Constant) else ".+" for v in values)
        case ast.IfExp(body=one, orelse=other):
            yield from (*patterns(one), *patterns(other))


@pytest.fixture(scope="module")
def said() -> dict[str, set[str]]:
    """The reasons of the flows of all cases, by family; those of no family in both."""
    single = {
        key: flow for objects in CASES.values() for key, flow in proxier(objects).desired().flows.items()
    }
    both = {
        key: flow
        for objects in CASES.values()
        for key, flow in proxier(objects, True).desired().flows.items()
    }
    shared = {flow.why for flow in single.values() if not flow.match}
    ipv6 = {flow.why for key, flow in both.items() if key not in single}
    return {"IPv4": {flow.why for flow in single.values()}, "IPv6": ipv6 | shared}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("module", FLOW_MODULES, ids=lambda path: path.stem)
def test_every_rule_has_its_golden_flows(module: Path, family: str, said: dict[str, set[str]]) -> None:
    """Whatever a module can say of a flow, some case has such a flow in each family; of ARP and neighbour
    discovery one of both."""
    found = said["IPv4"] | said["IPv6"] if module.stem == "flows_neighbour" else said[family]
    wanted = list(reasons(module.read_text()))
    assert [why for why in wanted if not any(re.fullmatch(why, text) for text in found)] == []
    assert wanted


def test_the_flows_that_the_kubeproxy_makes_for_a_moment_are_what_they_were() -> None:
    """The lease, and the flow of a connection that is counted: no object's, so as ovs-ofctl reads them."""
    messages = [lease_flow(LEASE, 1)]
    for client, asked in ((ALICE, CLUSTER_IP), (in_ipv6(ALICE), in_ipv6(CLUSTER_IP))):
        for protocol in (TCP, UDP):
            made = Connection(protocol, ip_address(client), 40000, ip_address(asked), 80)
            messages.append(connection_flow(made, Category.CONNECTION << 56, IDLE.get(protocol, IDLE[0]), 1))
    lines = []
    for message in messages:
        text = ofp_print(message)
        for table in pipeline.TABLES:
            text = text.replace(f"table:{table.id} ", f"table={table.name}, ")
        lines.append(f"{text.partition('ADD ')[2].strip()}\n")
    compare("".join(lines), GOLDEN / "dispatch.txt")
