"""The frame reader against frames that scapy built: it is the oracle, and never used by a lesson."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from scenarios.packet import Endpoint, Packet, Place, Tuple5, read

CLIENT, NODE, POD = "198.51.100.11", "192.168.49.2", "10.244.2.3"
ETHER = Ether(src="0a:58:c6:33:64:0b", dst="0a:58:a9:fe:01:01")


def seen(layer: Layer) -> Packet:
    packet = read(bytes(ETHER / layer), time_ns=5, link="client1", outgoing=True)
    assert packet is not None
    return packet


def test_a_tcp_segment_is_read_whole() -> None:
    packet = seen(
        IP(src=CLIENT, dst=NODE, ttl=63, id=77)
        / TCP(sport=40001, dport=30000, flags="PA", seq=1000, ack=2000, options=[("NOP", None)] * 4)
        / Raw(b"GET / HTTP/1.1\r\n")
    )
    assert packet.tuple5 == Tuple5("TCP", Endpoint(CLIENT, 40001), Endpoint(NODE, 30000))
    assert (packet.ttl, packet.flags, packet.seq, packet.ack) == (63, "PSH,ACK", 1000, 2000)
    assert packet.payload == b"GET / HTTP/1.1\r\n"
    assert (packet.time_ns, packet.place) == (5, Place("client1", True))
    assert (packet.mac_src, packet.mac_dst) == ("0a:58:c6:33:64:0b", "0a:58:a9:fe:01:01")
    assert packet.bad_checksums == ()


def test_padding_behind_the_ip_packet_is_not_payload() -> None:
    frame = bytes(ETHER / IP(src=CLIENT, dst=NODE) / TCP(flags="A")) + b"\0" * 6
    packet = read(frame)
    assert packet is not None
    assert packet.payload == b""


def test_syn_comes_before_ack_in_the_words() -> None:
    assert seen(IP(src=CLIENT, dst=NODE) / TCP(flags="SA")).flags == "SYN,ACK"
    assert seen(IP(src=CLIENT, dst=NODE) / TCP(flags="FPA")).flags == "FIN,PSH,ACK"


@pytest.mark.parametrize(
    "layers",
    [TCP(sport=1, dport=2) / Raw(b"abc"), UDP(sport=1, dport=2) / Raw(b"abc"), ICMP() / Raw(b"abc")],
    ids=["TCP", "UDP", "ICMP"],
)
def test_a_broken_checksum_is_named(layers: Layer) -> None:
    frame = bytearray(bytes(ETHER / IP(src=CLIENT, dst=NODE) / layers))
    frame[-1] ^= 0xFF
    packet = read(bytes(frame))
    assert packet is not None
    assert packet.bad_checksums == (packet.protocol,)
    frame[14 + 8] -= 1  # the TTL, without the header's checksum
    packet = read(bytes(frame))
    assert packet is not None
    assert packet.bad_checksums == ("IPv4", packet.protocol)


def test_udp_without_a_checksum_is_right() -> None:
    assert seen(IP(src=CLIENT, dst=NODE) / UDP(sport=1, dport=2, chksum=0) / Raw(b"x")).bad_checksums == ()


def test_translation_and_routing_change_nothing_of_what_identifies_a_packet() -> None:
    def segment(src: str, dst: str, sport: int, dport: int, ttl: int, number: int = 9) -> Packet:
        return seen(
            IP(src=src, dst=dst, ttl=ttl, id=number)
            / TCP(sport=sport, dport=dport, seq=3, options=[("Timestamp", (7, 0))])
            / Raw(b"hello")
        )

    before = segment(CLIENT, NODE, 40001, 30000, 64)
    assert before.unchanged == segment(NODE, POD, 50001, 8501, 62).unchanged
    assert before.unchanged != segment(CLIENT, NODE, 40001, 30000, 64, number=10).unchanged


def test_an_icmp_error_says_what_it_is_about() -> None:
    packet = seen(
        IP(src="198.51.100.1", dst=CLIENT)
        / ICMP(type=3, code=0)
        / IPerror(src=CLIENT, dst="10.96.0.9", ttl=63, id=4)
        / TCPerror(sport=40001, dport=80, seq=5)
    )
    assert packet.flags == "net unreachable"
    assert packet.quoted == Tuple5("TCP", Endpoint(CLIENT, 40001), Endpoint("10.96.0.9", 80))


def test_an_icmp_error_is_recognised_although_its_quote_was_translated() -> None:
    def error(src: str, port: int) -> Packet:
        quote = IPerror(src=CLIENT, dst=src, ttl=63, id=4) / UDPerror(sport=40001, dport=port)
        return seen(IP(src=src, dst=CLIENT, id=1) / ICMP(type=3, code=3) / quote)

    assert error(POD, 53).unchanged == error("10.96.0.10", 5353).unchanged


def test_icmp_echo_carries_its_id_as_ports() -> None:
    packet = seen(IP(src=CLIENT, dst=NODE) / ICMP(type=8, id=321, seq=2) / Raw(b"ping"))
    assert packet.flags == "echo request"
    assert (packet.src.port, packet.dst.port, packet.seq) == (321, 321, 2)


def test_a_fragment_has_no_ports_and_its_checksum_is_not_judged() -> None:
    packet = seen(IP(src=CLIENT, dst=NODE, frag=3, flags="MF", proto=17) / Raw(b"x" * 32))
    assert (packet.protocol, packet.src.port, packet.bad_checksums) == ("UDP", 0, ())


def test_arp_is_a_question_or_an_answer() -> None:
    question = seen(ARP(op=1, psrc=CLIENT, pdst="169.254.1.1"))
    assert (question.protocol, question.flags, question.dst.address) == ("ARP", "who has", "169.254.1.1")
    assert seen(ARP(op=2, psrc="169.254.1.1", pdst=CLIENT)).flags == "is at"


def test_neighbour_discovery_is_a_question_or_an_answer_as_arp_is() -> None:
    asker = "fd00:10:244:1::2"
    question = seen(
        IPv6(src=asker, dst="ff02::1:ff00:1", hlim=255)
        / ICMPv6ND_NS(tgt="fe80::1")
        / ICMPv6NDOptSrcLLAddr(lladdr=ETHER.src)
    )
    assert (question.protocol, question.flags, question.ttl) == ("NDP", "who has", 255)
    assert (question.src.address, question.dst.address) == (asker, "fe80::1")
    answer = seen(
        IPv6(src="fe80::1", dst=asker, hlim=255)
        / ICMPv6ND_NA(tgt="fe80::1")
        / ICMPv6NDOptDstLLAddr(lladdr=ETHER.dst)
    )
    assert (answer.flags, answer.src.address, answer.dst.address) == ("is at", "fe80::1", asker)
    assert all(packet.on_one_link and packet.bad_checksums == () for packet in (question, answer))


def test_a_multicast_report_is_no_connection_and_an_echo_is_one() -> None:
    report = seen(IPv6(src="fe80::2", dst="ff02::16", hlim=1) / ICMPv6MLReport2())
    assert (report.protocol, report.on_one_link) == ("MLD", True)
    echo = seen(IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(id=321, seq=2, data=b"ping"))
    assert (echo.protocol, echo.flags, echo.src.port, echo.on_one_link) == (
        "ICMP6", "echo request", 321, False,
    )  # fmt: skip


def test_ipv6_and_vlan_tags_are_understood() -> None:
    packet = seen(Dot1Q(vlan=5) / IPv6(src="2001:db8::1", dst="fd00::2", hlim=61) / TCP(sport=7, dport=8))
    assert str(packet.tuple5) == "[2001:db8::1]:7 → [fd00::2]:8"
    assert (packet.ttl, packet.bad_checksums) == (61, ())


@pytest.mark.parametrize("length", range(54))
def test_a_frame_cut_anywhere_is_nothing_rather_than_a_crash(length: int) -> None:
    frame = bytes(ETHER / IP(src=CLIENT, dst=NODE) / TCP(sport=1, dport=2))
    assert read(frame[:length]) is None


def test_other_ethertypes_are_nothing() -> None:
    assert read(bytes(Ether(type=0x88CC)) + b"lldp") is None
