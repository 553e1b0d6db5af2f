"""What stands around the bridges in the ovs tier: pods, nodes' kernels, clients, the fabric router.

Each answers packets as the real one would, with no more memory than the test needs, in both families. They
also check what no test should have to ask for: checksums, MAC addresses, and that nothing arrives at the
wrong host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.api import wiring
from tests.ovs.layers import (
    defragmented,
    error,
    framed,
    header,
    ip_of,
    is_fragment,
    number_of,
    offset_of,
    pong,
    protocol_of,
    verify,
)
from tests.packets_dual import in_ipv6

PORT_PROTOCOLS = (6, 17, 132)


def checked(frame: bytes) -> Packet:
    """The frame decoded, after its checksums were found right."""
    packet = Ether(frame)
    verify(ip_of(packet))
    return packet


@dataclass
class Host:
    """One network stack: an address of each family, what listens on both, and what has arrived that nobody
    asked for."""

    name: str
    address: str
    """The IPv4 one."""
    listening: dict[tuple[str, int], str] = field(default_factory=dict)
    """(protocol, port) to the name of the pod that answers there."""
    inbox: list[Packet] = field(default_factory=list)
    """Answers to what this host has sent."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(who answered, the source it saw) of everything served here."""
    pieces: list[Packet] = field(default_factory=list)
    """Fragments that wait for the others."""

    def at(self, family: str) -> str:
        """Its address in a family."""
        return self.address if family == "IPv4" else in_ipv6(self.address)

    @property
    def addresses(self) -> tuple[str, str]:
        return self.address, in_ipv6(self.address)

    @property
    def mac(self) -> str:
        return wiring.mac_of(self.address)

    def out(self, packet: Packet) -> bytes:
        """A packet of this host's as a frame to its gateway."""
        return bytes(Ether(src=self.mac, dst=wiring.GATEWAY_MAC) / packet)

    def arrived(self, packet: Packet) -> list[Packet]:
        """What this host answers to a packet; answers to itself go to the inbox."""
        ip = ip_of(packet)
        assert ip.dst in self.addresses, f"{self.name} ({self.address}) got {packet.summary()}"
        if is_fragment(ip):
            self.pieces.append(ip)
            number = number_of(ip)
            whole = defragmented([piece for piece in self.pieces if number_of(piece) == number])
            if whole is None:
                return []
            self.pieces = [piece for piece in self.pieces if number_of(piece) != number]
            return self.arrived(checked(bytes(framed(whole))))
        protocol = protocol_of(ip)
        if protocol == 6 and ip[TCP].flags & 0x12 == 0x02:
            return self._tcp_opened(ip)
        if protocol == 6 and Raw in ip and ("tcp", ip[TCP].dport) in self.listening:
            tcp = ip[TCP]
            answer = TCP(
                sport=tcp.dport, dport=tcp.sport, flags="PA", seq=tcp.ack, ack=tcp.seq + len(tcp[Raw])
            )
            return [header(ip.dst, ip.src) / answer / Raw(self._serve(ip, "tcp", tcp.dport))]
        if protocol == 17 and ("udp", ip[UDP].dport) in self.listening:
            udp = ip[UDP]
            text = self._serve(ip, "udp", udp.dport) + b" "
            long = bytes(udp.payload) if len(udp.payload) > 1472 else b""
            number = ip.id if ip.version == 4 else ip.fl
            reply = header(ip.dst, ip.src, number) / UDP(sport=udp.dport, dport=udp.sport)
            return [reply / Raw(text + long[len(text) :])]
        if protocol == 17 and not self._asked(ip):
            return [refusal(ip)]
        echo = pong(ip)
        if echo is not None:
            self.seen.append((self.name, ip.src))
            return [echo]
        self.inbox.append(packet)
        return []

    def _tcp_opened(self, ip: Any) -> list[Packet]:
        tcp = ip[TCP]
        if ("tcp", tcp.dport) not in self.listening:
            return [refusal(ip)]
        answer = TCP(sport=tcp.dport, dport=tcp.sport, flags="SA", seq=1000, ack=tcp.seq + 1)
        return [header(ip.dst, ip.src) / answer]

    def _serve(self, ip: Any, protocol: str, port: int) -> bytes:
        who = self.listening[protocol, port]
        self.seen.append((who, ip.src))
        return f"{who} {ip.src}".encode()

    def _asked(self, ip: Any) -> bool:
        """Client ports here are below 20000 or a node's own, servers' between or well known: told apart."""
        return bool(10000 <= ip[UDP].dport < 20000 or ip[UDP].dport >= wiring.MASQUERADE_PORTS.stop)


def refusal(ip: Any) -> Any:
    """How a kernel refuses: RST to a SYN, ICMP port unreachable to the rest, from the address asked."""
    if TCP in ip:
        tcp = ip[TCP]
        answer = TCP(sport=tcp.dport, dport=tcp.sport, flags="RA", seq=0, ack=tcp.seq + 1)
        return header(ip.dst, ip.src) / answer
    return error("port", ip, ip.dst)


class NodeHost(Host):
    """A node's own network namespace, with the nft rules of the topology."""

    def arrived(self, packet: Packet) -> list[Packet]:
        ip = ip_of(packet)
        if ip.dst not in self.addresses:
            if protocol_of(ip) not in PORT_PROTOCOLS or (is_fragment(ip) and offset_of(ip)):
                return []  # a kernel refuses the first fragment alone
            answer = refusal(ip)
            if answer.dst in self.addresses:  # its own packet came back: the answer goes by its loopback
                self.inbox.append(Ether(bytes(framed(answer))))
                return []
            return [answer]
        return super().arrived(packet)

    def wire_address(self, address: str, port: int) -> str:
        """Where a connection from this node to ``address`` really goes: nft's output chain."""
        own = address in self.addresses or address.startswith("127.")
        family = f"IPv{ip_address(address).version}"
        return str(wiring.RANGES[family].node_port_virtual) if own and port in wiring.NODE_PORTS else address
