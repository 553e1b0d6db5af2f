"""A whole lab as its users have it: handles, captures, Mininet's shell, the second terminal, a new address.

Three nodes, one client, a Deployment of two agnhost pods behind a NodePort.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.api.errors import ManifestError, NotFound, PodwireError, UserError
from controller.api.objects import Obj
from topo.lab import ClusterConfig, Lab
from topo.lab_state import LabState, ask

NODE_PORT = 30080
NODE1, NODE2, NODE3, SPARE = "192.168.49.2", "192.168.49.3", "192.168.49.4", "192.168.49.101"

WEB: Obj = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "registry.k8s.io/e2e-test-images/agnhost:2.47",
                        "args": ["netexec", "--http-port=8080"],
                        "ports": [{"containerPort": 8080}],
                    }
                ]
            },
        },
    },
}
SERVICE: Obj = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}],
    },
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(ClusterConfig(dns="none")) as lab:
        lab.apply(WEB, SERVICE)
        lab.settle()
        yield lab


def answer(lab: Lab, address: object, path: str = "hostname") -> str:
    """What a Service says at a node's port to the client outside; empty when nothing answers."""
    return lab.outside().run(["curl", "-sS", "-m", "3", f"http://{address}:{NODE_PORT}/{path}"]).stdout


@pytest.mark.smoke
def test_a_service_answers_at_every_nodes_port_once_the_lab_has_settled(lab: Lab) -> None:
    names = {pod.name for pod in lab.pods("app=web")}
    assert len(names) == 2
    for node in lab.plan.nodes:
        assert answer(lab, node.address) in names


def test_a_node_runs_programs_and_lines_of_shell_in_its_own_network(lab: Lab) -> None:
    node = lab.node(2)
    assert (node.name, str(node.ip), node.bridge) == ("node2", "192.168.49.3", "br-node2")
    assert "192.168.49.3/32" in node.run(["ip", "-4", "addr", "show", "eth0"]).stdout
    assert node.run("echo out; echo err >&2; exit 3").returncode == 3
    assert node.run(["cat"], input="as it came").stdout == "as it came"
    with pytest.raises(subprocess.TimeoutExpired):
        node.run("exec busybox sleep 100", timeout=0.2)


