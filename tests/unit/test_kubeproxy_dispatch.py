"""What the dispatcher makes of first packets and ended connections; its bytes, by ovs-ofctl's reading."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.kubeproxy import openflow
from controller.kubeproxy.actions import Resubmit, SetField
from controller.kubeproxy.dispatch import AGAIN_WITHIN, IDLE, RENEW, Dispatcher, cookie_of
from controller.kubeproxy.flow import Category
from controller.kubeproxy.flows_scheduler import Scheduled
from controller.kubeproxy.openflow_packets import (
    OFPT_FLOW_REMOVED,
    OFPT_PACKET_IN,
    Connection,
    Opening,
    connection_flow,
    decode_connections,
    decode_flow_removed,
    decode_packet_in,
    lease_flow,
    packet_out,
    read_opening,
)
from controller.kubeproxy.pipeline import NEEDS_SNAT, SERVICE_GROUP, SOURCE
from controller.kubeproxy.schedulers import SCHEDULERS
from controller.kubeproxy.services import Endpoint
from tests.ovs.switch import ofp_print

GROUP = 0x1EBAC948
PODS = tuple(Endpoint(ip_address(f"10.244.{n}.2"), 8080) for n in (1, 2, 3))
FOUR = Connection(6, ip_address("10.244.1.9"), 1234, ip_address("10.96.0.50"), 80)
SIX = Connection(17, ip_address("fd00::9"), 1234, ip_address("fd00::50"), 53)


def dispatcher(
    scheduler: str = "rr", pods: tuple[Endpoint, ...] = PODS, then: str = "EndpointDNAT"
) -> Dispatcher:
    return Dispatcher(lambda: {GROUP: Scheduled(SCHEDULERS[scheduler], pods, then)})


def packet_in(data: bytes, group: int = GROUP, reg4: int = 0x110000) -> bytes:
    """As Open vSwitch writes it: registers in pairs, as OpenFlow 1.5's xreg0 and xreg2."""
    oxms = struct.pack("!IQ", 0x80010008, 3 << 32)
    oxms += struct.pack("!IQ", 0x80010408, reg4 << 32 | group)
    oxms += struct.pack("!II", 0x80000004, 3)
    match = struct.pack("!HH", 1, 4 + len(oxms)) + oxms
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, len(data), 1, 10, 7 << 56) + match + bytes(-len(match) % 8)
    return message(OFPT_PACKET_IN, body + bytes(2) + data)


def flow_removed(flow: bytes) -> bytes:
    """The message that tells of this flow's end: its match, which the flow-mod has at byte 48."""
    cookie = int.from_bytes(flow[8:16], "big")
    match = flow[48:]
    length = (int.from_bytes(match[2:4], "big") + 7) // 8 * 8
    stats = struct.pack("!HH4x", 0, 8)
    return message(
        OFPT_FLOW_REMOVED, struct.pack("!BBHHHQ", 6, 0, 200, 0, 0, cookie) + match[:length] + stats
    )


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("!BBHI", 6, kind, 8 + len(body), 0) + body


def syn(port: int, seq: int = 1, source: str = "10.244.1.9") -> bytes:
    return bytes(Ether() / IP(src=source, dst="10.96.0.50") / TCP(sport=port, dport=80, flags="S", seq=seq))


def sent(made: bytes) -> tuple[list[bytes], str]:
    """(flow-mods, the endpoint's letter) of an answer."""
    messages, rest = openflow.split(made)
    assert rest == b""
    if not messages:
        return [], ""
    *flows, out = messages
    text = ofp_print(out)
    assert "OFPT_PACKET_OUT" in text
    assert "***" not in text
    (letter,) = [name for name, pod in zip("abc", PODS, strict=True) if f"{int(pod.address):#x}" in text]
    return flows, letter


