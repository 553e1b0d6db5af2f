"""Every message we encode, read back by ovs-ofctl: its text must be ours. And the pipeline's own checks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from controller.kubeproxy import openflow
from controller.kubeproxy.actions import Ct, DecTtl, GoTo, InPort, Nat, SetField
from controller.kubeproxy.diff import (
    BUCKETS_IN_A_MESSAGE,
    AddFlow,
    AddGroup,
    DeleteFlow,
    DeleteGroup,
    Have,
    InsertBuckets,
    ModifyGroup,
    RemoveBucket,
    diff,
)
from controller.kubeproxy.fields import IPV4, IPV4_SRC, IPV6, IPV6_DST, TCP, Family, FieldMatch, proto
from controller.kubeproxy.flow import Category, Cause, Desired, Flow, FlowKey, Group
from controller.kubeproxy.flows_affinity import flows_of_affinity
from controller.kubeproxy.groups import group_of
from controller.kubeproxy.pipeline import (
    ENDPOINT_DNAT,
    L3_FORWARDING,
    SERVICE_LB,
    SNAT,
    SOURCE,
    TABLES,
    TABLES_BY_ID,
    number,
)
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.services import Endpoint, service_ports
from controller.kubeproxy.stale import Stale
from controller.kubeproxy.table import PipelineError, Table
from tests import packets
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)
from tests.packets_dual import dual, in_ipv6

CAUSE = Cause(Category.SERVICE, "default", "web")


def oracle(messages: Iterable[bytes], tmp_path: Path) -> list[str]:
    """What ovs-ofctl says each message is, with our table names; multi-line texts are joined."""
    stream = tmp_path / "messages"
    stream.write_bytes(b"".join(messages))
    done = subprocess.run(
        ["ovs-ofctl", "-O", "OpenFlow15", "ofp-parse", str(stream)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr, done.stderr
    texts = re.split(r"^(?=OFPT_|OFPST_|NXT_)", done.stdout, flags=re.M)[1:]
    return [named(" ".join(text.split())) for text in texts]


def in_family(address: str, family: Family) -> str:
    return address if family is IPV4 else in_ipv6(address)


def named(text: str) -> str:
    def name(match: re.Match[str]) -> str:
        return f"{match[1]}{TABLES_BY_ID[int(match[2])].name}"

    return re.sub(r"((?:\btable[:=])|resubmit\(,|goto_table:)(\d+)\b", name, text)


def scene(node: str = "node1") -> Proxier:
    """The proxier of a node in the cluster of the packet rows, in both families; pods' addresses made up."""
    proxier = Proxier(node)

    def add(obj: dict[str, Any]) -> None:
        for one in in_both_families([obj]):
            proxier.apply("ADDED", one)

    for name in ("node1", "node2", "node3"):
        add(node_object(name))
    ports = {f"{node}-host": 1, f"{node}-up": 2}
    pods = [obj for obj in packets.SCENE if obj["kind"] == "Pod"]
    where: dict[str, str] = {}
    for k, pod in enumerate(pods, 2):
        name, home = pod["metadata"]["name"], pod["spec"]["nodeName"]
        host_network = pod["spec"].get("hostNetwork")
        n = home.removeprefix("node")
        where[name] = f"192.168.49.{int(n) + 1}" if host_network else f"10.244.{n}.{k}"
        if not host_network:
            add(pod_object(name, home, where[name], f"{home}-p{k}"))
            ports[f"{home}-p{k}"] = k + 1
    for service in (obj for obj in packets.SCENE if obj["kind"] == "Service"):
        app = service["metadata"]["name"]
        endpoints = [
            endpoint_object(where[p["metadata"]["name"]], p["spec"]["nodeName"], ready=app != "lazy")
            for p in pods
            if p["metadata"]["labels"]["app"] == app
        ]
        add(service)
        add(slice_object(app, service["spec"]["ports"], endpoints))
    proxier.set_ports(ports)
    assert proxier.waiting() == []
    return proxier


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_every_flow_of_a_cluster_reads_back_as_it_was_written(node: str, tmp_path: Path) -> None:
    flows = list(scene(node).desired().flows.values())
    assert len(flows) > 120
    assert len([flow for flow in flows if IPV6.ip in flow.match]) > 60
    texts = oracle([openflow.encode(AddFlow(flow), 1) for flow in flows], tmp_path)
    for flow, text in zip(flows, texts, strict=True):
        table = "" if flow.table is TABLES[0] else f" table:{flow.table.name}"
        match = f",{flow.match_text}" if flow.match_text else ""
        actions = str(flow).split(" actions=")[1]
        assert text == (
            f"OFPT_FLOW_MOD (OF1.5) (xid=0x1): ADD{table} priority={flow.priority}{match} "
            f"cookie:{flow.cookie:#x} actions={actions}"
        )


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_groups_read_back_as_they_were_written(count: int, family: Family, tmp_path: Path) -> None:
    group = group_with(count, family)
    add, modify = oracle([openflow.encode(kind(group), 1) for kind in (AddGroup, ModifyGroup)], tmp_path)
    assert add == f"OFPT_GROUP_MOD (OF1.5) (xid=0x1): ADD {group}"
    assert modify == f"OFPT_GROUP_MOD (OF1.5) (xid=0x1): MOD {group}"