def test_a_pod_runs_commands_inside_its_container(lab: Lab) -> None:
    pod = lab.pods("app=web")[0]
    assert pod.run(["hostname"]).stdout == f"{pod.name}\n"
    assert pod.run("cat; exit 4", input="in").stdout == "in"
    assert pod.run("exit 4").returncode == 4
    assert f"{pod.ip}/32" in pod.run(["ip", "-4", "addr", "show", "eth0"]).stdout
    with pod.popen("read line; echo got $line", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "got one\n"
        assert process.wait(10) == 0


def test_a_name_fails_at_once_while_nothing_answers_at_kube_dns(lab: Lab) -> None:
    looked_up = lab.pods("app=web")[0].run(["getent", "hosts", "web"], timeout=4)
    assert (looked_up.returncode, looked_up.stdout) == (2, "")


def test_a_socket_of_a_host_speaks_with_that_hosts_address(lab: Lab) -> None:
    pod, other = lab.pods("app=web")
    with pod.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect((str(other.ip), 8080))
        assert sock.getsockname()[0] == str(pod.ip)
        sock.sendall(b"GET /clientip HTTP/1.0\r\n\r\n")
        said = b"".join(iter(lambda: sock.recv(4096), b""))
    assert f"{pod.ip}:".encode() in said


def test_hosts_are_found_by_name_and_the_wrong_name_is_told(lab: Lab) -> None:
    pod = lab.pods("app=web")[0]
    assert lab.host("node1").name == "node1"
    assert lab.host("client1").ip == IPv4Address("198.51.100.11")
    assert lab.host(pod.name).ip == pod.ip
    with pytest.raises(UserError, match="there is no node node7; there are node1, node2, node3"):
        lab.node(7)
    with pytest.raises(NotFound):
        lab.pod("web-gone")


def test_mininets_shell_of_a_pod_is_inside_its_namespaces(lab: Lab) -> None:
    pod = lab.pods("app=web")[0]
    assert pod.cmd("hostname").split() == [pod.name]
    assert f"{pod.ip}/32" in pod.cmd("ip addr show eth0")
    assert lab.net.get("node1").cmd("ping -c 1 -W 5 198.51.100.11").count(" 0% packet loss") == 1


def test_a_capture_shows_a_connection_on_every_link_it_crosses(lab: Lab, tmp_path: Path) -> None:
    with lab.capture("client1", "node3-uplink", "node*-web-*") as capture:
        name = answer(lab, NODE3)
        capture.wait_for(lambda seen: sum(p.data[47] & 1 for p in seen if p.link == "client1") >= 2)
    links = {packet.link for packet in capture.packets}
    assert {"client1", "node3-uplink", lab.pod(name).link} <= links
    assert set(capture.dropped.values()) == {0}
    said = subprocess.run(
        ["tshark", "-n", "-r", str(capture.write(tmp_path / "x.pcapng")), "-o", "tcp.check_checksum:TRUE",
         "-Y", "tcp.checksum.status == 0 || ip.checksum.status == 0"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout == ""


def test_a_link_that_is_not_there_is_told_with_those_that_are(lab: Lab) -> None:
    with pytest.raises(UserError, match=r"there is no link node9-uplink; there are node1-host, node1-uplink"):
        lab.capture("node9-uplink")


def test_a_second_terminal_finds_hosts_links_and_the_datapath_in_the_state_file(lab: Lab) -> None:
    state = LabState.load(lab.run_dir)
    pod = lab.pods("app=web")[0]
    assert state.datapath == lab.ovs.datapath
    assert state.hosts[pod.name] == {"kind": "pod", "netns": pod.name, "address": str(pod.ip)}
    assert state.hosts["fabric"]["kind"] == "router"
    assert state.links == lab.links()
    assert (lab.run_dir / "state.json").stat().st_mode & 0o077 == 0
    assert (lab.run_dir / "control.sock").stat().st_mode & 0o077 == 0


def test_a_manifest_with_a_mistake_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    good = {**SERVICE, "metadata": {"name": "good"}, "spec": {"ports": [{"port": 1}]}}
    bad = {**SERVICE, "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}}
    with pytest.raises(ManifestError, match="object 2"):
        lab.apply(good, bad)
    with pytest.raises(NotFound):
        lab.client.get("Service", "good")


def test_a_node_that_gets_another_address_serves_there_and_not_at_the_old_one(lab: Lab) -> None:
    assert answer(lab, NODE1)
    with pytest.raises(UserError, match=r"node1 cannot have 192\.168\.49\.3: a free one of"):
        lab.node(1).readdress(NODE2)
    assert str(lab.node(1).readdress()) == SPARE
    lab.settle()
    assert answer(lab, SPARE) in {pod.name for pod in lab.pods("app=web")}
    assert answer(lab, NODE1) == ""
    assert f"{SPARE}:" not in answer(lab, NODE3, "clientip")
    addresses = lab.client.get("Node", "node1")["status"]["addresses"]
    assert {"type": "InternalIP", "address": SPARE} in addresses
    assert LabState.load(lab.run_dir).hosts["node1"]["address"] == SPARE
    own = lab.node(1).run(["curl", "-sS", "-m", "5", f"http://127.0.0.1:{NODE_PORT}/clientip"]).stdout
    assert own.startswith(f"{SPARE}:")


def test_a_second_terminal_may_ask_the_labs_process_and_hears_what_is_wrong(lab: Lab) -> None:
    with pytest.raises(PodwireError, match="there is no component nothing; there are apiserver"):
        ask(lab.run_dir, "restart", component="nothing")
    with pytest.raises(PodwireError, match="the lab knows kill, restart, readdress, not dance"):
        ask(lab.run_dir, "dance")
    with pytest.raises(PodwireError, match="not understood"):
        ask(lab.run_dir, "restart", who="apiserver")
    assert ask(lab.run_dir, "readdress", node="node2") == "192.168.49.102"
    lab.settle()
    assert answer(lab, "192.168.49.102")


def test_a_deleted_pod_leaves_no_namespace_link_or_state(lab: Lab) -> None:
    before = {pod.name for pod in lab.pods("app=web")}
    gone = sorted(before)[0]
    lab.client.delete("Pod", gone, grace=0)
    lab.settle()
    assert not Path("/run/netns", gone).is_symlink()
    assert gone not in LabState.load(lab.run_dir).hosts
    assert not any(link.host == gone for link in lab.links())
    after = {pod.name for pod in lab.pods("app=web")}
    assert len(after) == 2
    assert gone not in after
