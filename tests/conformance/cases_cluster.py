"""What is about the cluster: proxy subresources, restarts of its parts, two families, zones, environment."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from ipaddress import ip_address

from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj
from tests.conformance.traffic import Target, fetch

PROXY, DUAL, SPREAD = "Proxy version v1", "Dual stack", "Traffic Distribution"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


# -- restarts


@case("Services", "should work after restarting kube-proxy [Disruptive]", part="kubeproxy")
@case("Services", "should work after restarting apiserver [Disruptive]", part="apiserver")
def restarted(kit: Kit, part: str) -> None:
    client = kit.host(kit.client(3))  # looked up while there is somebody to ask
    first, first_pods = kit.service("first"), kit.pods("first")
    second, second_pods = (
        (kit.service("second"), kit.pods("second")) if part == "kubeproxy" else (first, first_pods)
    )
    kit.reach(client, first, first_pods)
    kit.lab.kill(part)
    try:
        kit.reach(client, first, first_pods)
    finally:
        kit.lab.restart(part)
    kit.settle()
    kit.reach(client, first, first_pods)
    kit.reach(client, second, second_pods)
    third = kit.service("third", app="first")
    assert third["spec"]["clusterIP"] != first["spec"]["clusterIP"]
    kit.reach(client, third, first_pods)


@case("Networking", "should recreate its iptables rules if they are deleted [Disruptive]")
def rules_deleted(kit: Kit) -> None:
    """Upstream deletes a chain and rules of iptables. Here every flow and group of a node's bridge is
    deleted behind the kubeproxy's back: it must see that and bring them back by itself."""
    service, pods = kit.service("web"), kit.pods("web")
    client, bridge = kit.client(1), kit.node(1).bridge
    kit.reach(client, service, pods)
    kit.lab.ovs.ofctl("del-flows", bridge)
    kit.lab.ovs.ofctl("del-groups", bridge)
    kit.until(lambda: kit.ask(client, service, timeout=1).who in pods, "the flows are back", timeout=25)
    kit.settle()
    kit.reach(client, service, pods)


# -- networking


@case("Networking", "should check kube-proxy urls")
def proxy_urls(kit: Kit) -> None:
    for node in (1, 2):
        host, at = kit.host(kit.host_client(node)), "127.0.0.1"
        code, body = fetch(host, Target(address=at, port=10256), "/healthz")
        assert code == 200, f"node{node} :10256/healthz: {code} {body}"
        code, body = fetch(host, Target(address=at, port=10249), "/proxyMode")
        assert code == 200, f"node{node} :10249/proxyMode: {code} {body}"


@case(
    "Networking", "should provide Internet connection for containers [Feature:Networking-IPv4]", family="IPv4"
)
@case(
    "Networking", "should provide Internet connection for containers [Feature:Networking-IPv6]", family="IPv6"
)
def internet(kit: Kit, family: str) -> None:
    """client1 stands for the internet: it knows nothing of pods, and its refusal must find the way back."""
    kit.reach(kit.client(2), f"{_url(kit.address('client1', family))}:9", "refused")


def _url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@case("Networking", "should provide unchanging, static URL paths for kubernetes api services")
def static_paths(kit: Kit) -> None:
    missing = []
    for path in ("/healthz", "/api", "/apis", "/metrics", "/openapi/v2", "/version"):
        code, _ = kit.http("GET", path)
        if code != 200:
            missing.append(f"{path} ({code})")
    assert not missing, f"not served: {', '.join(missing)}"


@case("Networking", "should allow creating a Pod with an SCTP HostPort [LinuxOnly]")
def sctp_host_port(kit: Kit) -> None:
    def change(pod: Obj) -> Obj:
        pod["spec"]["containers"][0]["ports"] = [
            {"containerPort": 5060, "hostPort": 5060, "hostIP": "127.0.0.1", "protocol": "SCTP"}
        ]
        return pod

    kit.wait_ready(kit.pod("hostport", 1, change=change))


@case("Networking others", "IPerf2 should run iperf2")
def iperf(kit: Kit) -> None:
    """iperf3 in the place of iperf2, from a node to a pod's network: upstream only wants a figure."""
    kit.pods("server", (1,))
    server = kit.running("server-1")
    command = ["iperf3", "-J", "-t", "1", "-c", str(server.ip), "-p", "5201"]
    reports: list[str] = []

    def measured() -> bool:
        reports.append(kit.host("node2").run(command).stdout)
        return "sum_received" in reports[-1]

    with server.netns.popen(["iperf3", "-s", "-1", "-p", "5201"], stdout=subprocess.DEVNULL) as process:
        try:
            kit.until(measured, "iperf3 reports a figure")
        finally:
            process.kill()
    assert json.loads(reports[-1])["end"]["sum_received"]["bits_per_second"] > 0


@case("Networking others", "NoSNAT Should be able to send traffic between Pods without SNAT")
def no_snat(kit: Kit) -> None:
    names = sorted(kit.pods("snat", (1, 2, 3)))
    for sender in names:
        for to in names:
            if sender != to:
                kit.reach(f"pod/{sender}", f"{kit.ip(to)}:8080", {to}, source="sender", times=1)


