"""The fabric as a cloud's load balancer: real health checks from its namespace, real ECMP."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from socket import AF_INET, AF_INET6, SO_LINGER, SO_REUSEADDR, SOL_SOCKET

import pytest

from controller.api.objects import Obj
from scenarios.packet import read
from tests.net.test_lab import WEB
from topo.capture import Captured
from topo.cloud import Cloud
from topo.config import HealthCheckConfig
from topo.lab import ClusterConfig, Lab
from topo.netns import Netns

QUICK = HealthCheckConfig(interval=0.1)
CLOUDY = ClusterConfig(cloud=True, health_check=QUICK)
EVERY = ("node1", "node2", "node3")
POOL = IPv4Network("203.0.113.0/24")
SYNS = 60
TAINT = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}


def balanced(name: str, **spec: object) -> Obj:
    ports = [{"port": 80, "targetPort": 8080}]
    whole = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(CLOUDY) as lab:
        lab.apply(WEB, balanced("all"), balanced("local", externalTrafficPolicy="Local"))
        lab.settle()
        yield lab


def cloud_of(lab: Lab) -> Cloud:
    assert lab.cloud is not None
    return lab.cloud


def ingress(lab: Lab, name: str) -> str:
    entries = lab.client.get("Service", name)["status"]["loadBalancer"].get("ingress") or [
        {"ip": "<pending>"}
    ]
    return str(entries[0]["ip"])


def vip(lab: Lab, name: str) -> IPv4Address:
    return IPv4Address(ingress(lab, name))


def wait_until(lab: Lab, name: str, *nodes: str) -> None:
    address = vip(lab, name)
    cloud_of(lab).wait_for(lambda routes: routes.get(address) == nodes)


def fabric(command: str) -> str:
    process = Netns.open("fabric").popen(["sh", "-c", command], stdout=-1, stderr=-2, text=True)
    return str(process.communicate(timeout=20)[0])


def health(lab: Lab, node: int, port: int, path: str = "healthz") -> tuple[int, Obj]:
    """What the fabric is told."""
    url = f"http://{lab.node(node).ip}:{port}/{path}"
    body, _, code = fabric(f"curl -s -m 3 -w '\\n%{{http_code}}' {url}").rpartition("\n")
    return int(code), json.loads(body or "{}")


def arrivals(lab: Lab, address: IPv4Address | IPv6Address) -> Counter[str]:
    """By which uplinks the first packets of new connections come in, addressed as they were sent."""
    client = lab.outside()
    mine = next(str(own) for own in client.ips if own.version == address.version)
    sockets = []
    with lab.capture("node*-uplink") as capture:
        for port in range(42000, 42000 + SYNS):
            sock = client.socket(AF_INET if address.version == 4 else AF_INET6)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # closed without a trace
            sock.setblocking(False)
            sock.bind(("", port))
            sock.connect_ex((str(address), 80))
            sockets.append(sock)
        capture.wait_for(lambda frames: len(ways_in(frames, mine, str(address))) == SYNS)
        for sock in sockets:
            sock.close()
    return Counter(ways_in(capture.packets, mine, str(address)).values())


def ways_in(frames: Sequence[Captured], client: str, address: str) -> dict[int, str]:
    """Source port -> the node at which its SYN came in, one hop from the client, with nothing rewritten."""
    found = {}
    for frame in frames:
        packet = read(frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=False)
        if packet is not None and packet.flags == "SYN" and packet.ttl == 63:
            assert (packet.src.address, packet.dst.address, packet.dst.port) == (client, address, 80)
            found[packet.src.port] = packet.link.removesuffix("-uplink")
    return found


def test_settled_services_have_an_address_that_leads_to_every_healthy_node(lab: Lab) -> None:
    assert vip(lab, "all") in POOL
    assert cloud_of(lab).routes[vip(lab, "all")] == EVERY


def test_connections_are_spread_over_the_nodes_unchanged(lab: Lab) -> None:
    found = arrivals(lab, vip(lab, "all"))
    assert sum(found.values()) == SYNS
    assert set(found) == set(EVERY)
    assert min(found.values()) >= SYNS / 3 / 3, found


def test_the_same_connection_always_takes_the_same_way(lab: Lab) -> None:
    assert arrivals(lab, vip(lab, "all")) == arrivals(lab, vip(lab, "all"))


def test_with_client_affinity_a_client_stays_with_one_node_until_that_fails(lab: Lab) -> None:
    lab.client.patch("Service", "all", {"spec": {"sessionAffinity": "ClientIP"}})
    lab.settle()
    (first,) = arrivals(lab, vip(lab, "all"))
    lab.client.patch("Node", first, {"spec": {"taints": [TAINT]}})
    wait_until(lab, "all", *(name for name in EVERY if name != first))
    (second,) = arrivals(lab, vip(lab, "all"))
    assert second != first
    lab.client.patch("Node", first, {"spec": {"taints": None}})
    wait_until(lab, "all", *EVERY)
    assert set(arrivals(lab, vip(lab, "all"))) == {first}
    lab.client.patch("Service", "all", {"spec": {"sessionAffinity": "None"}})
    lab.settle()
    assert len(arrivals(lab, vip(lab, "all"))) > 1
    assert "203.0.113" not in fabric("ip rule")


def test_policy_local_leads_to_the_nodes_with_a_ready_endpoint_and_follows_them(lab: Lab) -> None:
    homes = tuple(sorted({pod.node for pod in lab.pods("app=web")}))
    assert len(homes) == 2
    wait_until(lab, "local", *homes)
    assert set(arrivals(lab, vip(lab, "local"))) == set(homes)
    port = lab.client.get("Service", "local")["spec"]["healthCheckNodePort"]
    for number, name in enumerate(EVERY, 1):
        code, body = health(lab, number, port)
        assert body == {
            "service": {"namespace": "default", "name": "local"},
            "localEndpoints": int(name in homes),
            "serviceProxyHealthy": True,
        }
        assert code == (200 if name in homes else 503)
    lab.client.patch("Deployment", "web", {"spec": {"replicas": 3}})
    lab.settle()
    wait_until(lab, "local", *EVERY)
    lab.client.patch("Deployment", "web", {"spec": {"replicas": 0}})
    lab.settle()
    wait_until(lab, "local")
    assert "unreachable" in fabric(f"ip route show {vip(lab, 'local')}")
    assert cloud_of(lab).routes[vip(lab, "all")] == EVERY
    lab.client.patch("Deployment", "web", {"spec": {"replicas": 2}})
    lab.settle()


def test_a_node_that_is_to_go_gets_nothing_new(lab: Lab) -> None:
    lab.client.patch("Node", "node2", {"spec": {"taints": [TAINT]}})
    lab.settle()
    assert health(lab, 2, 10256)[0] == 503
    assert health(lab, 2, 10256, "livez")[0] == 200
    wait_until(lab, "all", "node1", "node3")
    assert set(arrivals(lab, vip(lab, "all"))) == {"node1", "node3"}
    lab.client.patch("Node", "node2", {"spec": {"taints": None}})
    wait_until(lab, "all", *EVERY)


def test_an_excluded_node_is_no_target_and_is_one_again(lab: Lab) -> None:
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    lab.client.patch("Node", "node1", {"metadata": {"labels": {label: ""}}})
    lab.settle()
    assert cloud_of(lab).routes[vip(lab, "all")] == ("node2", "node3")
    lab.client.patch("Node", "node1", {"metadata": {"labels": {label: None}}})
    wait_until(lab, "all", *EVERY)


def test_the_answers_end_with_the_kubeproxy_and_so_do_the_ways(lab: Lab) -> None:
    assert health(lab, 1, 10256)[1]["nodeEligible"] is True
    lab.kill("kubeproxy")
    assert health(lab, 1, 10256) == (0, {})
    wait_until(lab, "all")
    said = lab.outside().run(["curl", "-sS", "-m", "3", f"http://{vip(lab, 'all')}/"])
    assert said.returncode == 7
    lab.restart("kubeproxy")
    lab.settle()
    wait_until(lab, "all", *EVERY)


def test_ways_stay_while_the_apiserver_is_away_and_it_settles_when_it_is_back(lab: Lab) -> None:
    wait_until(lab, "local", *sorted({pod.node for pod in lab.pods("app=web")}))
    before = cloud_of(lab).routes
    lab.kill("apiserver")
    assert sum(arrivals(lab, IPv4Address(next(iter(before)))).values()) == SYNS
    lab.restart("apiserver")
    lab.settle()
    assert cloud_of(lab).routes == before


def test_a_node_with_another_address_is_asked_there(lab: Lab) -> None:
    lab.node(3).readdress()
    lab.settle()
    assert health(lab, 3, 10256)[0] == 200
    wait_until(lab, "all", *EVERY)
    assert arrivals(lab, vip(lab, "all"))["node3"] > 0


def test_a_freed_address_leads_nowhere_and_leaves_nothing(lab: Lab) -> None:
    lab.apply(balanced("short", loadBalancerIP="203.0.113.200"))
    lab.settle()
    assert "203.0.113.200" in fabric("ip route")
    lab.client.patch("Service", "short", {"spec": {"type": "ClusterIP"}})
    lab.settle()
    assert "203.0.113.200" not in fabric("ip route")
    assert fabric("ip nexthop list groups").count("type resilient") == 2
    lab.client.delete("Service", "short")
    lab.settle()
