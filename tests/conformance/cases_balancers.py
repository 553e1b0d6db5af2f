"""loadbalancer.go: the external address, by way of the fabric, which plays the cloud's balancer."""

from __future__ import annotations

import threading

from controller.api.errors import NotFound
from tests.conformance.case import NotThere, case
from tests.conformance.cases_conntrack import fixed_port, says
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj
from tests.conformance.traffic import Target, fetch

GROUP, ESIPP = "LoadBalancers", "LoadBalancers ESIPP"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
NODES = (1, 2, 3)
SHARE = 0.95
"""Of the requests during a rolling update must succeed; upstream's goal is 0.99."""
ENOUGH = 20
"""Requests after the last pod was replaced."""


def external(kit: Kit, name: str = "lb") -> str:
    """The address the cloud gave, once it leads somewhere."""

    def given() -> str:
        ingress = kit.get("Service", name).get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
        return str(ingress[0].get("ip", ""))

    address = kit.until(given, f"an external address for Service {name}")
    kit.settle()
    return address


def balanced(kit: Kit, *, local: bool, **spec: object) -> tuple[Obj, str, set[str]]:
    """(Service, its external address, its pods), reachable from outside."""
    policy = "Local" if local else "Cluster"
    service = kit.service("lb", type="LoadBalancer", externalTrafficPolicy=policy, **spec)  # type: ignore[arg-type]
    pods = kit.pods("lb", NODES)
    address = external(kit)
    wait_answers(kit, f"{address}:80")
    return service, address, pods


def wait_answers(kit: Kit, to: str) -> None:
    """The cloud has seen healthy nodes."""
    kit.until(lambda: kit.ask("client1", to, timeout=1).who, f"client1 is answered at {to}")


@case(GROUP, "should be able to change the type and ports of a TCP service", protocol="TCP")
@case(GROUP, "should be able to change the type and ports of a UDP service", protocol="UDP")
def type_and_ports(kit: Kit, protocol: str) -> None:
    word = protocol.lower()
    service, pods = kit.service("lb", ports=[(80, protocol)]), kit.pods("lb", NODES)
    kit.patch("Service", "lb", {"spec": {"type": "NodePort"}})
    first = kit.node_port(kit.refresh(service), 1, protocol=protocol)
    kit.reach("client1", first, pods)
    kit.patch("Service", "lb", {"spec": {"type": "LoadBalancer"}})
    address = external(kit)
    wait_answers(kit, f"{address}:80/{word}")
    kit.reach("client1", f"{address}:80/{word}", pods)
    kit.reach("client1", first, pods)
    port = kit.refresh(service)["spec"]["ports"][0]
    moved = {key: value for key, value in port.items() if key != "nodePort"}
    kit.patch("Service", "lb", {"spec": {"ports": [moved | {"nodePort": _other(port["nodePort"])}]}})
    second = kit.node_port(kit.refresh(service), 1, protocol=protocol)
    assert second != first
    kit.reach("client1", second, pods)
    kit.reach("client1", first, "refused")
    changed = {**kit.refresh(service)["spec"]["ports"][0], "port": 81}
    kit.patch("Service", "lb", {"spec": {"ports": [changed]}})
    kit.reach("client1", f"{address}:81/{word}", pods)
    assert kit.ask("client1", f"{address}:80/{word}", timeout=1).who == ""
    kit.delete("Pod", *pods)
    kit.reach("client1", second, "refused")
    kit.pods("lb", (1,))
    kit.reach("client1", second, {"lb-1"})
    plain = {key: value for key, value in changed.items() if key != "nodePort"}
    kit.patch("Service", "lb", {"spec": {"type": "ClusterIP", "ports": [plain]}})
    kit.until(lambda: not kit.get("Service", "lb")["status"].get("loadBalancer"), "the address is given back")
    kit.settle()
    assert kit.ask("client1", f"{address}:81/{word}", timeout=1).who == ""
    kit.reach("client1", second, "refused")


def _other(node_port: int) -> int:
    return node_port + 1 if node_port < 32767 else node_port - 1


