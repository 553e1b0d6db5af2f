"""[sig-network] Services: a ClusterIP over pods that come and go."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.objects import service_object
from tests.conformance.traffic import fetch

GROUP = "Services"


@case(GROUP, "should serve a basic endpoint from pods")
def basic_endpoint(kit: Kit) -> None:
    service, client = kit.service("web"), kit.client()
    assert kit.addresses("web") == set()
    for names in (("web-1",), ("web-1", "web-2"), ("web-2",), ()):
        running = {pod["metadata"]["name"] for pod in kit.list("Pod", "app=web")}
        for number, name in enumerate(sorted(set(names) - running), 1):
            kit.pod(name, number, app="web")
        if gone := running - set(names):
            kit.delete("Pod", *gone)
        assert kit.addresses("web") == {kit.ip(name) for name in names}
        endpoints = kit.get("Endpoints", "web").get("subsets") or []
        listed = {a["ip"] for subset in endpoints for a in subset.get("addresses") or ()}
        assert listed == kit.addresses("web"), f"Endpoints say {listed}"
        kit.reach(client, service, set(names) or "refused")
    kit.pod("web-1", 1, app="web")
    kit.by_name(client, service, {"web-1"})


@case(GROUP, "should serve multiport endpoints from pods")
def multiport_endpoints(kit: Kit) -> None:
    ports = [
        {"name": f"portname{n}", "port": 80 + n, "protocol": "TCP", "targetPort": f"svc{n + 1}"}
        for n in (0, 1)
    ]
    service, client = kit.service("multi", ports=ports), kit.client()
    kit.pod("one", 1, app="multi", port=100, port_name="svc1")
    kit.pod("two", 2, app="multi", port=101, port_name="svc2")
    address = service["spec"]["clusterIP"]
    kit.reach(client, f"{address}:80", {"one"})
    kit.reach(client, f"{address}:81", {"two"})
    kit.by_name(client, service, {"one"})
    kit.delete("Pod", "one")
    kit.reach(client, f"{address}:80", "refused")
    kit.reach(client, f"{address}:81", {"two"})
    kit.delete("Pod", "two")
    kit.reach(client, f"{address}:81", "refused")


@case(GROUP, "should be updated after adding or deleting ports")
def ports_added_and_deleted(kit: Kit) -> None:
    one = {"name": "a", "port": 80, "protocol": "TCP", "targetPort": "svc1"}
    two = {"name": "b", "port": 81, "protocol": "TCP", "targetPort": "svc2"}
    service, client = kit.service("web", ports=[one]), kit.client()
    kit.pod("web-1", 1, app="web", port=100, port_name="svc1")
    address = service["spec"]["clusterIP"]
    kit.reach(client, f"{address}:80", {"web-1"})
    kit.patch("Service", "web", {"spec": {"ports": [one, two]}})
    kit.pod("web-2", 2, app="web", port=101, port_name="svc2")
    kit.reach(client, f"{address}:80", {"web-1"})
    kit.reach(client, f"{address}:81", {"web-2"})
    kit.patch("Service", "web", {"spec": {"ports": [two]}})
    kit.reach(client, f"{address}:80", "refused")
    kit.reach(client, f"{address}:81", {"web-2"})


@case(GROUP, "should preserve source pod IP for traffic thru service cluster IP [LinuxOnly]")
def source_pod_ip(kit: Kit) -> None:
    service = kit.service("echo")
    kit.pod("echo-1", 1, app="echo")
    for node in (1, 2):
        kit.reach(kit.client(node), service, {"echo-1"}, source="sender")


@case(GROUP, "should allow pods to hairpin back to themselves through services")
def hairpin(kit: Kit) -> None:
    kit.pod("alone", 1)
    kit.reach("pod/alone", kit.service("alone"), {"alone"}, source="hairpin")


@case(GROUP, "should be able to up and down services")
def up_and_down(kit: Kit) -> None:
    client = kit.client(3)
    one, one_pods = kit.service("up-one"), kit.pods("up-one", (1, 2, 3))
    two, two_pods = kit.service("up-two"), kit.pods("up-two", (1, 2, 3))
    for sender in (client, "node1"):
        kit.reach(sender, one, one_pods)
        kit.reach(sender, two, two_pods)
    kit.delete("Service", "up-one")
    assert kit.ask(client, one).fate in ("dropped", "refused", "unreachable")
    kit.reach(client, two, two_pods)
    three, three_pods = kit.service("up-three"), kit.pods("up-three", (1, 2, 3))
    assert three["spec"]["clusterIP"] != two["spec"]["clusterIP"]
    kit.reach(client, two, two_pods)
    kit.reach(client, three, three_pods)


@case(GROUP, "should work after the service has been recreated")
def recreated(kit: Kit) -> None:
    pods, client = kit.pods("web"), kit.client()
    kit.reach(client, kit.service("web"), pods)
    kit.delete("Service", "web")
    kit.reach(client, kit.service("web"), pods)


@case(GROUP, "should find a service from listing all namespaces")
def list_all_namespaces(kit: Kit) -> None:
    listed, _ = kit.client_api.list("Service")
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in listed}
    assert ("default", "kubernetes") in names, f"the Services are {sorted(names)}"


@case(GROUP, "should delete a collection of services")
def delete_collection(kit: Kit) -> None:
    for number in (1, 2, 3):
        kit.service(f"svc-{number}", app=None, labels={"group": "keep" if number == 3 else "go"})
    path = f"/api/v1/namespaces/{kit.namespace}/services"
    kit.api.request("DELETE", path, query={"labelSelector": "group=go"})
    kit.settle()
    assert [one["metadata"]["name"] for one in kit.list("Service")] == ["svc-3"]


@case(GROUP, "should complete a service status lifecycle")
def status_lifecycle(kit: Kit) -> None:
    made = service_object(
        "status", app=None, type="LoadBalancer", loadBalancerClass="example.com/internal-vip"
    )
    made["metadata"]["labels"] = {"test-service-static": "true"}
    kit.create(made)
    kit.settle()
    path = f"/api/v1/namespaces/{kit.namespace}/services/status/status"
    assert kit.api.request("GET", path)["metadata"]["name"] == "status"
    balancer = {"ingress": [{"ip": "203.0.113.1"}]}
    kit.patch("Service", "status", {"status": {"loadBalancer": balancer}}, subresource="status")
    assert kit.get("Service", "status")["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
    held = kit.get("Service", "status")
    condition = {
        "type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    held["status"]["conditions"] = [condition]
    kit.client_api.update(held, "status")
    assert kit.get("Service", "status")["status"]["conditions"][0]["type"] == "StatusUpdate"
    kit.patch("Service", "status", {"metadata": {"labels": {"test-service": "patched"}}})
    kit.settle()
    after = kit.get("Service", "status")
    assert after["metadata"]["labels"]["test-service"] == "patched"
    assert after["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1", "the class is another's"
    kit.delete("Service", "status")
    assert kit.list("Service") == []


@case(GROUP, "should serve endpoints on same port and different protocols")
def same_port_two_protocols(kit: Kit) -> None:
    both = [
        {"name": "tcp-port", "port": 80, "protocol": "TCP", "targetPort": 8080},
        {"name": "udp-port", "port": 80, "protocol": "UDP", "targetPort": 8080},
    ]
    service, client = kit.service("mixed", ports=both), kit.client(2)
    kit.pod("mixed-1", 1, app="mixed")
    address = service["spec"]["clusterIP"]
    for protocols in (("tcp", "udp"), ("tcp",), ("udp",)):
        wanted = [port for port in both if str(port["protocol"]).lower() in protocols]
        kit.patch("Service", "mixed", {"spec": {"ports": wanted}})
        for protocol in ("tcp", "udp"):
            kit.reach(client, f"{address}:80/{protocol}", {"mixed-1"} if protocol in protocols else "refused")
        if "tcp" in protocols:
            kit.by_name(client, service, {"mixed-1"})


@case(
    GROUP,
    "should serve endpoints on same port and different protocol for internal traffic on Type LoadBalancer",
)
def balancer_two_protocols(kit: Kit) -> None:
    service = kit.service("mixed", ports=[(80, "TCP"), (80, "UDP")], type="LoadBalancer")
    client = kit.client(2)
    kit.pod("mixed-1", 1, app="mixed")
    for protocol in ("tcp", "udp"):
        kit.reach(client, f"{service['spec']['clusterIP']}:80/{protocol}", {"mixed-1"})


@case(GROUP, "should allow creating a basic SCTP service with pod and endpoints [LinuxOnly][Serial]")
def sctp_objects(kit: Kit) -> None:
    before = _modules()
    port = {"name": "sctp", "port": 5060, "protocol": "SCTP", "targetPort": 5060}
    kit.service("sctp", ports=[port])
    pod = kit.pod("sctp-1", 1, app="sctp")
    kit.wait_ready(pod)
    assert kit.addresses("sctp") == {kit.ip(pod)}
    slices = kit.list("EndpointSlice", "kubernetes.io/service-name=sctp")
    assert {p["protocol"] for one in slices for p in one["ports"]} == {"SCTP"}
    assert ("sctp" in _modules()) == ("sctp" in before), "the module sctp was loaded"


def _modules() -> set[str]:
    """The kernel's loaded modules; none on a kernel without modules."""
    listing = Path("/proc/modules")
    return {line.split()[0] for line in listing.read_text().splitlines()} if listing.exists() else set()


@case(GROUP, "should support named targetPorts that resolve to different ports on different endpoints")
def named_target_ports(kit: Kit) -> None:
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "serve"}
    service, client = kit.service("named", ports=[port]), kit.client(3)
    kit.pod("old", 1, app="named", port=8080, port_name="serve")
    kit.pod("new", 2, app="named", port=9090, port_name="serve")
    kit.reach(client, service, {"old", "new"})
    assert fetch(kit.host(client), kit.target(f"{kit.ip('new')}:9090"), "/hostname") == (200, "new")
    kit.delete("Pod", "old")
    kit.reach(client, service, {"new"})
