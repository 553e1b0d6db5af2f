"""[sig-network] Services: NodePort, ExternalName, external addresses, and every change between types."""

from __future__ import annotations

from collections.abc import Collection

from tests.conformance.case import NotThere, case
from tests.conformance.kit import Kit, has_dns
from tests.conformance.objects import Obj, service_object
from tests.conformance.traffic import listens

GROUP = "Services"
NODES = (1, 2, 3)
OUTSIDE_ADDRESS = "203.0.113.250"


def reachable(kit: Kit, service: Obj, sender: str, pods: Collection[str]) -> None:
    """By ClusterIP, and by the node port of every node from inside and outside the cluster."""
    kit.reach(sender, service, pods)
    for port in service["spec"]["ports"]:
        if port.get("nodePort"):
            for node in NODES:
                at = kit.node_port(service, node, protocol=port["protocol"])
                kit.reach(sender, at, pods)
                kit.reach("client1", at, pods)


@case(GROUP, "should be able to create a functioning NodePort service")
def node_port(kit: Kit) -> None:
    service, pods, client = kit.service("web", type="NodePort"), kit.pods("web"), kit.client(3)
    reachable(kit, service, client, pods)
    kit.by_name(client, service, pods, strict=True)


@case(
    GROUP,
    "should be possible to connect to a service via ExternalIP "
    "when the external IP is not assigned to a node",
)
def external_ip(kit: Kit) -> None:
    service = kit.service("web", externalIPs=[OUTSIDE_ADDRESS])
    pods, client = kit.pods("web"), kit.client(3)
    kit.reach(client, service, pods)
    kit.reach(client, f"{OUTSIDE_ADDRESS}:80", pods)
    kit.by_name(client, service, pods)


@case(
    GROUP,
    "should be able to update service type to NodePort listening on same port number but different protocols",
)
def to_node_port_with_two_protocols(kit: Kit) -> None:
    service, pods, client = kit.service("web"), kit.pods("web"), kit.client(3)
    assert "nodePort" not in service["spec"]["ports"][0]
    kit.patch("Service", "web", {"spec": {"type": "NodePort"}})
    reachable(kit, kit.refresh(service), client, pods)
    tcp = kit.refresh(service)["spec"]["ports"][0]
    udp = {"name": "udp-80", "port": 80, "protocol": "UDP", "targetPort": 8080}
    kit.patch("Service", "web", {"spec": {"ports": [tcp, udp]}})
    changed = kit.refresh(service)
    assert all(port["nodePort"] for port in changed["spec"]["ports"])
    assert changed["spec"]["ports"][0]["nodePort"] == tcp["nodePort"], "the first node port moved"
    reachable(kit, changed, client, pods)
    kit.reach(client, f"{changed['spec']['clusterIP']}:80/udp", pods)
    kit.by_name(client, changed, pods)


def named(kit: Kit, name: str) -> Obj:
    """An ExternalName Service for the world outside."""
    service = service_object(name, (), app=None, type="ExternalName", externalName="example.com")
    del service["spec"]["ports"]
    return kit.create(service)


@case(GROUP, "should be able to change the type from ExternalName to ClusterIP", type="ClusterIP")
@case(GROUP, "should be able to change the type from ExternalName to NodePort", type="NodePort")
def from_external_name(kit: Kit, type: str) -> None:
    assert not named(kit, "web")["spec"].get("clusterIP")
    pods, client = kit.pods("web"), kit.client(3)
    spec = service_object("web", type=type)["spec"]
    kit.patch("Service", "web", {"spec": {**spec, "externalName": None}})
    service = kit.get("Service", "web")
    assert service["spec"]["clusterIP"]
    assert bool(service["spec"]["ports"][0].get("nodePort")) == (type == "NodePort")
    reachable(kit, service, client, pods)
    kit.by_name(client, service, pods, strict=True)


@case(GROUP, "should be able to change the type from ClusterIP to ExternalName", type="ClusterIP")
@case(GROUP, "should be able to change the type from NodePort to ExternalName", type="NodePort")
def to_external_name(kit: Kit, type: str) -> None:
    service, pods, client = kit.service("web", type=type), kit.pods("web"), kit.client(3)
    other, other_pods = kit.service("target"), kit.pods("target", (1,))
    reachable(kit, service, client, pods)
    target = f"target.{kit.namespace}.svc.cluster.local"
    change = {"type": "ExternalName", "externalName": target, "clusterIP": None, "clusterIPs": None}
    kit.patch("Service", "web", {"spec": change})
    changed = kit.refresh(service)
    assert not changed["spec"].get("clusterIP")
    assert not any(port.get("nodePort") for port in changed["spec"].get("ports") or ())
    address = service["spec"]["clusterIP"]
    assert kit.ask(client, f"{address}:80").fate in ("dropped", "refused", "unreachable")
    if type == "NodePort":
        kit.reach("client1", kit.node_port(service), "refused")
    if not has_dns(kit.lab):
        raise NotThere("the cluster's DNS: all passed but the CNAME of the new type")
    found = kit.host(client).run(["nslookup", f"web.{kit.namespace}.svc.cluster.local"]).stdout
    assert target in found, found
    assert other["spec"]["clusterIP"] in found, found
    kit.by_name(client, other, other_pods)


@case(GROUP, "should prevent NodePort collisions")
def node_port_collisions(kit: Kit) -> None:
    port = kit.service("first", app=None, type="NodePort")["spec"]["ports"][0]
    taken = {"port": 80, "protocol": "TCP", "nodePort": port["nodePort"]}
    second = service_object("second", [taken], app=None, type="NodePort")
    kit.rejected("provided port is already allocated", lambda: kit.create(second))
    kit.rejected(str(port["nodePort"]), lambda: kit.create(second))
    kit.delete("Service", "first")
    kit.create(second)


@case(GROUP, "should check NodePort out-of-range")
def node_port_out_of_range(kit: Kit) -> None:
    held = kit.service("web", app=None, type="NodePort")
    wrong = {"port": 80, "protocol": "TCP", "nodePort": 29999}
    words = "port is not in the valid range"
    kit.rejected(words, lambda: kit.patch("Service", "web", {"spec": {"ports": [wrong]}}))
    kit.rejected("29999", lambda: kit.patch("Service", "web", {"spec": {"ports": [wrong]}}))
    kit.delete("Service", "web")
    kit.rejected(words, lambda: kit.create(service_object("web", [wrong], app=None, type="NodePort")))
    assert 30000 <= held["spec"]["ports"][0]["nodePort"] <= 32767


@case(GROUP, "should release NodePorts on delete")
def node_port_released(kit: Kit) -> None:
    service, pods = kit.service("web", type="NodePort"), kit.pods("web", (1,))
    at = kit.node_port(service, 2)
    kit.reach("client1", at, pods)
    kit.delete("Service", "web")
    assert not listens(kit.node(2), service["spec"]["ports"][0]["nodePort"])
    kit.reach("client1", at, "refused")
    again = {
        "port": 80,
        "protocol": "TCP",
        "targetPort": 8080,
        "nodePort": service["spec"]["ports"][0]["nodePort"],
    }
    kit.service("web", ports=[again], type="NodePort")
    kit.reach("client1", at, pods)