@case(GROUP, "should only allow access from service loadbalancer source ranges")
def source_ranges(kit: Kit) -> None:
    kit.pod("denied", 2, app="client")
    allowed = kit.client(1)
    client1 = f"{kit.outside().ip}/32"
    _, address, pods = balanced(
        kit, local=False, loadBalancerSourceRanges=[client1, f"{kit.host(allowed).ip}/32"]
    )
    for sender in ("client1", allowed):
        kit.reach(sender, f"{address}:80", pods)
    kit.reach("pod/denied", f"{address}:80", "dropped")
    kit.patch("Service", "lb", {"spec": {"loadBalancerSourceRanges": [f"{kit.ip('denied')}/32"]}})
    kit.reach("pod/denied", f"{address}:80", pods)
    for sender in ("client1", allowed):
        kit.reach(sender, f"{address}:80", "dropped")
    kit.patch("Service", "lb", {"spec": {"loadBalancerSourceRanges": None}})
    for sender in ("client1", allowed, "pod/denied"):
        kit.reach(sender, f"{address}:80", pods)


@case(GROUP, "should be able to create an internal type load balancer")
def internal(kit: Kit) -> None:
    raise NotThere("balancers with a private address: upstream knows them for GCE and Azure alone")


@case(GROUP, "should reconcile LB health check interval")
def check_interval(kit: Kit) -> None:
    raise NotThere("a health check that a user could change behind the cloud's back: upstream's is GCE's")


@case(GROUP, "should have session affinity work for LoadBalancer service with ESIPP on", local=True)
@case(GROUP, "should have session affinity work for LoadBalancer service with ESIPP off", local=False)
def affinity(kit: Kit, local: bool) -> None:
    _, address, _ = balanced(kit, local=local, sessionAffinity="ClientIP")
    stays(kit, address)


@case(GROUP, "should be able to switch session affinity for LoadBalancer service with ESIPP on", local=True)
@case(GROUP, "should be able to switch session affinity for LoadBalancer service with ESIPP off", local=False)
def affinity_switched(kit: Kit, local: bool) -> None:
    _, address, pods = balanced(kit, local=local)
    kit.reach("client1", f"{address}:80", pods)
    kit.patch("Service", "lb", {"spec": {"sessionAffinity": "ClientIP"}})
    stays(kit, address)
    kit.patch("Service", "lb", {"spec": {"sessionAffinity": "None", "sessionAffinityConfig": None}})
    kit.reach("client1", f"{address}:80", pods)


def stays(kit: Kit, address: str) -> None:
    met = {kit.ask("client1", f"{address}:80").who for _ in range(15)}
    assert len(met) == 1, f"client1 met {sorted(met)}"
    assert met != {""}, f"nothing answered at {address}"


@case(GROUP, "should handle load balancer cleanup finalizer for service")
def finalizer(kit: Kit) -> None:
    kit.service("lb", type="LoadBalancer")
    external(kit)
    assert FINALIZER in kit.get("Service", "lb")["metadata"]["finalizers"]
    kit.patch("Service", "lb", {"spec": {"type": "ClusterIP"}})
    kit.until(
        lambda: not kit.get("Service", "lb")["metadata"].get("finalizers"), "the finalizer is taken off"
    )
    kit.patch("Service", "lb", {"spec": {"type": "LoadBalancer"}})
    external(kit)
    assert FINALIZER in kit.get("Service", "lb")["metadata"]["finalizers"]
    kit.delete("Service", "lb")
    kit.until(lambda: _gone(kit), "the Service is gone")


def _gone(kit: Kit) -> bool:
    try:
        kit.get("Service", "lb")
    except NotFound:
        return True
    return False


@case(GROUP, "should be able to create LoadBalancer Service without NodePort and change it")
def without_node_port(kit: Kit) -> None:
    service, address, pods = balanced(kit, local=False, allocateLoadBalancerNodePorts=False)
    assert not service["spec"]["ports"][0].get("nodePort")
    kit.reach("client1", f"{address}:80", pods)
    kit.patch("Service", "lb", {"spec": {"allocateLoadBalancerNodePorts": True}})
    changed = kit.refresh(service)
    assert changed["spec"]["ports"][0].get("nodePort"), "no node port was allocated"
    kit.reach("client1", f"{address}:80", pods)
    kit.reach("client1", kit.node_port(changed), pods)


@case(
    GROUP,
    "should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service "
    "on different nodes",
    again=2,
)
@case(
    GROUP,
    "should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service "
    "on the same nodes",
    again=1,
)
def udp_cycles(kit: Kit, again: int) -> None:
    kit.service("lb", ports=[(80, "UDP")], type="LoadBalancer")
    to = f"{external(kit)}:80/udp"
    kit.pod("server-1", 1, app="lb")
    wait_answers(kit, to)
    with fixed_port(kit, "client1", to) as sock:
        says(kit, sock, "server-1")
        kit.pod("server-2", again, app="lb")
        kit.delete("Pod", "server-1")
        says(kit, sock, "server-2")


