"""Schedulers on a real switch: who gets which connection, what is counted, and what a removal moves."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import count
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from controller.api import wiring
from controller.kubeproxy import openflow
from controller.kubeproxy.diff import Have, after, diff
from controller.kubeproxy.dispatch import LEASE, RENEW, Dispatcher
from controller.kubeproxy.openflow_packets import OFPT_FLOW_REMOVED, OFPT_PACKET_IN, decode_connections
from controller.kubeproxy.pipeline import CONNECTIONS
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.readback import learned
from tests.kubeproxy_objects import (
    endpoint_object,
    in_both_families,
    node_object,
    pod_object,
    port_object,
    service_object,
    slice_object,
)
from tests.ovs.layers import header, hops_of, ip_of
from tests.ovs.switch import DummySwitch
from tests.packets_dual import in_ipv6

Obj = dict[str, Any]
PORTS = {"node1-host": 1, "node1-up": 2, "node1-p2": 3}
CLIENT, SERVICE, NODE1 = "10.244.1.2", "10.96.0.50", "192.168.49.2"
TCP_PORT = port_object(80, 8080, "http", node_port=30080)
UDP_PORT = port_object(53, 8053, "dns", protocol="UDP")
OUTSIDE = "198.51.100.11"


class Scene:
    """node1 with a client pod and a Service over pods A, B, C ... on node2, in both families."""

    def __init__(self, switch: DummySwitch) -> None:
        self.switch, self.family = switch, "IPv4"
        switch.add_bridges({"br-node1": list(PORTS)})
        self.connect()
        self.have = Have()
        self.now, self.ports = 0.0, count(20000)

    def connect(self) -> None:
        self.socket = self.switch.openflow("br-node1")
        # This connection is no controller's: it gets packets only when it says how much of each.
        self.socket.send([bytes((6, 9, 0, 12, 0, 0, 0, 1, 0, 0, 0xFF, 0xFF))])

    def at(self, address: str) -> str:
        """The address in this scene's family."""
        return address if self.family == "IPv4" else in_ipv6(address)

    def ip(self, src: str, dst: str) -> Any:
        return header(self.at(src), self.at(dst))

    def tell(self, obj: Obj) -> None:
        for one in in_both_families([obj]):
            self.proxier.apply("ADDED", one)

    def start(self, scheduler: str, weights: list[int], **spec: Any) -> None:
        """A kubeproxy that knows nothing of what was before."""
        self.proxier = Proxier("node1")
        self.proxier.set_ports(PORTS)
        self.dispatcher = Dispatcher(self.proxier.scheduled)
        self.weights = weights
        for obj in (node_object("node1"), pod_object("alice", "node1", CLIENT, "node1-p2")):
            self.tell(obj)
        service = service_object("web", SERVICE, TCP_PORT, UDP_PORT, **spec)
        service["metadata"]["annotations"] = {wiring.SCHEDULER: scheduler}
        self.tell(service)
        for place, weight in enumerate(weights):
            metadata: Obj = {"name": f"web-{place}", "namespace": "default"}
            metadata["annotations"] = {wiring.WEIGHT: str(weight)}
            self.proxier.apply("ADDED", {"kind": "Pod", "metadata": metadata})
        self.switch.ovs.ofctl("del-flows", "br-node1", f"table={CONNECTIONS.id}")
        self.socket.send([])
        self.socket.unasked.clear()
        self.serve(len(weights))
        self.switch.flush_conntrack()

    def serve(self, pods: int, without: str = "") -> None:
        endpoints = [
            endpoint_object(f"10.244.2.{place + 2}") | {"targetRef": {"kind": "Pod", "name": f"web-{place}"}}
            for place in range(pods)
            if "ABCDEFGHIJ"[place] != without
        ]
        self.tell(slice_object("web", [TCP_PORT, UDP_PORT], endpoints))
        self.sync()

    def sync(self) -> None:
        want = self.proxier.desired()
        self.socket.send(openflow.bundle(diff(self.have, want), 1, 1))
        self.have = after(self.have, want)
        self.renew()
        self.switch.forget_megaflows()

    def renew(self) -> None:
        self.now += RENEW
        lease, _ = self.dispatcher.lease(self.now, 1)
        self.socket.send([lease] if lease else [])

    def send(self, packet: Packet, port: str = "node1-p2") -> list[Packet]:
        """What leaves by the uplink, once the kubeproxy has had its say."""
        mac = wiring.FABRIC_MAC if port == "node1-up" else wiring.mac_of(CLIENT)
        self.switch.sent("node1-up"), self.switch.sent("node1-p2")
        self.switch.receive(port, bytes(Ether(src=mac, dst=wiring.GATEWAY_MAC) / packet))
        self.hear()
        return [ip_of(Ether(frame)) for out in ("node1-up", "node1-p2") for frame in self.switch.sent(out)]

    def hear(self, kind: int = OFPT_PACKET_IN) -> int:
        """Handle what the switch said; how many messages of a kind were among it. (That a flow of an earlier
        test is gone may be said late.)"""
        self.socket.send([])
        heard, self.socket.unasked = self.socket.unasked, []
        for message in heard:
            self.socket.send([self.dispatcher.told(message, self.now, 1)])
        return sum(message[1] == kind for message in heard)

    def open(self, *, port: int = 0, source: str = CLIENT, to: str = SERVICE, number: int = 80) -> str:
        """A new TCP connection: the letter of who got it."""
        syn = self.ip(source, to) / TCP(sport=port or next(self.ports), dport=number, flags="S", seq=1)
        (left,) = self.send(syn, "node1-p2" if source == CLIENT else "node1-up")
        return letter(left.dst)

    def pattern(self, connections: int) -> str:
        return "".join(self.open() for _ in range(connections))

    def in_switch(self) -> int:
        """Connections that have a flow."""
        parts = self.socket.ask(openflow.flow_stats_request(1))
        found = [one for part in parts for one in decode_connections(part)]
        self.dispatcher.counted(found)
        return len(found)


