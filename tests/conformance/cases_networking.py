"""Granular Checks of networking.go, for the first and (dual_stack.go) the secondary address family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.case import NotThere, case
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj, agnhost
from tests.conformance.traffic import Target, connection, datagram, http

SERVICES = "Networking Granular Checks: Services"
SECONDARY = "Dual stack Granular Checks: Services Secondary IP Family"
PODS = "Networking Granular Checks: Pods"
NODES = (1, 2, 3)
LARGE = 2000
"""Bytes of upstream's large datagram; its large HTTP request is as long as a URL may be."""
Function = Callable[..., None]


def both(
    name: str, protocols: tuple[str, ...] = (), suffix: str = "", **args: Any
) -> Callable[[Function], Function]:
    """Enter a function for both families, and for each protocol in the name."""

    def enter(function: Function) -> Function:
        for group, family in ((SERVICES, "IPv4"), (SECONDARY, "IPv6")):
            for protocol in protocols or ("",):
                more: dict[str, Any] = (
                    {"protocol": "tcp" if protocol == "http" else protocol} if protocol else {}
                )
                full = f"{name}: {protocol}{suffix}" if protocol else name
                case(group, full, family=family, **more, **args)(function)
        return function

    return enter


def world(kit: Kit, family: str, *, sctp: bool = False, **spec: Any) -> tuple[Obj, set[str]]:
    """A node-port Service for TCP and UDP (and SCTP) over three pods; of both families where the second is
    asked."""
    protocols = ("TCP", "UDP", "SCTP") if sctp else ("TCP", "UDP")
    service = kit.service(
        "net", ports=[(80, one) for one in protocols], type="NodePort", **policy(family), **spec
    )
    return service, kit.pods("net", NODES, sctp=sctp)


def policy(family: str) -> Obj:
    return {"ipFamilyPolicy": "RequireDualStack"} if family == "IPv6" else {}


def need_sctp(kit: Kit) -> None:
    """Whether this kernel has SCTP at all."""
    try:
        connection(kit.node(1), Target(address="127.0.0.1", port=9, protocol="sctp")).close()
    except ConnectionRefusedError:
        return
    except OSError as error:
        raise NotThere(f"SCTP in this kernel ({error.strerror})") from None


def vip(service: Obj, protocol: str, family: str = "IPv4") -> str:
    address = dict(zip(service["spec"]["ipFamilies"], service["spec"]["clusterIPs"], strict=True))[family]
    return f"[{address}]:80/{protocol}" if ":" in address else f"{address}:80/{protocol}"


@both("should function for pod-Service", ("http", "udp", "sctp"), sender="pod")
@both("should function for node-Service", ("http", "udp", "sctp"), sender="node")
@both("should function for endpoint-Service", ("http", "udp", "sctp"), sender="endpoint")
def to_service(kit: Kit, family: str, protocol: str, sender: str) -> None:
    if protocol == "sctp":
        need_sctp(kit)
    service, pods = world(kit, family, sctp=protocol == "sctp")
    asks = kit.client(2) if sender == "pod" else "node1" if sender == "node" else "pod/net-1"
    kit.reach(asks, vip(service, protocol, family), pods)
    for node in (1, 2):
        kit.reach(asks, kit.node_port(service, node, protocol=protocol.upper(), family=family), pods)


@both("should update endpoints", ("http", "udp"))
def update_endpoints(kit: Kit, family: str, protocol: str) -> None:
    service, pods = world(kit, family)
    client = kit.client(2)
    kit.reach(client, vip(service, protocol, family), pods)
    kit.delete("Pod", "net-1")
    kit.reach(client, vip(service, protocol, family), pods - {"net-1"})


@case(SERVICES, "should update nodePort: http [Slow]", protocol="tcp")
@case(SERVICES, "should update nodePort: udp [Slow]", protocol="udp")
def update_node_port(kit: Kit, protocol: str) -> None:
    service, pods = world(kit, "IPv4")
    at = kit.node_port(service, 1, protocol=protocol.upper())
    kit.reach("node1", at, pods)
    ports = [{k: v for k, v in one.items() if k != "nodePort"} for one in service["spec"]["ports"]]
    kit.patch("Service", "net", {"spec": {"type": "ClusterIP", "ports": ports}})
    kit.reach("node1", at, "refused")
    kit.reach("client1", at, "refused")


@both("should function for client IP based session affinity", ("http", "udp"), " [LinuxOnly]")
def affinity(kit: Kit, family: str, protocol: str) -> None:
    service, _ = world(kit, family, sessionAffinity="ClientIP")
    client = kit.client(2)
    at_node = kit.node_port(service, 1, protocol=protocol.upper(), family=family)
    for to in (vip(service, protocol, family), at_node):
        met = {kit.ask(client, to).who for _ in range(15)}
        assert len(met) == 1, f"{client} to {to} met {sorted(met)}"
        assert met != {""}, f"nothing answered at {to}"


