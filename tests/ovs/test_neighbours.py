"""ARP and neighbour discovery: the bridge answers for the gateway, to every port, and passes nothing on."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6MLQuery,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether

from controller.api import wiring
from tests.ovs.hosts import Host
from tests.ovs.layers import verify
from tests.ovs.world import World
from tests.packets_dual import in_ipv6

GATEWAY, GATEWAY6 = str(wiring.GATEWAY), str(wiring.RANGES["IPv6"].gateway)
ASKED_OF_ALL = "33:33:ff:00:00:01", "ff02::1:ff00:1"
LINK_LOCAL = "fe80::a58:af4:102"
UPLINKS = [f"node{n}-up" for n in (1, 2, 3)]


def solicitation(host: Host, target: str, source: str = "", to: tuple[str, str] = ASKED_OF_ALL) -> Any:
    ether, ip = to
    ask = ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=host.mac)
    return Ether(src=host.mac, dst=ether) / IPv6(src=source or host.at("IPv6"), dst=ip, hlim=255) / ask


def port_of(world: World, host: Host) -> str:
    return world.port_of[host.address]


def test_arp_for_the_gateway_is_answered_and_for_nothing_else(world: World) -> None:
    alice = world.host("pod/alice")
    port = port_of(world, alice)

    def ask(target: str) -> list[tuple[str, bytes]]:
        question = ARP(op=1, hwsrc=alice.mac, psrc=alice.address, pdst=target)
        return world.inject(port, bytes(Ether(src=alice.mac, dst="ff:ff:ff:ff:ff:ff") / question))

    ((out, frame),) = ask(GATEWAY)
    answer = Ether(frame)
    assert out == port
    assert (answer.src, answer.dst) == (wiring.GATEWAY_MAC, alice.mac)
    given = answer[ARP]
    assert (given.op, given.hwsrc, given.psrc) == (2, wiring.GATEWAY_MAC, GATEWAY)
    assert (given.hwdst, given.pdst) == (alice.mac, alice.address)
    assert ask(world.host("pod/web-0").address) == []


@pytest.mark.parametrize("source", ["", LINK_LOCAL], ids=["from its address", "from its link-local address"])
@pytest.mark.parametrize("to", [ASKED_OF_ALL, (wiring.GATEWAY_MAC, GATEWAY6)], ids=["of all", "once more"])
@pytest.mark.parametrize("who", ["pod/alice", "node1", "pod/bob"])
def test_a_solicitation_for_the_gateway_is_answered(
    world: World, who: str, to: tuple[str, str], source: str
) -> None:
    host = world.host(who)
    ((out, frame),) = world.inject(port_of(world, host), bytes(solicitation(host, GATEWAY6, source, to)))
    answer = Ether(frame)
    verify(answer[IPv6])
    assert out == port_of(world, host)
    assert (answer.src, answer.dst) == (wiring.GATEWAY_MAC, host.mac)
    ip = answer[IPv6]
    assert (ip.src, ip.dst, ip.hlim) == (GATEWAY6, source or host.at("IPv6"), 255)
    given = answer[ICMPv6ND_NA]
    assert (given.tgt, given.R, given.S, given.O) == (GATEWAY6, 1, 1, 1)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == wiring.GATEWAY_MAC
    assert ICMPv6NDOptSrcLLAddr not in answer


@pytest.mark.parametrize("uplink", UPLINKS)
def test_the_fabric_is_answered_too(world: World, uplink: str) -> None:
    fabric = Host("fabric", "192.168.49.1")
    ((out, frame),) = world.inject(uplink, bytes(solicitation(fabric, GATEWAY6, LINK_LOCAL)))
    assert out == uplink
    assert Ether(frame)[ICMPv6ND_NA].tgt == GATEWAY6


def test_who_spoofs_a_solicitation_is_told_alone(world: World) -> None:
    """Whatever it says of itself: the answer leaves by the port of the question."""
    alice, other = world.host("pod/alice"), world.host("pod/web-0")
    for source in (other.at("IPv6"), in_ipv6("192.168.49.2"), "fe80::1"):
        question = bytes(solicitation(other, GATEWAY6, source))
        assert {out for out, _ in world.inject(port_of(world, alice), question)} == {port_of(world, alice)}


def _on_link(target: str, mac: str) -> dict[str, tuple[str, Any]]:
    to_all, from_gateway = "ff02::1", "fe80::1"
    return {
        "a solicitation for another pod": (to_all, ICMPv6ND_NS(tgt=target)),
        "a solicitation for another pod, of it alone": (target, ICMPv6ND_NS(tgt=target)),
        "an advertisement of another pod's address": (
            to_all,
            ICMPv6ND_NA(tgt=target, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac),
        ),
        "an advertisement of the gateway": (
            target,
            ICMPv6ND_NA(tgt=from_gateway, R=1, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac),
        ),
        "a router solicitation": ("ff02::2", ICMPv6ND_RS()),
        "a router advertisement": (to_all, ICMPv6ND_RA(routerlifetime=1800)),
        "a router advertisement to one": (target, ICMPv6ND_RA(routerlifetime=1800)),
        "a redirect": (target, ICMPv6ND_Redirect(tgt=target, dst=target)),
        "a multicast listener report": ("ff02::16", IPv6ExtHdrHopByHop() / ICMPv6MLReport2()),
        "a multicast listener query": (to_all, IPv6ExtHdrHopByHop() / ICMPv6MLQuery()),
        "a multicast datagram": ("ff02::fb", UDP(sport=5353, dport=5353)),
    }


@pytest.mark.parametrize("own", [True, False], ids=["from its address", "from a link-local address"])
@pytest.mark.parametrize("what", _on_link("::", ""))
@pytest.mark.parametrize("who", ["pod/alice", "node1", "fabric"])
def test_nothing_else_that_belongs_to_one_link_passes(world: World, who: str, what: str, own: bool) -> None:
    host = Host("fabric", "192.168.49.1") if who == "fabric" else world.host(who)
    port = "node1-up" if who == "fabric" else port_of(world, host)
    target = world.host("pod/web-0").at("IPv6")
    dst, message = _on_link(target, host.mac)[what]
    ip = IPv6(src=host.at("IPv6") if own else LINK_LOCAL, dst=dst, hlim=255)
    assert world.inject(port, bytes(Ether(src=host.mac, dst=wiring.GATEWAY_MAC) / ip / message)) == []