def group_with(count: int, family: Family = IPV4) -> Group:
    port = service_ports(dual(packets.service("web", "10.96.0.50")), family)[0]
    at = [in_family(f"10.244.{1 + i // 200}.{2 + i % 200}", family) for i in range(count)]
    endpoints = [Endpoint(family.address(address), 8080) for address in at]
    return group_of(port, endpoints, 77)


def test_deletes_name_the_table_and_the_whole_cookie(tmp_path: Path) -> None:
    flow, group, bucket = oracle(
        [
            openflow.encode(DeleteFlow(FlowKey(SERVICE_LB.id, 200, 0x1234)), 1),
            openflow.encode(DeleteGroup(77), 1),
            openflow.encode(RemoveBucket(77, 5), 1),
        ],
        tmp_path,
    )
    assert "DEL table:ServiceLB" in flow
    assert "cookie:0x1234/0xffffffffffffffff" in flow
    assert group.endswith("DEL group_id=77,type=select") or "DEL group_id=77" in group
    assert "REMOVE_BUCKET command_bucket_id:5,group_id=77" in bucket


def test_a_group_larger_than_a_message_is_sent_in_pieces(tmp_path: Path) -> None:
    group = group_with(BUCKETS_IN_A_MESSAGE * 2 + 1)
    messages = diff(Have(), Desired({}, {77: group}))
    assert [type(m) for m in messages] == [AddGroup, InsertBuckets, InsertBuckets]
    encoded = [openflow.encode(m, 1) for m in messages]
    assert max(map(len, encoded)) < 65536
    texts = oracle(encoded, tmp_path)
    assert [text.count("bucket=") for text in texts] == [BUCKETS_IN_A_MESSAGE, BUCKETS_IN_A_MESSAGE, 1]
    assert "INSERT_BUCKET command_bucket_id:last" in texts[1]


def test_a_bundle_is_opened_filled_and_committed_atomic_and_in_order(tmp_path: Path) -> None:
    flow = next(iter(scene().desired().flows.values()))
    texts = oracle(openflow.bundle([AddFlow(flow), DeleteGroup(1)], 9, 3), tmp_path)
    assert "OPEN_REQUEST flags=atomic ordered" in texts[0]
    assert "bundle_id=0x9" in texts[0]
    assert [t.split(" ")[0] for t in texts][-1] == "OFPT_BUNDLE_CONTROL"
    assert "COMMIT_REQUEST flags=atomic ordered" in texts[-1]
    assert any("FLOW_MOD" in t for t in texts[1:-1])
    assert any("GROUP_MOD" in t for t in texts[1:-1])


def test_requests_are_what_they_should_be(tmp_path: Path) -> None:
    texts = oracle(
        [
            openflow.barrier_request(7),
            openflow.flow_stats_request(7),
            openflow.group_desc_request(7),
            openflow.port_desc_request(7),
        ],
        tmp_path,
    )
    assert texts[0].startswith("OFPT_BARRIER_REQUEST (OF1.5) (xid=0x7):")
    assert texts[1].startswith("OFPST_FLOW request (OF1.5) (xid=0x7):")
    assert texts[2].startswith("OFPST_GROUP_DESC request (OF1.5) (xid=0x7):")
    assert texts[3].startswith("OFPST_PORT_DESC request (OF1.5) (xid=0x7):")


def test_ipv6_addresses_encode_in_matches_writes_and_nat(tmp_path: Path) -> None:
    address = IPv6Address("fd00:10:244:1::2")
    match = (IPV6.ip, proto(TCP))
    ct = Ct(1002, "L3Forwarding", commit=True, nat=Nat("dst", address, 8080))
    lb = Flow(SERVICE_LB, 200, (*match, FieldMatch(IPV6_DST, int(address))), (), CAUSE, "")
    dnat = Flow(ENDPOINT_DNAT, 200, match, (ct,), CAUSE, "")
    texts = oracle([openflow.encode(AddFlow(flow), 1) for flow in (lb, dnat)], tmp_path)
    assert "tcp6,ipv6_dst=fd00:10:244:1::2" in texts[0]
    assert str(ct) in texts[1]