# -- the proxy subresources


@case(PROXY, "should proxy through a service and a pod")
def proxied(kit: Kit) -> None:
    kit.service("web", ports=[{"name": "portname1", "port": 80, "protocol": "TCP", "targetPort": 8080}])
    kit.pods("web", (1,))
    for at in ("pods/web-1:8080", "pods/http:web-1:8080", "services/web:80", "services/web:portname1"):
        for path in ("/hostname", "/echo?msg=proxied"):
            body = kit.text("GET", f"/api/v1/namespaces/{kit.namespace}/{at}/proxy{path}")
            assert body == ("web-1" if path == "/hostname" else "proxied"), f"{at}{path}: {body}"


@case(PROXY, "A set of valid responses are returned for both pod and service Proxy", path="")
@case(
    PROXY, "A set of valid responses are returned for both pod and service ProxyWithPath", path="/some/path"
)
def proxy_methods(kit: Kit, path: str) -> None:
    def echo(pod: Obj) -> Obj:
        pod["spec"]["containers"][0].pop("args")
        pod["spec"]["containers"][0]["image"] = "podwire/echo"
        return pod

    kit.service("web", ports=[{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}])
    kit.pods("web", (1,), change=echo)
    for at in ("pods/web-1:8080", "services/web:http"):
        for method in METHODS:
            url = f"/api/v1/namespaces/{kit.namespace}/{at}/proxy{path}"
            if not path and method in ("GET", "HEAD"):  # which must be sent on to what ends with a slash
                code, _ = kit.http(method, f"{url}?method={method}")
                assert code == 301, f"{method} {url}: {code}"
                url += "/"
            body = kit.text(method, f"{url}?method={method}")
            if method != "HEAD":
                seen = json.loads(body)
                assert (seen["method"], seen["path"]) == (method, path or "/"), f"{method} {at}: {body}"


@case(PROXY, "should proxy logs on node using proxy subresource", at="node1")
@case(PROXY, "should proxy logs on node with explicit kubelet port using proxy subresource", at="node1:10250")
def node_logs(kit: Kit, at: str) -> None:
    assert kit.text("GET", f"/api/v1/nodes/{at}/proxy/logs/")


# -- two families


@case(DUAL, "should have ipv4 and ipv6 internal node ip")
def node_families(kit: Kit) -> None:
    for node in kit.client_api.list("Node")[0]:
        found = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
        assert {ip_address(one).version for one in found} == {4, 6}, f"{node['metadata']['name']} has {found}"


@case(DUAL, "should create pod, add ipv6 and ipv4 ip to pod ips")
def pod_families(kit: Kit) -> None:
    _pod_addresses(kit, kit.pod("both", 1))


def _pod_addresses(kit: Kit, name: str) -> list[str]:
    found = [one["ip"] for one in kit.get("Pod", name)["status"]["podIPs"]]
    assert {ip_address(one).version for one in found} == {4, 6}, f"{name} has {found}"
    return found


@case(DUAL, "should be able to reach pod on ipv4 and ipv6 ip")
def pod_reached_by_both(kit: Kit) -> None:
    client, name = kit.client(2), kit.pod("both", 1)
    for address in _pod_addresses(kit, name):
        kit.reach(client, f"{_url(address)}:8080", {name})


@case(DUAL, "should create a single stack service with cluster ip from primary service range", families=None)
@case(DUAL, "should create service with ipv4 cluster ip", families=["IPv4"])
@case(DUAL, "should create service with ipv6 cluster ip", families=["IPv6"])
@case(DUAL, "should create service with ipv4,v6 cluster ip", families=["IPv4", "IPv6"])
@case(DUAL, "should create service with ipv6,v4 cluster ip", families=["IPv6", "IPv4"])
def service_families(kit: Kit, families: list[str] | None) -> None:
    many = "RequireDualStack" if families and len(families) == 2 else "SingleStack"
    spec: Obj = {"ipFamilies": families, "ipFamilyPolicy": many} if families else {}
    service = kit.service("families", **spec)
    pods, client = kit.pods("families", (1,)), kit.client(2)
    wanted = families or ["IPv4"]
    found = [f"IPv{ip_address(one).version}" for one in service["spec"]["clusterIPs"]]
    assert service["spec"]["ipFamilies"] == found == wanted, f"{service['spec']}"
    slices = kit.list("EndpointSlice", "kubernetes.io/service-name=families")
    assert {one["addressType"] for one in slices} == set(wanted)
    for address in service["spec"]["clusterIPs"]:
        kit.reach(client, f"{_url(address)}:80", pods)


# -- zones: a has node1 and node2, b has node3 and node4, c has node5