@pytest.mark.parametrize("connection", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_a_connection_s_flow_is_one_that_the_switch_takes_and_can_be_read_again(
    connection: Connection,
) -> None:
    cookie = cookie_of(GROUP, PODS[0])
    flow = connection_flow(connection, cookie, 900, 1)
    text = ofp_print(flow)
    assert "***" not in text
    assert "idle:900 send_flow_rem" in text
    assert ("fin_timeout(idle_timeout=1)" in text) == (connection.protocol == 6)
    for word in (
        f"={connection.client}",
        f"={connection.asked}",
        "ct_tp_src=1234",
        f"ct_tp_dst={connection.port}",
    ):
        assert word in text
    assert decode_flow_removed(flow_removed(flow)) == (cookie, connection)


def test_flows_of_connections_are_found_among_all_others_in_a_description() -> None:
    flow = connection_flow(FOUR, cookie_of(GROUP, PODS[0]), 900, 1)
    entries = b""
    for mod in (lease_flow(3, 1), flow):
        cookie, match = mod[8:16], mod[48:]
        match = match[: (int.from_bytes(match[2:4], "big") + 7) // 8 * 8]
        rest = match + struct.pack("!HH4x", 0, 8)
        entries += (
            struct.pack("!HxxBxHHHHH", 24 + len(rest) + 8, 6, 200, 0, 0, 0, 0)[:16] + cookie + rest + bytes(8)
        )
    part = message(19, struct.pack("!HH4x", 1, 0) + entries)
    assert list(decode_connections(part)) == [(cookie_of(GROUP, PODS[0]), FOUR)]


def test_the_lease_sends_whole_packets_to_us_and_ends_by_itself() -> None:
    text = ofp_print(lease_flow(3, 1))
    assert "hard:3 actions=CONTROLLER:65535" in text
    assert f"cookie:{Category.LEASE << 56:#x}" in text


def test_a_packet_goes_back_where_it_came_from_with_the_registers_it_had() -> None:
    packet = decode_packet_in(packet_in(b"x" * 60))
    assert (packet.in_port, packet.data) == (3, b"x" * 60)
    assert (packet.value(SOURCE), packet.value(NEEDS_SNAT), packet.value(SERVICE_GROUP)) == (3, 1, GROUP)
    text = ofp_print(packet_out(3, [SetField(SOURCE(3)), Resubmit("EndpointDNAT")], syn(1), 1))
    assert "in_port=3 actions=set_field:0x3/0xf->reg0,resubmit" in text


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=5, dport=6, seq=7), (6, 5, 6, 7)),
        (IP(src="10.0.0.1", dst="10.0.0.2", options=b"\1\1\1\1") / UDP(sport=5, dport=6), (17, 5, 6, 0)),
        (IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=5, dport=6, seq=7), (6, 5, 6, 7)),
        (IP(src="10.0.0.1", dst="10.0.0.2", frag=100) / Raw(b"no ports here"), None),
        (IP(src="10.0.0.1", dst="10.0.0.2", proto=6), None),
        (Raw(b"short"), None),
    ],
)
def test_the_first_packet_s_connection_is_read(packet: Packet, expected: tuple[int, ...] | None) -> None:
    found = read_opening(bytes(Ether() / packet))
    if expected is None:
        assert found is None
        return
    assert isinstance(found, Opening)
    connection = found.connection
    assert (connection.protocol, connection.client_port, connection.port, found.sequence) == expected
    assert str(connection.client).endswith("1")


def test_connections_are_given_in_turn_and_one_that_comes_again_goes_where_it_went() -> None:
    one = dispatcher()
    assert [sent(one.told(packet_in(syn(port)), 0, 1))[1] for port in (1, 2, 1, 3)] == ["a", "b", "a", "c"]
    assert sent(one.told(packet_in(syn(1, seq=99)), 0, 1))[1] == "a", "another connection: its turn"
    assert sent(one.told(packet_in(syn(2)), AGAIN_WITHIN, 1))[1] == "b", "too late to be the same packet"


def test_each_connection_that_is_counted_gets_a_flow_and_its_end_is_heard() -> None:
    one = dispatcher("lc")
    given = [sent(one.told(packet_in(syn(port)), 0, 1)) for port in (1, 2, 3)]
    assert [letter for _, letter in given] == ["a", "b", "c"]
    assert all(len(flows) == 1 for flows, _ in given)
    assert f"idle:{IDLE[6]}" in ofp_print(given[0][0][0])
    one.told(flow_removed(given[1][0][0]), 0, 1)
    assert [one.active(GROUP, pod) for pod in PODS] == [1, 0, 1]
    assert sent(one.told(packet_in(syn(4)), 0, 1))[1] == "b"


def test_the_end_of_a_connection_s_last_life_does_not_end_its_next() -> None:
    one = dispatcher("lc")
    (first,), _ = sent(one.told(packet_in(syn(1)), 0, 1))
    assert sent(one.told(packet_in(syn(1, seq=50)), 0, 1))[1] == "b", "the port again: its flow is replaced"
    one.told(flow_removed(first), 0, 1)
    assert [one.active(GROUP, pod) for pod in PODS] == [0, 1, 0]


def test_what_is_read_back_is_what_counts() -> None:
    one = dispatcher("lc")
    one.told(packet_in(syn(1)), 0, 1)
    one.counted([(cookie_of(GROUP, PODS[1]), FOUR), (cookie_of(GROUP + 1, PODS[1]), SIX)])
    assert [one.active(GROUP, pod) for pod in PODS] == [0, 1, 0]


def test_with_affinity_a_client_s_next_connection_goes_where_the_last_one_went() -> None:
    one = dispatcher(then="SessionLearn")
    assert [sent(one.told(packet_in(syn(port)), 0, 1))[1] for port in (1, 2, 3)] == ["a", "a", "a"]
    assert sent(one.told(packet_in(syn(4, source="10.244.1.8")), 0, 1))[1] == "b"


def test_nothing_is_sent_for_a_service_that_changed_meanwhile_or_where_nobody_takes_connections() -> None:
    assert dispatcher().told(packet_in(syn(1), group=5), 0, 1) == b""
    nobody = tuple(Endpoint(pod.address, pod.port, weight=0) for pod in PODS)
    assert dispatcher(pods=nobody).told(packet_in(syn(1)), 0, 1) == b""


def test_the_lease_is_renewed_while_there_is_something_to_schedule() -> None:
    groups = {GROUP: Scheduled(SCHEDULERS["rr"], PODS, "EndpointDNAT")}
    one = Dispatcher(lambda: groups)
    assert one.lease(10.0, 1) == (lease_flow(3, 1), 10 + RENEW)
    assert one.lease(10.5, 1) == (b"", 10 + RENEW)
    assert one.lease(11.0, 1)[0]
    one.disconnected()
    assert one.lease(11.1, 1)[0]
    groups.clear()
    assert one.lease(20.0, 1) == (b"", None)
