"""The address plan and the configuration it follows from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from controller.api.errors import MachineError, UserError
from controller.api.wiring import RANGES
from topo.config import ClusterConfig, LinkConfig
from topo.links import need_families
from topo.plan import Plan, in_family, pod_host_name


def test_the_default_cluster_has_the_addresses_of_minikube() -> None:
    plan = Plan(ClusterConfig())
    assert [(node.name, str(node.address), str(node.pod_cidr)) for node in plan.nodes] == [
        ("node1", "192.168.49.2", "10.244.1.0/24"),
        ("node2", "192.168.49.3", "10.244.2.0/24"),
        ("node3", "192.168.49.4", "10.244.3.0/24"),
    ]
    assert [(client.name, str(client.address)) for client in plan.clients] == [("client1", "198.51.100.11")]
    assert [node.control_plane for node in plan.nodes] == [True, False, False]


def test_a_node_names_its_ports_macs_and_datapath_from_its_number() -> None:
    node = Plan(ClusterConfig()).node("node2")
    assert (node.bridge, node.host_interface, node.uplink_interface) == ("br-node2", "node2-host", "node2-up")
    assert node.datapath_id == "0000000000000002"
    assert node.mac == "0a:58:c0:a8:31:03"
    assert node.pod_interface(IPv4Address("10.244.2.5")) == "node2-p5"


def test_every_interface_name_of_the_largest_cluster_fits_the_kernel() -> None:
    for node in Plan(ClusterConfig(nodes=99)).nodes:
        for name in (
            node.bridge,
            node.host_interface,
            node.uplink_interface,
            node.pod_interface(node.pod_cidr[254]),
        ):
            assert len(name) <= 15


def test_no_two_hosts_of_the_largest_cluster_share_an_address() -> None:
    plan = Plan(ClusterConfig(nodes=99, clients=100))
    hosts = [host.address for host in (*plan.nodes, *plan.clients)] + list(plan.spare_node_addresses)
    assert len(hosts) == len(set(hosts))
    ranges = [node.pod_cidr for node in plan.nodes]
    assert all(not a.overlaps(b) for a in ranges for b in ranges if a is not b)
    assert all(IPv4Network("10.244.0.0/16").supernet_of(pods) for pods in ranges)


@pytest.mark.parametrize(
    ("ipv4", "ipv6"),
    [
        ("192.168.49.2", "fd00:49::2"),
        ("192.168.49.112", "fd00:49::112"),
        ("10.244.1.9", "fd00:10:244:1::9"),
        ("10.244.99.254", "fd00:10:244:99::254"),
        ("198.51.100.11", "2001:db8:198::11"),
    ],
)
def test_an_ipv6_address_has_the_digits_of_the_hosts_ipv4_address(ipv4: str, ipv6: str) -> None:
    assert str(in_family(IPv4Address(ipv4), "IPv6")) == ipv6
    assert str(in_family(IPv4Address(ipv4), "IPv4")) == ipv4


def test_a_dual_stack_cluster_has_both_families_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("ipFamily: dual\nnodes: 99\nclients: 100\n")
    plan = Plan(ClusterConfig.from_yaml(file))
    assert plan.families == ("IPv4", "IPv6")
    assert [str(value) for value in plan.nodes[11].addresses] == ["192.168.49.13", "fd00:49::13"]
    assert [str(net) for net in plan.nodes[11].pod_cidrs] == ["10.244.12.0/24", "fd00:10:244:12::/64"]
    assert [str(value) for value in plan.clients[0].addresses] == ["198.51.100.11", "2001:db8:198::11"]
    hosts = [value for host in (*plan.nodes, *plan.clients) for value in host.addresses]
    assert len(hosts) == len(set(hosts)) == 2 * 199
    for node in plan.nodes:
        assert node.pod_cidrs[1].subnet_of(RANGES["IPv6"].pods)  # type: ignore[arg-type]
        assert in_family(node.pod_cidr[254], "IPv6") in node.pod_cidrs[1]


@pytest.mark.parametrize(
    ("namespace", "pod", "name"),
    [
        ("default", "frontend-6d-x2", "frontend-6d-x2"),
        ("shop", "frontend-6d-x2", "shop.frontend-6d-x2"),
        ("default", "node1", "default.node1"),
        ("default", "client12", "default.client12"),
        ("default", "fabric", "default.fabric"),
        ("default", "node1-exporter", "node1-exporter"),
        ("default", "a.b", "default.a.b"),
    ],
)
def test_a_pod_is_named_by_itself_unless_that_would_be_taken_for_another(
    namespace: str, pod: str, name: str
) -> None:
    assert pod_host_name(namespace, pod) == name


def test_a_configuration_file_sets_sizes_zones_and_links(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "nodes: 2\nclients: 2\ndatapath: user\nzones: [a, b]\n"
        "links:\n  nodes: {bandwidth: 100}\n  node2: {delay: 5, loss: 0.5}\n"
    )
    plan = Plan(ClusterConfig.from_yaml(file))
    assert [node.zone for node in plan.nodes] == ["a", "b"]
    assert [node.link for node in plan.nodes] == [LinkConfig(bandwidth=100), LinkConfig(delay=5, loss=0.5)]
    assert [client.link for client in plan.clients] == [LinkConfig(), LinkConfig()]


def test_an_empty_configuration_file_is_the_default_cluster(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("# nothing yet\n")
    assert ClusterConfig.from_yaml(file) == ClusterConfig()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "node: 3",
            "node: there is no such key; known are nodes, clients, datapath,"
            " controller, dns, ipFamily, offload, cloud, health_check, zones, links",
        ),
        ("nodes: three", "nodes: a whole number is needed, not 'three'"),
        ("nodes: true", "nodes: a whole number is needed, not True"),
        ("nodes: 0", "nodes: from 1 to 99, not 0"),
        ("nodes: 100", "nodes: from 1 to 99, not 100"),
        ("clients: -1", "clients: from 0 to 100, not -1"),
        ("datapath: fast", "datapath: one of auto, kernel, user, not 'fast'"),
        ("ipFamily: ipv6", "ipFamily: one of ipv4, dual, not 'ipv6'"),
        ("ipFamily: 6", "ipFamily: a word is needed, not 6"),
        ("controller: [ryu]", "controller: a word is needed, not a list"),
        ("offload: 1", "offload: true or false is needed, not 1"),
        ("zones: [a, b]", "zones: one for each of the 3 nodes, not 2"),
        ("zones: a", "zones: a list of zone names is needed, not 'a'"),
        (
            "links: {node9: {delay: 1}}",
            "links.node9: there is no such link; a node, a client, `nodes` or `clients`",
        ),
        (
            "links: {node1: {speed: 1}}",
            "links.node1: speed: there is no such key; known are bandwidth, delay, loss",
        ),
        ("links: {node1: {loss: 101}}", "links.node1.loss: percent from 0 to 100, not 101"),
        ("links: {node1: {bandwidth: 0}}", "links.node1.bandwidth: Mbit/s above 0, at most 1000000, not 0"),
        ("links: {node1: {delay: 5ms}}", "links.node1: delay: a number is needed, not '5ms'"),
        ("links: {node1: {delay: .nan}}", "links.node1.delay: milliseconds from 0 to 100000, not nan"),
        ("links: {node1: 100}", "links.node1: a mapping of bandwidth, delay and loss is needed, not 100"),
        ("- nodes", "a cluster is a mapping of keys like `nodes: 3`, not a list"),
        ("nodes: [", "not YAML in line 2: expected the node content, but found '<stream end>'"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_with_file_and_key(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        ClusterConfig.from_yaml(file)
    assert str(caught.value) == f"{file}: {sentence}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        ClusterConfig.from_yaml(tmp_path / "nowhere.yaml")


def test_keywords_are_checked_like_a_file() -> None:
    with pytest.raises(UserError, match="nodes: a whole number is needed, not '3'"):
        ClusterConfig(nodes="3")  # type: ignore[arg-type]


def test_a_kernel_without_ipv6_is_named_when_a_cluster_needs_it(tmp_path: Path) -> None:
    missing = tmp_path / "ipv6"
    need_families(["IPv4"], missing)
    with pytest.raises(MachineError, match="this kernel has no IPv6, which ipFamily dual needs"):
        need_families(["IPv4", "IPv6"], missing)
    missing.mkdir()
    need_families(["IPv4", "IPv6"], missing)
