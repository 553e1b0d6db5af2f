"""The wires alone: namespaces, addresses, routes, links, node rules, pods; a hand-written flow or two.

client1 198.51.100.11 -- fabric -- br-node1 -- node1 192.168.49.2, pods 10.244.1.x
                              \\-- br-node2 -- node2 192.168.49.3, pods 10.244.2.x
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from mininet import log as mininet_log

from controller.api.errors import MachineError
from controller.api.wiring import FABRIC_MAC, GATEWAY_MAC, mac_of
from topo import sandbox
from topo.capture import Capture, LinkEnd
from topo.cli import LabCli
from topo.config import ClusterConfig, LinkConfig
from topo.links import shape
from topo.network import Network, PodPlug
from topo.ovs import PrivateOvs
from topo.plan import Plan

CLIENT, NODE1, NODE2 = "198.51.100.11", "192.168.49.2", "192.168.49.3"
POD1, POD2 = IPv4Address("10.244.1.2"), IPv4Address("10.244.2.2")
CLUSTER_IP, LOCAL_NODE_PORT = "10.96.0.77", "169.254.0.252"
GATEWAY_HEX = "0xa9fe0101"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    for left in sandbox.run_dir().glob("*.db*"):
        left.unlink()
    ovs = PrivateOvs(sandbox.run_dir())
    ovs.start()
    network = Network(Plan(ClusterConfig(nodes=2, links={"client1": LinkConfig(bandwidth=50)})), ovs)
    try:
        network.build()
        network.start()
        for node in network.plan.nodes:
            for flow in flows(network, node.name):
                ovs.ofctl("add-flow", node.bridge, flow)
        yield network
    finally:
        network.stop()
        ovs.stop()


def flows(net: Network, name: str) -> list[str]:
    """The least that routes: the gateway's ARP, the node's address in, everything else up."""
    node = net.plan.node(name)
    mac = "0x" + GATEWAY_MAC.replace(":", "")
    answer = (
        "move:eth_src->eth_dst,set_field:" + GATEWAY_MAC + "->eth_src,set_field:2->arp_op,"
        f"move:arp_sha->arp_tha,move:arp_spa->arp_tpa,load:{mac}->NXM_NX_ARP_SHA[],"
        f"load:{GATEWAY_HEX}->NXM_OF_ARP_SPA[],in_port"
    )
    host, up = node.host_interface, node.uplink_interface
    return [
        f"priority=9,arp,arp_op=1,arp_tpa=169.254.1.1,actions={answer}",
        f"priority=9,ip,nw_dst={node.address},actions=set_field:{node.mac}->eth_dst,dec_ttl,output:{host}",
        f"priority=10,ip,in_port={host},nw_dst={node.address},actions=set_field:{node.mac}->eth_dst,in_port",
        f"priority=9,ip,in_port={host},nw_dst={CLUSTER_IP},actions=set_field:{node.mac}->eth_dst,in_port",
        f"priority=8,ip,nw_dst={CLUSTER_IP},actions=set_field:{node.mac}->eth_dst,output:{host}",
        f"priority=8,ip,in_port={host},nw_dst={LOCAL_NODE_PORT},actions=drop",
        f"priority=1,ip,actions=set_field:{FABRIC_MAC}->eth_dst,dec_ttl,output:{up}",
    ]


def run(net: Network, host: str, command: str) -> str:
    process = net[host].netns.popen(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return str(process.communicate(timeout=20)[0])


def pods() -> list[PodPlug]:
    return [
        PodPlug(name="web-a", node="node1", address=POD1, interface="node1-p2"),
        PodPlug(name="shop.web-b", node="node2", address=POD2, interface="node2-p2"),
    ]


@pytest.fixture
def plugged(net: Network) -> Iterator[list[str]]:
    net.plug(pods())
    for pod in pods():
        into = f"set_field:{mac_of(pod.address)}->eth_dst,dec_ttl,output:{pod.interface}"
        net.ovs.ofctl("add-flow", f"br-{pod.node}", f"priority=9,ip,nw_dst={pod.address},actions={into}")
    yield [pod.name for pod in pods()]
    net.unplug([pod.name for pod in pods()])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("client1", CLIENT),
        ("node1", NODE1),
        ("node2", NODE2),
        ("web-a", str(POD1)),
        ("shop.web-b", str(POD2)),
    ],
)
def test_every_host_has_one_address_one_gateway_and_no_ipv6(
    net: Network, plugged: list[str], host: str, address: str
) -> None:
    last = ":".join(f"{int(byte):02x}" for byte in address.split("."))
    seen = run(net, host, "ip -o addr show dev eth0; ip -o link show dev eth0; ip route; ip -6 addr")
    assert f"inet {address}/32 scope global eth0" in seen
    assert f"link/ether 0a:58:{last}" in seen
    assert "default via 169.254.1.1 dev eth0" in seen
    assert "inet6" not in seen


@pytest.mark.parametrize("host", ["client1", "node1", "web-a", "fabric"])
def test_offloads_are_off_so_that_packets_are_what_the_wire_would_carry(
    net: Network, plugged: list[str], host: str
) -> None:
    interface = "node1" if host == "fabric" else "eth0"
    assert off_lines(run(net, host, f"ethtool -k {interface}")) == 6


@pytest.mark.parametrize("port", ["node1-host", "node1-up", "node1-p2"])
def test_offloads_are_off_at_the_bridge_too(net: Network, plugged: list[str], port: str) -> None:
    said = subprocess.run(["ethtool", "-k", port], check=True, capture_output=True, text=True).stdout
    assert off_lines(said) == 6


def off_lines(said: str) -> int:
    names = ("rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload")
    names += ("generic-segmentation-offload", "generic-receive-offload")
    return sum(f"{name}: off" in said for name in names)


def test_the_router_carries_a_client_and_a_node_to_each_other(net: Network) -> None:
    assert " 0% packet loss" in run(net, "client1", f"ping -c 1 -W 5 {NODE2}")
    assert " 0% packet loss" in run(net, "node1", f"ping -c 1 -W 5 {CLIENT}")
    assert " 0% packet loss" in run(net, "node1", f"ping -c 1 -W 5 {NODE2}")


def test_pods_of_two_nodes_reach_each_other_three_routers_apart(net: Network, plugged: list[str]) -> None:
    said = run(net, "web-a", f"ping -c 1 -W 5 {POD2}")
    assert "ttl=61" in said


def test_outside_nobody_routes_to_cluster_ips_and_the_router_says_so(net: Network) -> None:
    said = run(net, "client1", f"ping -c 1 -W 5 {CLUSTER_IP}")
    assert "From 192.168.49.1 icmp_seq=1 Destination Net Unreachable" in said


def test_a_nodes_kernel_refuses_what_the_bridge_hands_over(net: Network, plugged: list[str]) -> None:
    with uplinks(net, "node1-p2") as capture:
        assert "refused" in run(net, "web-a", f"busybox nc -w 5 {CLUSTER_IP} 80 </dev/null 2>&1")
        assert "refused" in run(net, "web-a", f"dig +tries=1 +time=5 @{CLUSTER_IP} x.")
    answers = [p.data for p in capture.packets if is_ip(p.data) and p.direction == "out"]
    reset, unreachable = answers[0], answers[-1]
    assert (ip_source(reset), reset[23], reset[47] & 0x04) == (CLUSTER_IP, 6, 4)
    assert (ip_source(unreachable), *unreachable[34:36]) == (NODE1, 3, 3)


def test_a_nodes_kernel_refuses_its_own_connections_too(net: Network) -> None:
    assert "refused" in run(net, "node1", f"busybox nc -w 5 {CLUSTER_IP} 80 </dev/null 2>&1")
    assert "refused" in run(net, "node1", f"dig +tries=1 +time=5 @{CLUSTER_IP} x.")


def ip_source(data: bytes) -> str:
    return str(IPv4Address(data[26:30]))


@pytest.mark.parametrize("target", ["127.0.0.1", NODE1])
def test_a_nodes_own_node_port_traffic_reaches_the_bridge(net: Network, target: str) -> None:
    with uplinks(net, "node1-host") as capture:
        process = net["node1"].netns.popen(["busybox", "nc", target, "30080"], stdin=subprocess.PIPE)
        try:
            seen = capture.wait_for(lambda packets: any(is_ip(p.data) for p in packets))
        finally:
            process.kill()
            process.communicate()
    first = next(p.data for p in seen if is_ip(p.data))
    assert ip_source(first) == NODE1
    assert str(IPv4Address(first[30:34])) == LOCAL_NODE_PORT
    assert int.from_bytes(first[36:38]) == 30080


def is_ip(data: bytes) -> bool:
    return data[12:14] == b"\x08\x00"


def uplinks(net: Network, *ports: str) -> Capture:
    return Capture([LinkEnd(label=port, host="node1", netns="", interface=port) for port in ports])


def test_an_unplugged_pod_leaves_no_port_link_or_namespace(net: Network) -> None:
    before = places(net)
    net.plug(pods())
    assert "node1-p2" in net.ovs.vsctl("list-ports", "br-node1").split()
    assert net["web-a"].IP() == str(POD1)
    net.unplug(["web-a", "shop.web-b", "never-was"])
    assert places(net) == before


def test_a_batch_in_which_one_pod_cannot_be_plugged_plugs_none(net: Network) -> None:
    before = places(net)
    bad = PodPlug(name="web-c", node="node1", address=IPv4Address("10.244.1.3"), interface="node1-host")
    with pytest.raises(OSError, match="File exists"):
        net.plug([*pods(), bad])
    assert places(net) == before
    net.plug(pods())
    net.unplug([pod.name for pod in pods()])


def places(net: Network) -> tuple[list[str], set[str], set[str], set[str]]:
    names = sorted(net.nameToNode)
    ports = set(net.ovs.vsctl("list-ports", "br-node1").split())
    links = {path.name for path in Path("/proc/sys/net/ipv4/conf").iterdir()}
    return names, ports, links, {path.name for path in Path("/run/netns").iterdir()}


def test_a_node_that_gets_another_address_is_reached_there_and_nowhere_else(net: Network) -> None:
    new = net.plan.spare_node_addresses[0]
    net.readdress("node2", new)
    try:
        assert f"inet {new}/32" in run(net, "node2", "ip -o addr show dev eth0")
        assert NODE2 not in run(net, "node2", "ip -o addr show dev eth0; nft list ruleset")
        assert str(new) in run(net, "node2", "nft list ruleset")
        routes = run(net, "fabric", "ip route")
        assert f"{new} via 169.254.1.1 dev node2" in routes
        assert f"{NODE2} " not in routes
    finally:
        net.readdress("node2", IPv4Address(NODE2))


def test_mininet_finds_hosts_by_name_and_runs_a_shell_only_when_asked(
    net: Network, plugged: list[str]
) -> None:
    assert net.get("web-a").shell is None
    assert f"inet {POD1}/32" in net.get("web-a").cmd("ip addr")
    assert net.get("web-a").shell is not None
    assert net.get("node1").pexec("hostname")[2] == 0


def test_mininets_command_line_knows_hosts_with_dashes_and_puts_addresses_for_names(
    net: Network, plugged: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "script"
    script.write_text(
        "web-a echo I am web-a and you are client1\nshop.web-b ip route\nnode1 ping -c 1 client1\n"
    )
    mininet_log.setLogLevel("output")
    read, write = os.pipe()
    try:
        with open(read, encoding="utf-8") as stdin:
            LabCli(net, stdin=stdin, script=str(script))
    finally:
        os.close(write)
        mininet_log.setLogLevel("warning")
    said = caplog.text
    assert f"I am {POD1} and you are {CLIENT}" in said
    assert "default via 169.254.1.1" in said
    assert " 0% packet loss" in said


def test_bandwidth_is_shaped_at_both_ends_of_a_link(net: Network) -> None:
    assert "rate 50Mbit" in run(net, "client1", "tc class show dev eth0")
    assert "rate 50Mbit" in run(net, "fabric", "tc class show dev client1")


def test_delay_is_shaped_or_the_missing_kernel_option_is_named(net: Network) -> None:
    outcome = ""
    try:
        shape(net["node1"].netns, "eth0", LinkConfig(delay=1))
    except MachineError as error:
        outcome = str(error)
    if not outcome:
        assert "netem" in run(net, "node1", "tc qdisc show dev eth0; tc qdisc del dev eth0 root")
        return
    assert outcome.startswith("this kernel cannot shape eth0: delay and loss needs CONFIG_NET_SCH_NETEM")
    assert "modprobe sch_netem" in outcome


def test_a_capture_has_every_packet_until_it_stops_with_directions_and_times(
    net: Network, tmp_path: Path
) -> None:
    count = 20_000
    with Capture([LinkEnd(label="client1", host="client1", netns="fabric", interface="client1")]) as capture:
        send_udp(net, count)
    frames = [p for p in capture.packets if is_ip(p.data) and p.data[23] == 17]
    assert len([p for p in frames if p.direction == "in"]) == count
    assert capture.dropped == {"client1": 0}
    times = [p.time_ns for p in frames]
    assert times == sorted(times)
    numbers = [int.from_bytes(p.data[42:46]) for p in frames if p.direction == "in"]
    assert numbers == list(range(count))


def send_udp(net: Network, count: int) -> None:
    """Numbered datagrams to an address nobody routes to, so that only this link carries them."""
    with net["client1"].netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(count):
            try:
                sock.sendto(number.to_bytes(4), (CLUSTER_IP, 9))
            except OSError:  # the router's "net unreachable" for an earlier one
                sock.sendto(number.to_bytes(4), (CLUSTER_IP, 9))


def test_a_written_capture_is_read_by_tshark_with_right_checksums(net: Network, tmp_path: Path) -> None:
    links = [
        LinkEnd(label="client1", host="client1", netns="fabric", interface="client1"),
        LinkEnd(label="node1-uplink", host="node1", netns="", interface="node1-up"),
    ]
    with Capture(links) as capture:
        listener = net["node1"].netns.popen(["busybox", "nc", "-l", "-p", "80"], stdin=subprocess.PIPE)
        try:
            until(lambda: ":80 " in run(net, "node1", "ss -ltn"))
            run(net, "client1", f"echo hello | busybox nc -w 2 {NODE1} 80")
        finally:
            listener.kill()
            listener.communicate()
    first = next(p for p in capture.packets if is_ip(p.data))
    path = capture.write(tmp_path / "lab.pcapng", {first: "the first one"})
    checks = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
    names = ("frame.interface_name", "ip.checksum.status", "tcp.checksum.status", "frame.comment")
    fields = [word for name in names for word in ("-e", name)]
    said = subprocess.run(
        ["tshark", "-n", "-r", str(path), *checks, "-T", "fields", *fields, "tcp"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    rows = [line.split("\t") for line in said]
    assert {row[0] for row in rows} == {"client1", "node1-uplink"}
    assert {(row[1], row[2]) for row in rows} == {("1", "1")}
    assert [row[3] for row in rows if len(row) > 3 and row[3]] == ["the first one"]


def test_a_streamed_capture_is_on_disk_when_it_stops(net: Network) -> None:
    file = io.BytesIO()
    with Capture(
        [LinkEnd(label="client1", host="client1", netns="fabric", interface="client1")], stream=file
    ):
        run(net, "client1", f"ping -c 1 -W 5 {NODE1}")
    assert file.getvalue().count(bytes(map(int, CLIENT.split(".")))) >= 2


def until(condition: object, tries: int = 2000) -> None:
    assert callable(condition)
    for _ in range(tries):
        if condition():
            return
    raise AssertionError("it did not come about")