def test_a_range_of_ports_encodes_in_nat(tmp_path: Path) -> None:
    for family, address in ((IPV4, IPv4Address("192.168.49.2")), (IPV6, IPv6Address("fd00:49::2"))):
        ct = Ct(1003, "Output", commit=True, nat=Nat("src", address, 1024, 61439))
        flow = Flow(SNAT, 200, (family.ip,), (ct,), CAUSE, "")
        (text,) = oracle([openflow.encode(AddFlow(flow), 1)], tmp_path)
        assert str(ct) in text


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=str)
@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_learn_encodes_as_written(tmp_path: Path, protocol: str, family: Family) -> None:
    spec = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 100}}}
    web = service_object("web", "10.96.0.50", port_object(80, 8080, protocol=protocol), **spec)
    (port,) = service_ports(dual(web), family)
    endpoints = [Endpoint(family.address(in_family("10.244.1.2", family)), 8080)]
    (flow,) = flows_of_affinity(port, endpoints, 5, CAUSE)
    (text,) = oracle([openflow.encode(AddFlow(flow), 1)], tmp_path)
    assert str(flow.actions[0]) in text


def test_forgetting_connections_encodes_as_ovs_ofctl_has_it(tmp_path: Path) -> None:
    asked, endpoint = IPv4Address("10.96.0.50"), IPv4Address("10.244.2.2")
    messages = [
        openflow.flush(Stale(1002, asked, 53, endpoint, 5353), 1),
        openflow.flush(Stale(1002, asked, 53), 2),
        openflow.flush(Stale(1002, IPv6Address("fd00::1"), 53, IPv6Address("fd00::2"), 5353), 3),
    ]
    both, one, ipv6 = oracle(messages, tmp_path)
    head = "NXT_CT_FLUSH (OF1.5) (xid=0x1): zone=1002"
    to = "'ct_nw_src=::,ct_nw_dst=10.96.0.50,ct_tp_src=0,ct_tp_dst=53,ct_nw_proto=17'"
    assert both == f"{head} {to} 'ct_nw_src=10.244.2.2,ct_nw_dst=::,ct_tp_src=5353,ct_tp_dst=0'"
    assert to in one
    assert "10.244.2.2" not in one
    assert "ct_ipv6_dst=fd00::1" in ipv6
    assert "ct_ipv6_src=fd00::2" in ipv6


def test_a_stream_is_split_into_whole_messages_and_a_rest() -> None:
    one, two = openflow.barrier_request(1), openflow.flow_stats_request(2)
    assert openflow.split(one + two + one[:5]) == ([one, two], one[:5])
    assert b"".join(openflow.joined([one, two] * 3000)) == (one + two) * 3000
    assert max(map(len, openflow.joined([two] * 3000))) < openflow.PIECE + len(two)


def test_a_match_that_the_table_does_not_allow_raises() -> None:
    with pytest.raises(PipelineError, match="L3Forwarding does not allow a match on nw_src"):
        Flow(L3_FORWARDING, 200, (IPV4.ip, FieldMatch(IPV4_SRC, 1)), (), CAUSE, "")


def test_a_jump_that_the_table_does_not_allow_raises() -> None:
    with pytest.raises(PipelineError, match="ServiceLB does not lead to Output"):
        Flow(SERVICE_LB, 200, (IPV4.ip,), (GoTo("Output"),), CAUSE, "")


def test_a_table_that_leads_back_raises() -> None:
    back = Table(name="B", stage="", why="", matches=frozenset(), next=frozenset({"A"}))
    with pytest.raises(PipelineError, match="B cannot lead to A"):
        number([Table(name="A", stage="", why="", matches=frozenset()), back])


def test_actions_that_are_equal_as_tuples_encode_apart() -> None:
    flows = [Flow(TABLES[-1], 1, (IPV4.ip,), (action,), CAUSE, "") for action in (InPort(), DecTtl())]
    first, second = (openflow.encode(AddFlow(flow), 1) for flow in flows)
    assert first[-16:] != second[-16:]


def test_the_cookie_says_category_and_cause_and_does_not_change_between_processes() -> None:
    flow = Flow(SERVICE_LB, 200, (IPV4.ip, SOURCE(1)), (SetField(SOURCE(2)),), CAUSE, "whatever")
    assert flow.cookie >> 56 == Category.SERVICE
    assert flow.cookie == 219241389654029302
