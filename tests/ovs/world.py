"""A whole cluster on the dummy datapath: three bridges with a ``Proxier`` each, and the hosts around them.

``connect`` sends the packets of one connection and says what became of it. Everything is synchronous: when
it returns, no packet is under way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal

from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.api import wiring
from controller.kubeproxy import openflow
from controller.kubeproxy.diff import Have, after, diff
from controller.kubeproxy.proxier import Proxier
from controller.managers import endpointslice
from controller.managers.view import Create, Ref, View
from tests.kubeproxy_objects import NODES, both, node_object, slice_object
from tests.ovs.hosts import Host, NodeHost, checked
from tests.ovs.layers import (
    complaint,
    error,
    fragments,
    framed,
    header,
    hops_of,
    inner,
    ip_of,
    one_hop_less,
    ping,
    ponged,
)
from tests.ovs.switch import DummySwitch
from tests.packets_dual import in_ipv6

Obj = dict[str, Any]
CLIENT = "198.51.100.11"
FABRIC = "192.168.49.1"
PODS_A_NODE = 12


@dataclass(frozen=True)
class Outcome:
    """What became of a connection; ``by`` and ``source`` when it was answered."""

    kind: Literal["answered", "refused", "unreachable", "dropped"]
    by: str = ""
    source: str = ""


class World:
    """The cluster of ``tests.packets`` in both families, and the wires between its parts."""

    def __init__(self, switch: DummySwitch) -> None:
        self.switch = switch
        self.proxiers = {name: Proxier(name) for name in NODES}
        self.have = {name: Have() for name in NODES}
        self.nodes = {name: NodeHost(name, address) for name, address in NODES.items()}
        self.client = Host("client1", CLIENT, {(p, 8080): "client1" for p in ("tcp", "udp")})
        self.pods: dict[str, Host] = {}
        self.host_pods: dict[str, str] = {}
        self.owner: dict[str, Host] = {}
        self.port_of: dict[str, str] = {}
        self.family = "IPv4"
        """Of the addresses that names stand for, where it is not said."""
        self.in_order: Callable[[list[Packet]], list[Packet]] = list
        """In which order fragments leave their sender."""
        self.objects: dict[tuple[str, str], Obj] = {}
        self.routes: dict[str, str] = {}
        """Addresses of Services that the fabric routes, each to a node."""
        self.trace: list[tuple[str, bytes]] = []
        self._queue: deque[tuple[str, bytes]] = deque()
        self._next_id = 0
        self._next_pod = Counter(dict.fromkeys(NODES, 2))
        self.switch.add_bridges({
            f"br-{name}": [f"{name}-host", f"{name}-up", *(f"{name}-p{k}" for k in range(2, PODS_A_NODE))]
            for name in NODES
        })  # fmt: skip
        for name, address in NODES.items():
            self.owner[f"{name}-host"] = self.nodes[name]
            self.port_of |= dict.fromkeys(both(address), f"{name}-host")
            self.proxiers[name].set_ports(switch.ports(f"br-{name}"))
            self.tell("ADDED", node_object(name, address, dual=True))
            switch.openflow(f"br-{name}").send([openflow.set_config(1)])

    # Objects.

    def tell(self, type: str, obj: Obj) -> None:
        """One watch event, to every node's proxier."""
        key = obj["kind"], obj["metadata"]["name"]
        if type == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = obj
        for proxier in self.proxiers.values():
            proxier.apply(type, obj)

    def add(self, objects: Iterable[Obj]) -> None:
        """Start pods as a kubelet would, and tell of everything, EndpointSlices included."""
        for obj in objects:
            self.tell("ADDED", self._started(obj) if obj["kind"] == "Pod" else obj)
        self.update_slices()

    def _started(self, pod: Obj) -> Obj:
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        ready = "readinessProbe" not in pod["spec"]["containers"][0]
        metadata = dict(pod["metadata"])
        if pod["spec"].get("hostNetwork"):
            host: Host = self.nodes[node]
            self.host_pods[name] = node
        else:
            k = self._next_pod[node]
            self._next_pod[node] += 1
            host = self.pods[name] = Host(name, f"10.244.{node.removeprefix('node')}.{k}")
            port = f"{node}-p{k}"
            metadata["annotations"] = {wiring.INTERFACE: port}
            self.owner[port] = host
            self.port_of |= dict.fromkeys(host.addresses, port)
        for port_spec in pod["spec"]["containers"][0]["ports"]:
            host.listening[port_spec["protocol"].lower(), port_spec["containerPort"]] = name
        status = {"phase": "Running", "podIP": host.address, "podIPs": [{"ip": a} for a in host.addresses],
                  "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}  # fmt: skip
        return pod | {"metadata": metadata, "status": status}

    def update_slices(self) -> None:
        """One slice for each Service and family, with the endpoints that the control plane finds."""
        view = View(_in_ipv4(obj) for obj in self.objects.values() if obj["kind"] != "EndpointSlice")
        for kind, name in list(self.objects):
            if kind == "Service":
                made = endpointslice.reconcile(view, Ref(kind, "default", name))
                self.set_endpoints(
                    name, [e for one in made if isinstance(one, Create) for e in one.obj["endpoints"]]
                )

    def set_endpoints(self, service: str, endpoints: list[Obj]) -> None:
        """These, given by their IPv4 addresses, in the slices of each of the Service's families."""
        spec = self.objects["Service", service]["spec"]
        for family in spec.get("ipFamilies", ["IPv4"]):
            self.tell("MODIFIED", slice_object(service, spec["ports"], endpoints, family=family))

    def sync(self) -> None:
        """Bring the switches to what the proxiers want."""
        for name, proxier in self.proxiers.items():
            assert proxier.waiting() == []
            want = proxier.desired()
            messages = diff(self.have[name], want)
            self.switch.openflow(f"br-{name}").send(openflow.bundle(messages, 1, 1))
            self.have[name] = after(self.have[name], want)
            self.switch.openflow(f"br-{name}").send([openflow.flush(one, 1) for one in proxier.stale()])
        self.switch.forget_megaflows()

    # Packets.

    def host(self, name: str) -> Host:
        """``pod/NAME``, a node or the client."""
        kind, _, pod = name.partition("/")
        if kind == "pod":
            return self.nodes[self.host_pods[pod]] if pod in self.host_pods else self.pods[pod]
        return self.client if name == "client1" else self.nodes[name]

    def resolve(self, target: str, family: str = "") -> str:
        """The address a row's HOST stands for, in this family."""
        family = family or self.family
        kind, _, name = target.partition("/")
        place = 0 if family == "IPv4" else 1
        if kind in ("svc", "ext", "lb"):
            service = self.objects["Service", name]
            if kind == "lb":
                return str(service["status"]["loadBalancer"]["ingress"][place]["ip"])
            spec = service["spec"]
            addresses = (
                spec["externalIPs"] if kind == "ext" else spec.get("clusterIPs") or [spec["clusterIP"]]
            )
            return str(addresses[place])
        if target == "localhost":
            return "127.0.0.1"
        if ":" in target:
            return target.strip("[]")
        if target[0].isdigit():
            return target if family == "IPv4" else in_ipv6(target)
        return self.host(target).at(family)

    def send(self, host: Host, packet: Packet) -> list[Packet]:
        """Send one packet from a host, let everything answer, and return what came to its inbox."""
        host.inbox.clear()
        self.emit(host, packet)
        self.drain()
        return list(host.inbox)

    def inject(self, port: str, frame: bytes) -> list[tuple[str, bytes]]:
        """A frame into a bridge port, as it is; and the frames that leave that bridge."""
        self.switch.receive(port, frame)
        bridge = f"br-{port.split('-')[0]}"
        return [(out, data) for out in self.switch.ports(bridge) for data in self.switch.sent(out)]

    def into_cluster(self, node: str, packet: Packet) -> None:
        """A packet from the fabric to a node's uplink, and all that follows."""
        self._into(f"{node}-up", bytes(Ether(src=wiring.FABRIC_MAC, dst=wiring.GATEWAY_MAC) / packet))
        self.drain()

    def dump(self, node: str) -> str:
        """The text people read: ovs-ofctl dump-flows."""
        return self.switch.ovs.ofctl("dump-flows", f"br-{node}")

    def drain(self) -> None:
        """All that is under way happens."""
        while self._queue:
            self._step(*self._queue.popleft())

    def emit(self, host: Host, packet: Packet) -> None:
        """A packet leaves a host; what it causes is under way until something drains it."""
        for piece in self.in_order(fragments(packet)):
            if host is self.client:
                self._route(host.out(piece), entered="client1")
            else:
                self._into(self.port_of[host.address], host.out(piece))

    def _into(self, port: str, frame: bytes) -> None:
        self.trace.append((f">{port}", frame))
        for out, data in self.inject(port, frame):
            self.trace.append((f"{out}>", data))
            self._queue.append((out, data))

    def _step(self, port: str, frame: bytes) -> None:
        packet = checked(frame)
        assert packet.src == wiring.GATEWAY_MAC, f"{port}: {packet.summary()} has not the gateway's MAC"
        if port.endswith("-up"):
            assert packet.dst == wiring.FABRIC_MAC, f"{port}: {packet.summary()} is not for the fabric"
            self._route(frame, entered=port)
            return
        host = self.owner[port]
        assert packet.dst == host.mac, f"{host.name} would not take {packet.summary()}"
        for answer in host.arrived(packet):
            self.emit(host, answer)

    def _route(self, frame: bytes, entered: str) -> None:
        """The fabric: a router that knows nodes, pods and clients, and no Service."""
        packet = ip_of(Ether(frame))
        if hops_of(packet) <= 1:
            return
        via = next((name for name, node in self.nodes.items() if packet.dst in node.addresses), None)
        via = via or self.routes.get(packet.dst) or _node_of_pod(packet.dst)
        if via in NODES:
            packet = Ether(src=wiring.FABRIC_MAC, dst=wiring.GATEWAY_MAC) / one_hop_less(packet)
            self._into(f"{via}-up", bytes(packet))
        elif packet.dst in self.client.addresses:
            for answer in self.client.arrived(framed(one_hop_less(packet))):
                self.emit(self.client, answer)
        else:
            about = error("route", packet, FABRIC if packet.version == 4 else in_ipv6(FABRIC))
            self._route(bytes(framed(about)), entered="fabric")

    def connect(
        self,
        sender: str,
        target: str,
        port: int,
        protocol: str,
        source_port: int,
        size: int = 0,
        family: str = "",
    ) -> Outcome:
        """Open a connection, ask who answers, and say what came of it.

        ``size``: of the datagram, and of the answer. ``family``: of the addresses that names stand for; an
        IPv4 address that is written out means the IPv6 one beside it, too.
        """
        target, _, via = target.partition("@")
        host, address = self.host(sender), self.resolve(target, family)
        self.routes = {address: via} if via else {}
        if isinstance(host, NodeHost):
            address = host.wire_address(address, port)
        for other in (*self.pods.values(), *self.nodes.values(), self.client):
            other.seen.clear()
        source = host.at(f"IPv{ip_address(address).version}")
        self._next_id = self._next_id % 0xFFFF + 1
        ip = header(source, address, self._next_id)
        match protocol:
            case "tcp":
                return self._tcp(host, ip, port, source_port)
            case "udp":
                asking = Raw(b"who " * (size // 4) or b"who")
                got = self.send(host, ip / UDP(sport=source_port, dport=port) / asking)
                assert not size or not got or complaint(got[0]) or len(got[0][UDP].payload) == size // 4 * 4
                return _outcome(
                    got, address, lambda p: UDP in p and (p[UDP].sport, p[UDP].dport) == (port, source_port)
                )
            case "icmp":
                got = self.send(host, ping(source, address, source_port))
                outcome = _outcome(got, address, lambda p: ponged(p) == source_port)
                seen = [s for h in (*self.pods.values(), self.client) for s in h.seen]
                return Outcome("answered", *seen[0]) if outcome.kind == "answered" else outcome
        raise AssertionError(protocol)

    def _tcp(self, host: Host, ip: Packet, port: int, source_port: int) -> Outcome:
        got = self.send(host, ip / TCP(sport=source_port, dport=port, flags="S", seq=500))

        def ours(packet: Packet) -> bool:
            return TCP in packet and (packet[TCP].sport, packet[TCP].dport) == (port, source_port)

        outcome = _outcome(got, ip.dst, ours)
        if outcome.kind != "answered":
            return outcome
        assert got[0][TCP].flags == "SA", got[0].summary()
        got = self.send(
            host,
            ip
            / TCP(sport=source_port, dport=port, flags="PA", seq=501, ack=got[0][TCP].seq + 1)
            / Raw(b"who"),
        )
        return _outcome(got, ip.dst, ours)


def _outcome(got: list[Packet], asked: str, ours: Any) -> Outcome:
    """Read the one answer there may be; anything else that came is a mistake of the pipeline."""
    if not got:
        return Outcome("dropped")
    assert len(got) == 1, [p.summary() for p in got]
    packet = got[0]
    quoted = inner(packet)
    if quoted is not None:
        assert quoted.dst == asked, f"an error about {quoted.dst}, not {asked}"
        return Outcome("unreachable" if complaint(packet) == "route" else "refused")
    assert ip_of(packet).src == asked, f"{packet.summary()}: asked {asked}"
    assert ours(packet), packet.summary()
    if TCP in packet and packet[TCP].flags & 0x04:
        return Outcome("refused")
    if Raw in packet and b" " in bytes(packet[Raw]):
        by, source = bytes(packet[Raw]).decode().split()[:2]
        return Outcome("answered", by, source)
    return Outcome("answered")


def _node_of_pod(address: str) -> str | None:
    """The node in whose range of pod addresses this is."""
    if ip_address(address) in wiring.RANGES[f"IPv{ip_address(address).version}"].pods:
        return f"node{address.split(':')[3] if ':' in address else address.split('.')[2]}"
    return None


def _in_ipv4(obj: Obj) -> Obj:
    """A Service as one of IPv4 alone; endpoints are given by their IPv4 addresses. Anything else as it is."""
    return obj | {"spec": obj["spec"] | {"ipFamilies": ["IPv4"]}} if obj["kind"] == "Service" else obj


__all__ = ["CLIENT", "NODES", "Outcome", "World", "slice_object"]
