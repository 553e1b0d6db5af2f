"""The wires of a dual-stack cluster: IPv6 beside IPv4 on every host, and a hand-written flow or two.

client1 2001:db8:198::11 -- fabric fd00:49::1 -- br-node1 -- node1 fd00:49::2, pods fd00:10:244:1::x
                                             \\-- br-node2 -- node2 fd00:49::3, pods fd00:10:244:2::x
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

import pytest

from controller.api.wiring import FABRIC_MAC, GATEWAY_MAC, mac_of
from scenarios.packet import Packet, read
from tests.net.test_topology import flows as ipv4_flows
from tests.net.test_topology import run
from topo import sandbox
from topo.capture import Capture
from topo.capture_links import choose_links, link_ends
from topo.config import ClusterConfig
from topo.network import Network, PodPlug
from topo.ovs import PrivateOvs
from topo.plan import NodePlan, Plan, in_family

CLIENT, NODE1, NODE2 = "2001:db8:198::11", "fd00:49::2", "fd00:49::3"
POD1, POD2 = "fd00:10:244:1::2", "fd00:10:244:2::2"
CLUSTER_IP, OWN_NODE_PORT = "fd00:10:96::77", "fd00:169:254::252"
PODS = [
    PodPlug(name="web-a", node="node1", address=IPv4Address("10.244.1.2"), interface="node1-p2"),
    PodPlug(name="web-b", node="node2", address=IPv4Address("10.244.2.2"), interface="node2-p2"),
]


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    for left in sandbox.run_dir().glob("*.db*"):
        left.unlink()
    ovs = PrivateOvs(sandbox.run_dir())
    ovs.start()
    network = Network(Plan(ClusterConfig(nodes=2, ip_family="dual")), ovs)
    try:
        network.build()
        network.start()
        network.plug(PODS)
        for node in network.plan.nodes:
            for flow in (*ipv4_flows(network, node.name), *flows(node)):
                ovs.ofctl("add-flow", node.bridge, flow)
        yield network
    finally:
        network.stop()
        ovs.stop()


def flows(node: NodePlan) -> list[str]:
    """The least that routes IPv6: the gateway's NDP, pods and the node's address in, everything else up."""
    answer = (
        f"move:eth_src->eth_dst,set_field:{GATEWAY_MAC}->eth_src,move:ipv6_src->ipv6_dst,"
        f"set_field:fe80::1->ipv6_src,set_field:{GATEWAY_MAC}->nd_tll,"
        "set_field:2->reg2,push:reg2[0..7],pop:nd_options_type[],"
        "set_field:0xe0000000->reg2,push:reg2[],pop:nd_reserved[],in_port"
    )
    host, up, own = node.host_interface, node.uplink_interface, node.addresses[1]
    (pod,) = (pod for pod in PODS if pod.node == node.name)
    into = f"set_field:{mac_of(pod.address)}->eth_dst,dec_ttl,output:{pod.interface}"
    back = f"set_field:{node.mac}->eth_dst,in_port"
    return [
        "priority=9,icmp6,icmp_type=135,nd_target=fe80::1,actions=set_field:136->icmpv6_type,resubmit(,1)",
        f"table=1,icmp6,icmp_type=136,actions={answer}",
        "priority=8,ipv6,ipv6_dst=ff00::/8,actions=drop",
        f"priority=7,ipv6,ipv6_dst={in_family(pod.address, 'IPv6')},actions={into}",
        f"priority=7,ipv6,in_port={host},ipv6_dst={CLUSTER_IP},actions={back}",
        f"priority=6,ipv6,ipv6_dst={CLUSTER_IP},actions=set_field:{node.mac}->eth_dst,output:{host}",
        f"priority=6,ipv6,in_port={host},ipv6_dst={OWN_NODE_PORT},actions=drop",
        f"priority=6,ipv6,ipv6_dst={own},actions=set_field:{node.mac}->eth_dst,dec_ttl,output:{host}",
        f"priority=7,ipv6,in_port={host},ipv6_dst={own},actions={back}",
        f"priority=1,ipv6,actions=set_field:{FABRIC_MAC}->eth_dst,dec_ttl,output:{up}",
    ]


def capture(net: Network, *labels: str) -> Capture:
    return Capture(choose_links(link_ends(net.plan, net.pods()), labels))


def read_all(recorded: Capture) -> list[Packet]:
    found = [
        read(p.data, time_ns=p.time_ns, link=p.link, outgoing=p.direction == "out") for p in recorded.packets
    ]
    return [packet for packet in found if packet is not None]


@pytest.mark.parametrize(
    ("host", "address", "ipv4"),
    [
        ("client1", CLIENT, "198.51.100.11"),
        ("node1", NODE1, "192.168.49.2"),
        ("web-a", POD1, "10.244.1.2"),
        ("web-b", POD2, "10.244.2.2"),
    ],
)
def test_every_host_has_one_address_of_each_family_and_one_gateway(
    net: Network, host: str, address: str, ipv4: str
) -> None:
    seen = run(net, host, "ip -o addr show dev eth0; ip -6 route")
    assert f"inet {ipv4}/32 scope global eth0" in seen
    assert f"inet6 {address}/128 scope global nodad" in seen
    assert seen.count("inet6") == 2, "besides the one it asks for neighbours from"
    assert "default via fe80::1 dev eth0" in seen


def test_the_router_carries_both_families(net: Network) -> None:
    for target in (NODE2, "192.168.49.3"):
        assert " 0% packet loss" in run(net, "client1", f"ping -c 1 -W 5 {target}")
    for target in (CLIENT, "198.51.100.11", NODE2):
        assert " 0% packet loss" in run(net, "node1", f"ping -c 1 -W 5 {target}")


def test_pods_of_two_nodes_reach_each_other_three_routers_apart(net: Network) -> None:
    assert "ttl=61" in run(net, "web-a", f"ping -c 1 -W 5 {POD2}")


def test_a_host_asks_for_its_gateway_and_says_nothing_else_of_itself(net: Network) -> None:
    with capture(net) as recorded:
        net.forget_gateway()
        assert " 0% packet loss" in run(net, "web-a", f"ping -c 1 -W 5 {CLIENT}")
    packets = read_all(recorded)
    first = [p for p in packets if p.link == "node1-web-a"][:3]
    assert [(p.protocol, p.flags, p.src.address) for p in first] == [
        ("NDP", "who has", POD1),
        ("NDP", "is at", "fe80::1"),
        ("ICMP6", "echo request", POD1),
    ]
    assert first[1].mac_src == GATEWAY_MAC
    assert {p.flags for p in packets if p.on_one_link} == {"who has", "is at"}
    assert not [p for p in packets if p.bad_checksums]


def test_outside_nobody_routes_to_cluster_ips_and_the_router_says_so(net: Network) -> None:
    said = run(net, "client1", f"ping -c 1 -W 5 {CLUSTER_IP}")
    assert "From fd00:49::1 icmp_seq=1 Destination unreachable: No route" in said


def test_a_hop_limit_that_is_used_up_is_told_by_the_router(net: Network) -> None:
    said = run(net, "client1", f"ping -c 1 -W 5 -t 1 {NODE1}")
    assert "From fd00:49::1 icmp_seq=1 Time exceeded: Hop limit" in said


@pytest.mark.parametrize("host", ["web-a", "node1"])
def test_a_nodes_kernel_refuses_what_the_bridge_hands_over(net: Network, host: str) -> None:
    with capture(net, "node1-web-a") as recorded:
        assert "refused" in run(net, host, f"busybox nc -w 5 {CLUSTER_IP} 80 </dev/null 2>&1")
        assert "refused" in run(net, host, f"dig +tries=1 +time=5 @{CLUSTER_IP} x.")
    if host == "web-a":
        answers = [p for p in read_all(recorded) if p.place.outgoing and not p.on_one_link]
        assert [(p.src.address, p.flags) for p in (answers[0], answers[-1])] == [
            (CLUSTER_IP, "RST,ACK"),
            (NODE1, "port unreachable"),
        ]


def test_a_nodes_own_node_port_traffic_reaches_the_bridge(net: Network) -> None:
    with capture(net, "node1-host") as recorded:
        process = net["node1"].netns.popen(["busybox", "nc", NODE1, "30080"], stdin=subprocess.PIPE)
        try:
            recorded.wait_for(lambda frames: any(is_tcp(frame.data) for frame in frames))
        finally:
            process.kill()
            process.communicate()
    first = next(p for p in read_all(recorded) if p.protocol == "TCP")
    assert (first.src.address, first.dst) == (NODE1, (OWN_NODE_PORT, 30080))


def is_tcp(data: bytes) -> bool:
    packet = read(data)
    return packet is not None and packet.protocol == "TCP"


def test_there_is_no_localhost_node_port_in_ipv6(net: Network) -> None:
    assert "refused" in run(net, "node1", "busybox nc -w 5 ::1 30080 </dev/null 2>&1")


def test_a_node_that_gets_another_address_gets_one_of_each_family(net: Network) -> None:
    new = net.plan.spare_node_addresses[0]
    net.readdress("node2", new)
    try:
        said = run(net, "node2", "ip -o -6 addr show dev eth0; nft list ruleset")
        assert NODE2 not in said
        assert said.count("fd00:49::101") >= 3, "its address, its NodePorts, what it does not refuse"
        routes = run(net, "fabric", "ip -6 route")
        assert "fd00:49::101 via fe80::1 dev node2" in routes
        assert f"{NODE2} " not in routes
    finally:
        net.readdress("node2", IPv4Address("192.168.49.3"))
    assert " 0% packet loss" in run(net, "client1", f"ping -c 1 -W 5 {NODE2}")


def test_an_unplugged_pod_takes_both_addresses_along(net: Network) -> None:
    pod = PodPlug(name="web-c", node="node1", address=IPv4Address("10.244.1.3"), interface="node1-p3")
    net.plug([pod])
    assert names(net["web-c"].addresses) == ["10.244.1.3", "fd00:10:244:1::3"]
    net.unplug(["web-c"])
    assert "node1-p3" not in net.ovs.vsctl("list-ports", "br-node1").split()


def names(addresses: Sequence[object]) -> list[str]:
    return [str(address) for address in addresses]