@case(
    GROUP,
    "should not have connectivity disruption during rolling update with externalTrafficPolicy=Cluster",
    policy="Cluster",
)
@case(
    GROUP,
    "should not have connectivity disruption during rolling update with externalTrafficPolicy=Local",
    policy="Local",
)
def rolling_update(kit: Kit, policy: str) -> None:
    kit.service("lb", type="LoadBalancer", externalTrafficPolicy=policy)
    kit.lingering("lb", NODES)
    address = external(kit)
    wait_answers(kit, f"{address}:80")
    client, fates, over = kit.host("client1"), list[str](), threading.Event()

    def poll() -> None:
        while not over.is_set():
            fates.append(kit.ask(client, f"{address}:80", timeout=1).fate)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        for node in NODES:
            kit.wait_ready(kit.pod(f"fresh-{node}", node, app="lb"))
            kit.terminate(f"lb-{node}")
        enough = len(fates) + ENOUGH
        kit.until(lambda: len(fates) >= enough, f"{ENOUGH} more requests")
    finally:
        over.set()
        poller.join()
    good = fates.count("answered")
    lost = {fate: fates.count(fate) for fate in set(fates) - {"answered"}}
    assert good >= SHARE * len(fates), f"{good} of {len(fates)} requests were answered; the others: {lost}"


@case(ESIPP, "should work for type=LoadBalancer")
def esipp_balancer(kit: Kit) -> None:
    service, address, pods = balanced(kit, local=True)
    check = service["spec"].get("healthCheckNodePort")
    assert check, "no healthCheckNodePort was allocated"
    kit.reach("client1", f"{address}:80", pods, source="client1")
    kit.delete("Service", "lb")
    at = Target(address=str(kit.node(1).ip), port=check)
    kit.until(lambda: fetch(kit.host("node2"), at, "/healthz")[0] == 0, "the health check's port is closed")


@case(ESIPP, "should work for type=NodePort")
def esipp_node_port(kit: Kit) -> None:
    service = kit.service("lb", type="NodePort", externalTrafficPolicy="Local")
    pods = kit.pods("lb", (1, 2))
    for node in (1, 2):
        kit.reach("client1", kit.node_port(service, node), {f"lb-{node}"}, source="client1")
    assert len(pods) == 2


@case(ESIPP, "should only target nodes with endpoints")
def esipp_targets(kit: Kit) -> None:
    service = kit.service("lb", type="LoadBalancer", externalTrafficPolicy="Local")
    address, check = external(kit), service["spec"]["healthCheckNodePort"]
    for node in NODES:
        pod = kit.pod(f"on-{node}", node, app="lb")
        wait_answers(kit, f"{address}:80")
        kit.reach("client1", f"{address}:80", {pod}, source="client1", times=10)
        for other in NODES:
            at = Target(address=str(kit.node(other).ip), port=check)
            healthy(kit, at, 200 if other == node else 503)
        kit.delete("Pod", pod)


def healthy(kit: Kit, at: Target, code: int) -> None:
    kit.until(lambda: fetch(kit.host("node4"), at, "/healthz")[0] == code, f"{code} from {at}")


@case(ESIPP, "should work from pods")
def esipp_from_pods(kit: Kit) -> None:
    _, address, pods = balanced(kit, local=True)
    for node in (1, 5):
        kit.reach(kit.client(node), f"{address}:80", pods)


@case(ESIPP, "should handle updates to ExternalTrafficPolicy field")
def esipp_updates(kit: Kit) -> None:
    service = kit.service("lb", type="LoadBalancer", externalTrafficPolicy="Local")
    pods, address = kit.pods("lb", (1,)), external(kit)
    wait_answers(kit, f"{address}:80")
    kit.reach("client1", f"{address}:80", pods, source="client1")
    kit.patch("Service", "lb", {"spec": {"externalTrafficPolicy": "Cluster"}})
    changed = kit.refresh(service)
    assert not changed["spec"].get("healthCheckNodePort"), "the health check's port was kept"
    for node in (1, 2):
        kit.reach("client1", kit.node_port(changed, node), pods, source=f"node{node}")
    kit.until(lambda: kit.ask("client1", f"{address}:80").source not in ("", str(kit.outside().ip)),
              "the source is a node's")  # fmt: skip
    kit.patch("Service", "lb", {"spec": {"externalTrafficPolicy": "Local"}})
    wait_answers(kit, f"{address}:80")
    kit.reach("client1", f"{address}:80", pods, source="client1")