@both("should be able to handle large requests", ("http", "udp"))
def large_requests(kit: Kit, family: str, protocol: str) -> None:
    service, _ = world(kit, family)
    client, text = kit.client(2), "4" * LARGE
    target = kit.target(vip(service, protocol, family))
    with connection(kit.host(client), target) as sock:
        answer = http(sock, f"/echo?msg={text}")[1] if protocol == "tcp" else datagram(sock, f"echo {text}")
    assert answer == text, f"{LARGE} bytes by {target}: {answer[:40]} ({len(answer)} bytes)"


@both("should function for service endpoints using hostNetwork")
def host_network_endpoints(kit: Kit, family: str) -> None:
    ports = [{"name": p.lower(), "port": 80, "protocol": p, "targetPort": 10280} for p in ("TCP", "UDP")]
    service = kit.service("host", ports=ports, type="NodePort", **policy(family))
    pods = kit.pods("host", NODES, port=10280, host_network=True)
    client = kit.client(2)
    for sender in (client, "node1"):
        for protocol in ("tcp", "udp"):
            kit.reach(sender, vip(service, protocol, family), pods)
            at_node = kit.node_port(service, 1, protocol=protocol.upper(), family=family)
            kit.reach(sender, at_node, pods)


@case(SERVICES, "should function for multiple endpoint-Services with same selector")
def two_services(kit: Kit) -> None:
    service, pods = world(kit, "IPv4")
    second = kit.service("second", ports=[(80, "TCP"), (80, "UDP")], app="net", type="NodePort")
    client = kit.client(2)
    for one in (service, second):
        for protocol in ("tcp", "udp"):
            kit.reach(client, vip(one, protocol), pods)
    kit.delete("Service", "net")
    for protocol in ("tcp", "udp"):
        kit.reach(client, vip(second, protocol), pods)
        kit.reach(client, kit.node_port(second, 1, protocol=protocol.upper()), pods)
    assert kit.ask(client, vip(service, "tcp")).fate in ("dropped", "refused", "unreachable")


@case(SERVICES, "should support basic nodePort: udp functionality")
def udp_node_port(kit: Kit) -> None:
    service = kit.service("udp", ports=[(90, "UDP")], type="NodePort")
    pods, client = kit.pods("udp", NODES), kit.client(2)
    for sender in (client, "client1"):
        for node in NODES:
            kit.reach(sender, kit.node_port(service, node, protocol="UDP"), pods)


@case(PODS, "should function for intra-pod communication: http", protocol="tcp", sender="pod")
@case(PODS, "should function for intra-pod communication: udp", protocol="udp", sender="pod")
@case(PODS, "should function for intra-pod communication: sctp", protocol="sctp", sender="pod")
@case(PODS, "should function for node-pod communication: http", protocol="tcp", sender="node")
@case(PODS, "should function for node-pod communication: udp", protocol="udp", sender="node")
@case(PODS, "should function for node-pod communication: sctp", protocol="sctp", sender="node")
def to_pods(kit: Kit, protocol: str, sender: str) -> None:
    if protocol == "sctp":
        need_sctp(kit)
    pods = kit.pods("net", NODES, sctp=protocol == "sctp")
    client = kit.client(1) if sender == "pod" else "node1"
    for pod in sorted(pods):
        kit.reach(client, f"{kit.ip(pod)}:8080/{protocol}", {pod}, source="sender")


@case(
    "HostPort",
    "validates that there is no conflict between pods with same hostPort "
    "but different hostIP and protocol [LinuxOnly]",
)
def host_port(kit: Kit) -> None:
    at = str(kit.node(1).ip)
    wanted = (("one", "127.0.0.1", "TCP"), ("two", at, "TCP"), ("three", at, "UDP"))
    for name, address, protocol in wanted:

        def change(pod: Obj, address: str = address, protocol: str = protocol) -> Obj:
            ports = [{"containerPort": 8080, "hostPort": 54323, "hostIP": address, "protocol": protocol}]
            pod["spec"]["containers"][0]["ports"] = ports
            return pod

        kit.create(agnhost(name, "node1", name, change=change))
    kit.settle()
    for name, _, _ in wanted:
        kit.wait_ready(name)
    kit.reach("node1", "localhost:54323", {"one"})
    kit.reach("node1", f"{at}:54323", {"two"})
    kit.reach("node1", f"{at}:54323/udp", {"three"})
    for sender in (kit.client(2), "client1"):
        kit.reach(sender, f"{at}:54323", {"two"})
        kit.reach(sender, f"{at}:54323/udp", {"three"})
