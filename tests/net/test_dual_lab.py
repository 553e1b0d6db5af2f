"""A whole dual-stack lab: its cloud, its tunnel, its pods' sockets, and what it is after losing a part."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from controller.api.objects import Obj
from scenarios.packet import read
from tests.net.test_cloud import EVERY, TAINT, arrivals, balanced, cloud_of, fabric
from tests.net.test_lab import WEB
from tests.net.test_lab_life import steady
from topo.config import ClusterConfig, HealthCheckConfig
from topo.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
BOTH: Obj = {"ipFamilyPolicy": "RequireDualStack"}
SHELL = "podwire/shell"


def pod(name: str, container: Obj, **spec: object) -> Obj:
    whole = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", **container}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    config = ClusterConfig(ip_family="dual", cloud=True, health_check=HealthCheckConfig(interval=0.1))
    with Lab(config) as lab:
        lab.apply(WEB, balanced("all", **BOTH), balanced("local", externalTrafficPolicy="Local", **BOTH))
        lab.settle()
        yield lab


def external(lab: Lab, name: str) -> tuple[IPv4Address, IPv6Address]:
    entries = lab.client.get("Service", name)["status"]["loadBalancer"]["ingress"]
    ipv4, ipv6 = (ip_address(entry["ip"]) for entry in entries)
    assert isinstance(ipv4, IPv4Address)
    assert isinstance(ipv6, IPv6Address)
    return ipv4, ipv6


def wait_until(lab: Lab, name: str, *nodes: str) -> None:
    """Both addresses lead to exactly these nodes."""
    addresses = external(lab, name)
    cloud_of(lab).wait_for(lambda routes: all(routes.get(address) == nodes for address in addresses))


def web(lab: Lab) -> set[str]:
    return {pod.name for pod in lab.pods("app=web")}


def test_an_external_address_of_each_family_leads_to_every_node_unchanged(lab: Lab) -> None:
    wait_until(lab, "all", *EVERY)
    for address in external(lab, "all"):
        found = arrivals(lab, address)
        assert set(found) == set(EVERY)
        assert min(found.values()) >= sum(found.values()) / 9, found


def test_a_node_that_is_to_go_gets_nothing_new_in_either_family(lab: Lab) -> None:
    lab.client.patch("Node", "node2", {"spec": {"taints": [TAINT]}})
    wait_until(lab, "all", "node1", "node3")
    assert set(arrivals(lab, external(lab, "all")[1])) == {"node1", "node3"}
    lab.client.patch("Node", "node2", {"spec": {"taints": None}})
    wait_until(lab, "all", *EVERY)


def test_policy_local_is_asked_for_by_ipv6_and_keeps_the_clients_address(lab: Lab) -> None:
    homes = tuple(sorted({pod.node for pod in lab.pods("app=web")}))
    wait_until(lab, "local", *homes)
    port = lab.client.get("Service", "local")["spec"]["healthCheckNodePort"]
    for number, name in enumerate(EVERY, 1):
        url = f"http://[{lab.node(number).ips[1]}]:{port}/healthz"
        body, _, code = fabric(f"curl -s -m 3 -w '\\n%{{http_code}}' '{url}'").rpartition("\n")
        assert (code, json.loads(body)["localEndpoints"]) == (("200", 1) if name in homes else ("503", 0))
    client = lab.outside()
    said = client.run(["curl", "-sS", "-m", "5", f"http://[{external(lab, 'local')[1]}]/clientip"]).stdout
    assert said.startswith(f"[{client.ips[1]}]:")


def test_with_client_affinity_a_client_stays_with_one_node_in_ipv6(lab: Lab) -> None:
    lab.client.patch("Service", "all", {"spec": {"sessionAffinity": "ClientIP"}})
    lab.settle()
    assert len(arrivals(lab, external(lab, "all")[1])) == 1
    lab.client.patch("Service", "all", {"spec": {"sessionAffinity": "None"}})
    lab.settle()
    assert len(arrivals(lab, external(lab, "all")[1])) > 1
    assert "2001:db8:203" not in fabric("ip -6 rule")


def test_a_freed_address_leads_nowhere_in_either_family(lab: Lab) -> None:
    lab.apply(balanced("short", **BOTH))
    lab.settle()
    mine = [str(address) for address in external(lab, "short")]
    assert all(address in fabric("ip route; ip -6 route") for address in mine)
    lab.client.delete("Service", "short")
    lab.settle()
    assert not [address for address in mine if address in fabric("ip route; ip -6 route")]
    assert fabric("ip nexthop list groups").count("type resilient") == 4


def test_a_node_that_moves_takes_both_addresses_along(lab: Lab) -> None:
    old = lab.node(3).ips[1]
    lab.node(3).readdress()
    lab.settle()
    node = lab.client.get("Node", "node3")
    internal = [entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"]
    assert internal == [str(address) for address in lab.node(3).ips] == ["192.168.49.101", "fd00:49::101"]
    for found in lab.client.list("Pod", "default")[0]:
        if found["spec"]["nodeName"] == "node3":
            assert [entry["ip"] for entry in found["status"]["hostIPs"]] == internal
    wait_until(lab, "all", *EVERY)
    port = lab.client.get("Service", "all")["spec"]["ports"][0]["nodePort"]
    client = lab.outside()
    assert client.run(["curl", "-sS", "-m", "5", f"http://[{internal[1]}]:{port}/hostname"]).stdout in web(
        lab
    )
    assert client.run(["curl", "-sS", "-m", "1", f"http://[{old}]:{port}/hostname"]).returncode != 0


def test_programs_in_pods_serve_both_families_and_tell_the_real_peer(lab: Lab) -> None:
    serve = ["python3", "-m", "http.server", "--bind", "::", "8000"]
    echo: Obj = {"image": "example.com/anything", "ports": [{"containerPort": 7000}]}
    names = [{"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}]
    lab.apply(
        pod("echo", echo),
        pod("onhost", {**echo, "ports": [{"containerPort": 7001}]}, hostNetwork=True, nodeName="node1"),
        pod("boxed", {"image": SHELL, "command": serve, "env": names, "ports": [{"containerPort": 8000}]}),
    )
    lab.settle()
    client = lab.outside()
    for host, port in (("echo", 7000), ("onhost", 7001)):
        found = lab.client.get("Pod", host)["status"]["podIPs"]
        for address, mine in zip((entry["ip"] for entry in found), client.ips, strict=True):
            with client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
                sock.settimeout(5)
                sock.connect((address, port))
                sock.sendall(b"hello\n")
                said = sock.recv(4096).decode()
                shown = f"[{mine}]" if mine.version == 6 else str(mine)
                assert f"pod={host} " in said
                assert f"client={shown}:{sock.getsockname()[1]}\n" in said
    boxed = lab.pod("boxed")
    assert boxed.run("echo $IPS").stdout.strip() == ",".join(str(address) for address in boxed.ips)
    for address in boxed.ips:
        url = f"http://[{address}]:8000/" if address.version == 6 else f"http://{address}:8000/"
        asked = [
            "curl",
            "-sS",
            "--retry",
            "5",
            "--retry-connrefused",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]
        assert client.run([*asked, url]).stdout == "200"


def test_a_port_that_is_taken_is_told_as_of_both_families(lab: Lab) -> None:
    one: Obj = {"image": "example.com/anything", "ports": [{"containerPort": 7000}]}
    lab.apply(pod("twice", one, containers=[{"name": "a", **one}, {"name": "b", **one}]))
    lab.settle()
    statuses = lab.client.get("Pod", "twice")["status"]["containerStatuses"]
    ended = [
        status["lastState"].get("terminated") or status["state"].get("terminated") for status in statuses
    ]
    assert "listen tcp [::]:7000: bind: address already in use" in str([end for end in ended if end])


def test_nothing_is_on_the_wires_when_nobody_speaks(lab: Lab) -> None:
    with lab.capture() as capture:
        assert lab.pods("app=web")[0].run("ping -6 -c 1 -W 5 2001:db8:198::11").returncode == 0
    said = [packet for frame in capture.packets if (packet := read(frame.data)) is not None]
    assert {packet.flags for packet in said if packet.protocol in ("NDP", "MLD")} <= {"who has", "is at"}


@pytest.mark.parametrize("component", ["kubeproxy", "vswitchd"])
def test_a_part_that_is_started_again_serves_both_families_as_before(lab: Lab, component: str) -> None:
    flows = steady(lab)
    addresses = lab.client.get("Service", "all")["spec"]["clusterIPs"]
    lab.kill(component)
    lab.restart(component)
    lab.settle()
    assert steady(lab) == flows
    for address in addresses:
        url = f"http://[{address}]/hostname" if ":" in address else f"http://{address}/hostname"
        assert lab.node(2).run(["curl", "-sS", "-m", "5", url]).stdout in web(lab)