def letter(address: str) -> str:
    return "ABCDEFGHIJ"[int(address.replace(":", ".").rpartition(".")[2]) - 2]


@pytest.fixture(scope="module")
def cluster(switch: DummySwitch) -> Scene:
    return Scene(switch)


@pytest.fixture(params=["IPv4", "IPv6"])
def scene(cluster: Scene, request: pytest.FixtureRequest) -> Scene:
    cluster.family = str(request.param)
    return cluster


@pytest.mark.parametrize(
    ("scheduler", "weights", "expected"),
    [
        ("rr", [1, 1, 1], "ABCABC"),
        ("rr", [5, 0, 1], "ACACAC"),
        ("wrr", [5, 3, 1], "AAABABABCAAA"),
        ("lc", [1, 1, 1], "ABCABC"),
        ("wlc", [2, 1], "ABAABA"),
        ("sed", [5, 3, 1], "ABAABAABC"),
        ("nq", [5, 3, 1], "ABCAABAAB"),
    ],
)
def test_connections_go_as_the_scheduler_says(
    scene: Scene, scheduler: str, weights: list[int], expected: str
) -> None:
    scene.start(scheduler, weights)
    assert scene.pattern(len(expected)) == expected


def test_only_the_first_packet_of_a_connection_comes_to_the_kubeproxy(scene: Scene) -> None:
    scene.start("rr", [1, 1])
    ip = scene.ip(CLIENT, SERVICE)
    (syn,) = scene.send(ip / TCP(sport=7001, dport=80, flags="S", seq=1))
    assert (syn.dst, syn[TCP].dport, syn.src) == (scene.at("10.244.2.2"), 8080, scene.at(CLIENT))
    back = scene.ip("10.244.2.2", CLIENT) / TCP(sport=8080, dport=7001, flags="SA", seq=9, ack=2)
    (answer,) = scene.send(back, "node1-up")
    assert (answer.src, answer[TCP].sport) == (scene.at(SERVICE), 80)
    scene.switch.receive("node1-p2", bytes(Ether(src=wiring.mac_of(CLIENT), dst=wiring.GATEWAY_MAC)
        / ip / TCP(sport=7001, dport=80, flags="A", seq=2, ack=10)))  # fmt: skip
    assert scene.hear() == 0
    assert [ip_of(Ether(f)).dst for f in scene.switch.sent("node1-up")] == [scene.at("10.244.2.2")]


def test_a_syn_that_comes_twice_counts_once(scene: Scene) -> None:
    """The first may have waited for us while the second was sent."""
    scene.start("lc", [1, 1])
    syn = Ether(src=wiring.mac_of(CLIENT), dst=wiring.GATEWAY_MAC) / scene.ip(CLIENT, SERVICE)
    for _ in range(2):
        scene.switch.receive("node1-p2", bytes(syn / TCP(sport=7002, dport=80, flags="S", seq=5)))
    assert scene.hear() == 2
    assert {ip_of(Ether(f)).dst for f in scene.switch.sent("node1-up")} == {scene.at("10.244.2.2")}
    assert scene.open() == "B"


def test_a_burst_of_datagrams_goes_to_one_pod(scene: Scene) -> None:
    scene.start("rr", [1, 1, 1])
    ask = Ether(src=wiring.mac_of(CLIENT), dst=wiring.GATEWAY_MAC) / scene.ip(CLIENT, SERVICE)
    for _ in range(3):
        scene.switch.receive("node1-p2", bytes(ask / UDP(sport=7003, dport=53) / Raw(b"who")))
    scene.hear()
    assert [ip_of(Ether(f)).dst for f in scene.switch.sent("node1-up")] == [scene.at("10.244.2.2")] * 3
    (other,) = scene.send(scene.ip(CLIENT, SERVICE) / UDP(sport=7004, dport=53) / Raw(b"who"))
    assert other.dst == scene.at("10.244.2.3")


