"""What both probes need: the way into a running lab, a source to send from, frames to send.

scapy builds the packets; they leave by a raw socket in the source's namespace. Here and in the
probes beside it is the only place of the lessons where scapy is imported.
"""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controller.api import wiring
from controller.api.errors import NotFound, UsageError
from controller.api.objects import Obj
from scenarios import inside
from scenarios.names import Directory
from scenarios.packet import Endpoint
from topo import linux, sandbox
from topo.capture import LinkEnd
from topo.lab_state import API, LabState
from topo.netns import NAMES, Netns


def common(parser: argparse.ArgumentParser) -> None:
    """Options both probes have."""
    parser.add_argument("target", metavar="TARGET", help="ADDRESS:PORT, a URL, or the name of a Service")
    parser.add_argument("--from", dest="source", metavar="HOST", help="client1 (default), a node or a pod")
    parser.add_argument("--udp", action="store_true", help="datagrams instead of TCP connections")
    parser.add_argument("--lab", metavar="NAME", help="which lab, when several run")


def run_inside(module: str, lab: str | None, argv: Sequence[str]) -> int | None:
    """None inside the lab that is meant; elsewhere, the exit status of the same command run inside."""
    return None if inside.here(lab) else inside.send(lab, module, argv)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A source in a running lab, a target, and who is who."""

    source: str
    address: str
    mac: str
    gateway_mac: str
    netns: Netns
    target: Endpoint
    service: Obj | None
    links: Sequence[LinkEnd]
    names: Directory
    client: Any

    @property
    def source_link(self) -> str:
        return next(link.label for link in self.links if link.host == self.source and _own(link))

    def send(self, frames: Iterable[bytes]) -> None:
        """Send Ethernet frames by the source's interface."""
        with self.netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            for frame in frames:
                sock.send(frame)

    def frames(self, ports: Iterable[int], *, udp: bool, payload: bytes = b"") -> list[bytes]:
        """A SYN or a datagram for each source port, made by scapy."""
        from scapy.layers.inet import IP, TCP, UDP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.l2 import Ether
        from scapy.packet import Raw

        made = []
        for port in ports:
            layer = (
                UDP(sport=port, dport=self.target.port) / Raw(payload)
                if udp
                else TCP(
                    sport=port, dport=self.target.port, flags="S", seq=port * 65537, options=[("MSS", 1460)]
                )
            )
            ends: dict[str, Any] = {"src": self.address, "dst": self.target.address}
            ip = IPv6(**ends) if ":" in self.address else IP(**ends, id=port, flags="DF")
            made.append(bytes(Ether(src=self.mac, dst=self.gateway_mac) / ip / layer))
        return made


def open_probe(options: argparse.Namespace) -> Probe:
    """The running lab around us, seen from its root namespace; the source is where we came from."""
    from controller.api.client import Client

    came_from = where_we_are()
    linux.setns(os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC), linux.CLONE_NEWNET)
    state = LabState.load(sandbox.run_dir())
    source = options.source or came_from or "client1"
    if source not in state.hosts:
        raise UsageError(f"--from {source}: there is no such host; there are {', '.join(state.hosts)}")
    client = Client(sandbox.run_dir() / API, user_agent="podwire-probe")
    services = client.list("Service")[0]
    target = _target(options.target, services)
    objects = [obj for kind in ("Node", "Pod") for obj in client.list(kind)[0]] + services
    hosts = {
        address: name
        for name, h in state.hosts.items()
        if h["kind"] in ("client", "router")
        for address in (h["address"], h.get("ipv6", ""))
    }
    mine = state.hosts[source]
    if ":" in target.address and "ipv6" not in mine:
        raise UsageError(f"{options.target}: this lab has no IPv6; `./lab up --ip-family dual` has")
    return Probe(
        source=source,
        address=mine["ipv6" if ":" in target.address else "address"],
        mac=wiring.mac_of(mine["address"]),
        gateway_mac=wiring.FABRIC_MAC if mine["kind"] == "client" else wiring.GATEWAY_MAC,
        netns=Netns.open(source),
        target=target,
        service=_service_of(target, services),
        links=state.links,
        names=Directory(objects, hosts),
        client=client,
    )


def endpoints_of(client: Any, service: Obj, asked: str) -> list[str]:
    """Addresses of the Service's ready endpoints, of the family of the address that is asked."""
    family = "IPv6" if ":" in asked else "IPv4"
    metadata = service["metadata"]
    label = f"kubernetes.io/service-name={metadata['name']}"
    slices = client.list("EndpointSlice", metadata.get("namespace", "default"), labels=label)[0]
    return sorted(
        {
            address
            for found in slices
            if found["addressType"] == family
            for endpoint in found.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint["addresses"]
        }
    )


def _own(link: LinkEnd) -> bool:
    return not link.label.endswith("-uplink")


def where_we_are() -> str:
    """The lab host whose network namespace this process is in, empty for none (the sandbox's own)."""
    mine = Path("/proc/self/ns/net").stat().st_ino
    for path in NAMES.iterdir():
        if path.stat().st_ino == mine:
            return path.name
    return ""


def _target(word: str, services: Sequence[Obj]) -> Endpoint:
    text = urlsplit(word).netloc if "//" in word else word.rstrip("/")
    host, _, port = text.rpartition("]")[2].partition(":")
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    try:
        address = str(ip_address(host))
    except ValueError:
        namespace, _, name = host.rpartition("/")
        for service in services:
            metadata = service["metadata"]
            if metadata["name"] == name and metadata["namespace"] == (namespace or "default"):
                return Endpoint(
                    service["spec"]["clusterIP"], int(port or service["spec"]["ports"][0]["port"])
                )
        raise NotFound(f'services "{name}" not found') from None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{word}: a port is needed, as in {Endpoint(address, 30000)}")
    return Endpoint(address, int(port))


def _service_of(target: Endpoint, services: Sequence[Obj]) -> Obj | None:
    """The Service that answers there, by ClusterIP or by node port."""
    asked = ip_address(target.address)
    in_nodes = any(asked in ranges.nodes for ranges in wiring.RANGES.values())
    for service in services:
        for port in service["spec"].get("ports") or ():
            if in_nodes and port.get("nodePort") == target.port:
                return service
            addresses = service["spec"].get("clusterIPs") or (service["spec"].get("clusterIP"),)
            if target.address in addresses and port["port"] == target.port:
                return service
    return None