@case("Topology Hints", "should distribute endpoints evenly")
def hints(kit: Kit) -> None:
    service = kit.service("topo", labels={}, trafficDistribution="PreferClose")
    kit.patch(
        "Service", "topo", {"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}}
    )
    pods = kit.pods("topo", (1, 3, 5))
    (one,) = kit.list("EndpointSlice", "kubernetes.io/service-name=topo")
    for entry in one["endpoints"]:
        zones = [hint["name"] for hint in (entry.get("hints") or {}).get("forZones") or ()]
        assert zones == [entry["zone"]], (
            f"{entry['targetRef']['name']} in zone {entry['zone']} is for {zones}"
        )
    for node in (1, 3, 5):
        kit.reach(kit.client(node), service, {f"topo-{node}"}, times=10)
    assert len(pods) == 3


def distributed(kit: Kit, how: str, servers: Sequence[int], wanted: dict[int, set[str]]) -> Obj:
    """A Service over servers on nodes; the client on each node meets exactly these."""
    service = kit.service("near", trafficDistribution=how)
    kit.pods("near", servers)
    for node, names in wanted.items():
        kit.reach(kit.client(node), service, names, times=0 if len(names) > 1 else 10)
    return service


def _near(*nodes: int) -> set[str]:
    return {f"near-{node}" for node in nodes}


_SAME = "should route traffic to an endpoint in the same zone when using "
_MANY = "should route traffic correctly between pods on multiple nodes when using "


@case(SPREAD, _SAME + "PreferClose", how="PreferClose")
@case(SPREAD, _SAME + "PreferSameZone", how="PreferSameZone")
def same_zone(kit: Kit, how: str) -> None:
    distributed(kit, how, (1, 3, 5), {1: _near(1), 3: _near(3), 5: _near(5)})


@case(SPREAD, _MANY + "PreferClose", how="PreferClose")
@case(SPREAD, _MANY + "PreferSameZone", how="PreferSameZone")
def many_nodes(kit: Kit, how: str) -> None:
    """Zone a: clients and servers on both nodes; b: a client beside the other node's server; c: only a
    client, which meets every server."""
    servers = (1, 2, 4)
    distributed(kit, how, servers, {1: _near(1, 2), 2: _near(1, 2), 3: _near(4), 5: _near(*servers)})


@case(
    SPREAD,
    "should route traffic to an endpoint on the same node or fall back to same zone "
    "when using PreferSameNode",
)
def same_node(kit: Kit) -> None:
    servers = (1, 2, 4)
    distributed(kit, "PreferSameNode", servers, {1: _near(1), 2: _near(2), 3: _near(4), 5: _near(*servers)})


@case(
    SPREAD,
    "should route traffic to an endpoint on the same node when using PreferSameNode "
    "and fall back when the endpoint becomes unavailable",
)
def same_node_falls_back(kit: Kit) -> None:
    service = distributed(kit, "PreferSameNode", (1, 3), {1: _near(1), 3: _near(3)})
    kit.delete("Pod", "near-1")
    for node in (1, 3):
        kit.reach(f"pod/client-{node}", service, _near(3), times=10)
    kit.pod("again", 1, app="near")
    kit.reach("pod/client-1", service, {"again"}, times=10)
    kit.reach("pod/client-3", service, _near(3), times=10)


# -- the kubelet's part


@case("sig-node", "Pods should contain environment variables for services")
def environment(kit: Kit) -> None:
    service = kit.service("fooservice", ports=[8765])
    kit.pod("late", 1)
    held = dict(
        line.split("=", 1) for line in kit.host("pod/late").run(["env"]).stdout.splitlines() if "=" in line
    )
    address = service["spec"]["clusterIP"]
    wanted = {
        "FOOSERVICE_SERVICE_HOST": address,
        "FOOSERVICE_SERVICE_PORT": "8765",
        "FOOSERVICE_PORT": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP_PROTO": "tcp",
        "FOOSERVICE_PORT_8765_TCP_PORT": "8765",
        "FOOSERVICE_PORT_8765_TCP_ADDR": address,
    }
    lacking = {name: held.get(name) for name, value in wanted.items() if held.get(name) != value}
    assert not lacking, f"the environment says {lacking}"


@case("sig-node", "KubeletManagedEtcHosts should test kubelet managed /etc/hosts file")
def etc_hosts(kit: Kit) -> None:
    kit.pod("managed", 1)
    kit.pod("own", 1, port=10380, host_network=True)
    managed = kit.host("pod/managed").run(["cat", "/etc/hosts"]).stdout
    assert "# Kubernetes-managed hosts file." in managed, managed
    assert re.search(rf"^{re.escape(kit.ip('managed'))}\s+managed$", managed, re.MULTILINE), managed
    own = kit.host("pod/own").run(["cat", "/etc/hosts"]).stdout
    assert "# Kubernetes-managed hosts file." not in own, own


@case("sig-node", "Kubelet when scheduling a busybox Pod with hostAliases should write entries to /etc/hosts")
def host_aliases(kit: Kit) -> None:
    kit.pod("aliases", 1, hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}])
    text = kit.host("pod/aliases").run(["cat", "/etc/hosts"]).stdout
    assert re.search(r"^123\.45\.67\.89\s+foo\s+bar$", text, re.MULTILINE), text