def test_from_outside_a_scheduled_node_port_is_masqueraded_as_any(scene: Scene) -> None:
    scene.start("rr", [1, 1])
    for expected in (scene.at("10.244.2.2"), scene.at("10.244.2.3")):
        syn = scene.ip(OUTSIDE, NODE1) / TCP(sport=next(scene.ports), dport=30080, flags="S")
        (left,) = scene.send(syn, "node1-up")
        assert (left.src, left.dst, hops_of(left)) == (scene.at(NODE1), expected, 63)


def test_with_affinity_a_client_stays_and_others_are_scheduled(scene: Scene) -> None:
    scene.start("rr", [1, 1, 1], sessionAffinity="ClientIP")
    first = scene.open()
    assert {scene.open() for _ in range(3)} == {first}
    assert scene.open(source=OUTSIDE, to=NODE1, number=30080) != first


def test_least_connection_sees_connections_end(scene: Scene) -> None:
    scene.start("lc", [1, 1])
    assert scene.pattern(2) == "AB"
    client, pod = scene.ip(CLIENT, SERVICE), scene.ip("10.244.2.2", CLIENT)
    assert scene.open(port=7010) == "A"
    scene.send(pod / TCP(sport=8080, dport=7010, flags="SA", seq=9, ack=2), "node1-up")
    scene.send(client / TCP(sport=7010, dport=80, flags="A", seq=2, ack=10))
    assert scene.in_switch() == 3
    assert scene.open() == "B"
    scene.send(client / TCP(sport=7010, dport=80, flags="FA", seq=2, ack=10))
    scene.send(pod / TCP(sport=8080, dport=7010, flags="FA", seq=10, ack=3), "node1-up")
    before = scene.in_switch()
    for _ in range(50):  # at most: the switch looks for flows that ended about once a second
        if scene.in_switch() < before:
            break
        scene.switch.appctl("time/warp", "200", "200")
    assert scene.in_switch() == before - 1
    # Said by a thread of its own, once no other can see the flow any more.
    assert any(scene.hear(OFPT_FLOW_REMOVED) for _ in range(10000))
    assert scene.open() == "A"


def test_a_restarted_kubeproxy_knows_which_connections_are_open(scene: Scene) -> None:
    scene.start("lc", [1, 1])
    assert scene.pattern(3) == "ABA"
    scene.dispatcher = Dispatcher(scene.proxier.scheduled)
    scene.in_switch()
    scene.renew()
    assert scene.open() == "B"


def test_the_read_back_leaves_leases_and_connections_alone(scene: Scene) -> None:
    scene.start("lc", [1, 1])
    scene.open()
    parts = scene.socket.ask(openflow.flow_stats_request(1))
    keys = {key for part in parts for key in openflow.decode_flow_stats(part)}
    assert len([key for key in keys if learned(key)]) >= 2
    assert {key for key in keys if not learned(key)} == set(scene.proxier.desired().flows)


def test_source_hashing_keeps_a_client_with_its_pod(scene: Scene) -> None:
    scene.start("sh", [1] * 4)
    assert len(set(scene.pattern(8))) == 1
    clients = [f"198.51.100.{n}" for n in range(1, 41)]
    chosen = [scene.open(source=c, to=NODE1, number=30080) for c in clients]
    assert set(chosen) == set("ABCD")
    assert [scene.open(source=c, to=NODE1, number=30080) for c in clients] == chosen


def test_destination_hashing_sends_all_to_one_pod(scene: Scene) -> None:
    scene.start("dh", [1] * 4)
    chosen = {scene.open(source=f"198.51.100.{n}", to=NODE1, number=30080) for n in range(1, 20)}
    assert len(chosen) == 1


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
@pytest.mark.parametrize("weights", [[1] * 5, [3, 1, 2, 1, 4]], ids=["equal", "weighted"])
def test_a_removal_moves_only_its_own_share(scene: Scene, scheduler: str, weights: list[int]) -> None:
    scene.start(scheduler, weights)

    def chosen() -> list[str]:
        clients = [str(IPv4Address(OUTSIDE) + n) for n in range(60)]
        return [scene.open(source=c, to=NODE1, number=30080, port=30000 + n) for n, c in enumerate(clients)]

    before = chosen()
    scene.serve(5, without="C")
    scene.switch.flush_conntrack()
    after_it = chosen()
    assert "C" in before
    assert [new for old, new in zip(before, after_it, strict=True) if old != "C"] == [
        old for old in before if old != "C"
    ]
    scene.serve(5)
    scene.switch.flush_conntrack()
    assert chosen() == before


def test_weights_count_as_they_say_in_hashing_schedulers(scene: Scene) -> None:
    scene.start("mh", [2, 1])
    assert 0.60 < scene.pattern(600).count("A") / 600 < 0.73  # buckets of weight 2 and 1 would give 0.75


def test_without_a_kubeproxy_the_lease_ends_and_the_group_chooses(scene: Scene) -> None:
    scene.start("rr", [1, 1])
    scene.switch.appctl("time/stop")
    scene.switch.warp(LEASE + 2)
    scene.connect()
    assert len(set(scene.pattern(12))) == 2
    assert scene.hear() == 0
