"""What stands around the bridges in the ovs tier: pods, nodes' kernels, clients, the fabric router.

Each answers packets as the real one would, with no more memory than the test needs. They also check what
no test should have to ask for: checksums, MAC addresses, and that nothing arrives at the wrong host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet import IPerror as InnerIP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.api import wiring

NODE_PORT_VIRTUAL = str(wiring.NODE_PORT_VIRTUAL)
PORT_UNREACHABLE, NET_UNREACHABLE = 3, 0


def checked(frame: bytes) -> Packet:
    """The frame decoded, after its checksums were found right."""
    packet = Ether(frame)
    ip = packet[IP]
    if is_fragment(ip):  # the rest is checked when it is whole
        assert ip.chksum == IP(bytes(fresh_header(ip))).chksum, packet.summary()
        return packet
    given = {layer: ip[layer].chksum for layer in (IP, TCP, UDP, ICMP) if layer in ip and layer is not IP}
    given[IP] = ip.chksum
    fresh = IP(bytes(ip))
    for layer in given:
        del fresh[layer].chksum
    fresh = IP(bytes(fresh))
    for layer, value in given.items():
        assert fresh[layer].chksum == value, f"wrong checksum in {layer.__name__}: {packet.summary()}"
    return packet


def is_fragment(ip: Packet) -> bool:
    return bool(ip.flags.MF or ip.frag)


def fresh_header(ip: Packet) -> Packet:
    """The packet with the checksum that its header should have."""
    copy = ip.copy()
    del copy.chksum
    return copy


def fragments(ip: Packet) -> list[Packet]:
    """A packet as it goes over a link of 1,500 bytes."""
    if len(ip) <= 1500:
        return [ip]
    return [IP(bytes(piece)) for piece in fragment(ip, fragsize=1480)]  # type: ignore[no-untyped-call]


def defragmented(pieces: list[Packet]) -> Packet | None:
    """The packet of these fragments, if they are all there are."""
    data = b""
    for piece in sorted(pieces, key=lambda piece: piece.frag):
        if 8 * piece.frag != len(data):
            return None
        data += bytes(piece.payload)
        last = piece
    if last.flags.MF:
        return None
    head = pieces[0]
    return IP(bytes(IP(src=head.src, dst=head.dst, id=head.id, proto=head.proto, ttl=head.ttl) / Raw(data)))


@dataclass
class Host:
    """One network stack: an address, what listens on it, and what has arrived that nobody asked for."""

    name: str
    address: str
    listening: dict[tuple[str, int], str] = field(default_factory=dict)
    """(protocol, port) to the name of the pod that answers there."""
    inbox: list[Packet] = field(default_factory=list)
    """Answers to what this host has sent."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    """(who answered, the source it saw) of everything served here."""

    pieces: list[Packet] = field(default_factory=list)
    """Fragments that wait for the others."""

    @property
    def mac(self) -> str:
        return wiring.mac_of(self.address)

    def out(self, packet: Packet) -> bytes:
        """A packet of this host's as a frame to its gateway."""
        return bytes(Ether(src=self.mac, dst=wiring.GATEWAY_MAC) / packet)

    def arrived(self, packet: Packet) -> list[Packet]:
        """What this host answers to a packet; answers to itself go to the inbox."""
        ip = packet[IP]
        assert ip.dst == self.address, f"{self.name} ({self.address}) got {packet.summary()}"
        if is_fragment(ip):
            self.pieces.append(ip)
            whole = defragmented([piece for piece in self.pieces if piece.id == ip.id])
            if whole is None:
                return []
            self.pieces = [piece for piece in self.pieces if piece.id != ip.id]
            return self.arrived(checked(bytes(Ether() / whole)))
        if TCP in ip and ip[TCP].flags & 0x12 == 0x02:
            return self._tcp_opened(ip)
        if TCP in ip and Raw in ip and ("tcp", ip[TCP].dport) in self.listening:
            tcp = ip[TCP]
            answer = TCP(
                sport=tcp.dport, dport=tcp.sport, flags="PA", seq=tcp.ack, ack=tcp.seq + len(tcp[Raw])
            )
            return [self._reply(ip) / answer / Raw(self._serve(ip, "tcp", tcp.dport))]
        if UDP in ip and ip.proto == 17 and ("udp", ip[UDP].dport) in self.listening:
            udp = ip[UDP]
            text = self._serve(ip, "udp", udp.dport) + b" "
            long = bytes(udp.payload) if len(udp.payload) > 1472 else b""
            reply = IP(src=ip.dst, dst=ip.src, id=ip.id) / UDP(sport=udp.dport, dport=udp.sport)
            return [reply / Raw(text + long[len(text) :])]
        if UDP in ip and ip.proto == 17 and not self._asked(ip):
            return [refusal(ip)]
        if ICMP in ip and ip[ICMP].type == 8:
            self.seen.append((self.name, ip.src))
            echo = ip[ICMP]
            return [self._reply(ip) / ICMP(type=0, id=echo.id, seq=echo.seq) / Raw(bytes(echo.payload))]
        self.inbox.append(packet)
        return []

    def _tcp_opened(self, ip: Packet) -> list[Packet]:
        tcp = ip[TCP]
        if ("tcp", tcp.dport) not in self.listening:
            return [refusal(ip)]
        return [
            self._reply(ip) / TCP(sport=tcp.dport, dport=tcp.sport, flags="SA", seq=1000, ack=tcp.seq + 1)
        ]

    def _serve(self, ip: Packet, protocol: str, port: int) -> bytes:
        who = self.listening[protocol, port]
        self.seen.append((who, ip.src))
        return f"{who} {ip.src}".encode()

    def _asked(self, ip: Packet) -> bool:
        """Client ports here are below 20000 or a node's own, servers' between or well known: told apart."""
        return bool(10000 <= ip[UDP].dport < 20000 or ip[UDP].dport >= wiring.MASQUERADE_PORTS.stop)

    def _reply(self, ip: Packet) -> Packet:
        return IP(src=ip.dst, dst=ip.src)


def refusal(ip: Packet) -> Packet:
    """How a kernel refuses: RST to a SYN, ICMP port unreachable to the rest, from the address asked."""
    answer = IP(src=ip.dst, dst=ip.src)
    if TCP in ip:
        tcp = ip[TCP]
        return answer / TCP(sport=tcp.dport, dport=tcp.sport, flags="RA", seq=0, ack=tcp.seq + 1)
    return answer / ICMP(type=3, code=PORT_UNREACHABLE) / Raw(bytes(ip)[:576])


class NodeHost(Host):
    """A node's own network namespace, with the nft rules of the topology."""

    def arrived(self, packet: Packet) -> list[Packet]:
        ip = packet[IP]
        if ip.dst != self.address:
            if ip.proto not in (6, 17, 132) or ip.frag:  # a kernel refuses the first fragment alone
                return []
            answer = refusal(ip)
            if answer.dst == self.address:  # its own packet came back: the answer goes by its loopback
                self.inbox.append(Ether(bytes(Ether() / answer)))
                return []
            return [answer]
        return super().arrived(packet)

    def wire_address(self, address: str, port: int) -> str:
        """Where a connection from this node to ``address`` really goes: nft's output chain."""
        own = address == self.address or address.startswith("127.")
        return NODE_PORT_VIRTUAL if own and port in wiring.NODE_PORTS else address


def inner(packet: Packet) -> Any:
    """The packet an ICMP error quotes, or None."""
    if ICMP in packet and packet[ICMP].type == 3 and InnerIP in packet:
        return packet[InnerIP]
    return None
