"""The packet cases: one scene of Kubernetes objects and rows that each read as a sentence.

Shared by the tiers: ``ovs`` sends the first packets of each connection through a real ovs-vswitchd on the
dummy datapath and plays pods, nodes' kernels and the fabric itself; ``net`` applies the scene to a lab and
opens real connections. Nothing here knows how either does it.

The cluster: node1 .. node3 (192.168.49.2 .. .4), client1 outside (198.51.100.11).
"""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from controller.api import wiring

Obj = dict[str, Any]
Tier = Literal["ovs", "net"]

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.47"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case.

    ``sender``: ``pod/NAME``, ``node1``, ``client1``.
    ``to``: ``HOST:PORT/PROTOCOL`` or ``HOST/icmp``; HOST is ``pod/NAME``, ``svc/NAME`` (its ClusterIP),
    ``ext/NAME`` (its external IP), ``lb/NAME`` (its balancer's address), ``node1``, ``localhost`` or an
    address; ``HOST@node1``: the fabric routes it to that node for the time of the row.
    ``expect``: the pods that answer, over several connections exactly these; or ``refused``
    (RST, ICMP port unreachable), ``unreachable`` (ICMP network unreachable), ``dropped`` (silence).
    A hostNetwork pod answers by its name here; its hostname is its node's.
    ``source``: whose address the answering pod sees: ``sender``, a node, or ``hairpin`` (169.254.0.253).
    """

    name: str
    sender: str
    to: str
    expect: tuple[str, ...] | Literal["refused", "unreachable", "dropped"]
    source: str = "sender"
    one: bool = False
    """Not every one of ``expect`` but the same of them each time."""
    tiers: tuple[Tier, ...] = ("ovs", "net")


def pod(
    name: str, node: str, app: str = "", *, port: int = 8080, host_network: bool = False, ready: bool = True
) -> Obj:
    """A pod that answers TCP and UDP on ``port`` with who it is and whom it sees."""
    container: Obj = {
        "name": "netexec",
        "image": AGNHOST,
        "args": ["netexec", f"--http-port={port}", f"--udp-port={port}"],
        "ports": [{"containerPort": port, "protocol": protocol} for protocol in ("TCP", "UDP")],
    }
    if not ready:  # nothing ever listens on port 1
        container["readinessProbe"] = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
    spec: Obj = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    if host_network:
        spec["hostNetwork"] = True
    metadata = {"name": name, "namespace": "default", "labels": {"app": app or name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(
    name: str,
    cluster_ip: str,
    node_port: int = 0,
    *,
    port: int = 80,
    target: int = 8080,
    protocols: tuple[str, ...] = ("TCP", "UDP"),
    app: str = "",
    balancer: str = "",
    ip_mode: str = "VIP",
    scheduler: str = "",
    **more: Any,
) -> Obj:
    """A Service over the pods labelled ``app: NAME``, on fixed addresses so that rows can name them.

    ``balancer``: its address in the status; of a class that no cloud here serves, so that it stays.
    ``more``: of the spec.
    """
    ports: list[Obj] = []
    for protocol in protocols:
        entry: Obj = {"name": protocol.lower(), "protocol": protocol, "port": port, "targetPort": target}
        if node_port:
            entry["nodePort"] = node_port
        ports.append(entry)
    spec: Obj = {"clusterIP": cluster_ip, "selector": {"app": app or name}, "ports": ports, **more}
    spec["type"] = "NodePort" if node_port else "ClusterIP"
    metadata: Obj = {"name": name, "namespace": "default"}
    if scheduler:
        metadata["annotations"] = {wiring.SCHEDULER: scheduler}
    made: Obj = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    if balancer:
        spec |= {"type": "LoadBalancer", "loadBalancerClass": "example.com/by-hand"}
        made["status"] = {"loadBalancer": {"ingress": [{"ip": balancer, "ipMode": ip_mode}]}}
    return made


SCENE: list[Obj] = [
    pod("alice", "node1"),
    pod("bob", "node3"),
    pod("web-0", "node1", "web"),
    pod("web-1", "node2", "web"),
    pod("solo-0", "node1", "solo"),
    pod("far-0", "node2", "far"),
    pod("host-0", "node2", "host", port=9090, host_network=True),
    pod("same-0", "node2", "same", port=30086, host_network=True),
    pod("lazy-0", "node2", "lazy", ready=False),
    service("web", "10.96.0.50", 30080),
    service("solo", "10.96.0.51", 30081),
    service("far", "10.96.0.52", 30082),
    service("host", "10.96.0.53", 30083, target=9090),
    service("empty", "10.96.0.54", 30084),
    service("lazy", "10.96.0.55", 30085),
    service("same", "10.96.0.56", 30086, target=30086),
    service("ext", "10.96.0.60", 30090, app="web", externalIPs=["192.0.2.60"]),
    service("lb", "10.96.0.61", 30091, app="web", balancer="203.0.113.61"),
    service("keep", "10.96.0.62", 30092, app="web", balancer="203.0.113.62", externalTrafficPolicy="Local"),
    service(
        "fenced",
        "10.96.0.63",
        30093,
        app="web",
        balancer="203.0.113.63",
        loadBalancerSourceRanges=["10.244.1.0/24", "198.51.100.0/28"],
    ),
    service("none", "10.96.0.64", 30094, balancer="203.0.113.64"),
    service("proxied", "10.96.0.65", 30095, app="web", balancer="203.0.113.65", ip_mode="Proxy"),
    service("near", "10.96.0.66", app="web", internalTrafficPolicy="Local"),
    service("nobody", "10.96.0.67", internalTrafficPolicy="Local"),
    service(
        "sticky",
        "10.96.0.70",
        30070,
        app="web",
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 100}},
    ),
    service(
        "stay",
        "10.96.0.71",
        app="web",
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86400}},
    ),
    service("mirror", "10.96.0.72", 30072, app="solo", balancer="203.0.113.72"),
    service("self", "10.96.0.73", 30073, app="solo", balancer="203.0.113.73", externalTrafficPolicy="Local"),
    service("onhost", "10.96.0.74", 30074, app="host", target=9090, balancer="203.0.113.74"),
    service(
        "ownhost",
        "10.96.0.75",
        30075,
        app="host",
        target=9090,
        balancer="203.0.113.75",
        externalTrafficPolicy="Local",
    ),
    service("turns", "10.96.0.76", 30076, app="web", scheduler="rr"),
    service(
        "fewest",
        "10.96.0.77",
        30077,
        app="web",
        balancer="203.0.113.77",
        scheduler="lc",
        externalTrafficPolicy="Local",
    ),
    service("hashed", "10.96.0.78", 30078, app="web", scheduler="sh"),
    service("target", "10.96.0.79", app="web", scheduler="dh"),
    service("nokeep", "10.96.0.68", 30098, balancer="203.0.113.68", externalTrafficPolicy="Local"),
]

WEB = ("web-0", "web-1")


def rows(table: str) -> list[Row]:
    """A line each: name | sender | to | expect | source (the sender itself when left out)."""
    found = []
    for line in table.strip().splitlines():
        name, sender, to, expect, *source = (cell.strip() for cell in line.split("|"))
        one, expect = expect.startswith("one of "), expect.removeprefix("one of ")
        silent = expect in ("refused", "unreachable", "dropped")
        answers = expect if silent else tuple(expect.split())
        row = Row(name=name, sender=sender, to=to, expect=answers, one=one)  # type: ignore[arg-type]
        found.append(replace(row, source=source[0]) if source else row)
    return found


POD_ROWS = rows("""
a pod reaches a pod on its own node | pod/alice | pod/web-0:8080/tcp | web-0
a pod reaches a pod on another node | pod/alice | pod/web-1:8080/tcp | web-1
a pod reaches a pod on another node by UDP | pod/bob | pod/web-0:8080/udp | web-0
a pod pings a pod on its own node | pod/alice | pod/web-0/icmp | web-0
a pod pings a pod on another node | pod/alice | pod/web-1/icmp | web-1
a node reaches its own pod | node1 | pod/web-0:8080/tcp | web-0
a node reaches a pod of another node | node3 | pod/web-0:8080/tcp | web-0
a pod reaches its own node's network with its own address | pod/far-0 | node2:9090/tcp | host-0
a pod reaches another node's network with its own address | pod/alice | node2:9090/tcp | host-0
a pod is refused by a pod that does not listen | pod/alice | pod/web-1:9/tcp | refused
a pod is refused by a node that does not listen | pod/alice | node2:9/tcp | refused
a pod is refused by UDP where nobody listens | pod/alice | pod/web-1:9/udp | refused
a pod address that no pod has does not answer | pod/alice | 10.244.1.250:8080/tcp | dropped
a pod reaches the outside world with its node's address | pod/alice | client1:8080/tcp | client1 | node1
a pod reaches the outside world by UDP with its node's address | pod/bob | client1:8080/udp | client1 | node3
a pod pings the outside world | pod/alice | client1/icmp | client1 | node1
a node reaches the outside world | node2 | client1:8080/tcp | client1
the outside world reaches what listens on a node | client1 | node2:9090/tcp | host-0
""")

CLUSTER_IP_ROWS = rows("""
a pod reaches a ClusterIP and every endpoint answers some connection, with the pod's address | pod/alice | svc/web:80/tcp | web-0 web-1
a pod on a node without an endpoint reaches a ClusterIP with its own address | pod/bob | svc/web:80/tcp | web-0 web-1
one port number serves UDP beside TCP | pod/bob | svc/web:80/udp | web-0 web-1
a node reaches a ClusterIP with its own address | node1 | svc/web:80/tcp | web-0 web-1
a node without an endpoint reaches a ClusterIP with its own address | node3 | svc/web:80/tcp | web-0 web-1
a node reaches a ClusterIP by UDP | node3 | svc/far:80/udp | far-0
a pod reaches itself through its Service | pod/solo-0 | svc/solo:80/tcp | solo-0 | hairpin
a pod reaches itself through its Service by UDP | pod/solo-0 | svc/solo:80/udp | solo-0 | hairpin
a pod among several endpoints reaches itself and the others | pod/web-0 | svc/web:80/tcp | web-0 web-1 | sender or hairpin
a pod reaches a hostNetwork endpoint on its own node through a ClusterIP | pod/far-0 | svc/host:80/tcp | host-0
a pod reaches a hostNetwork endpoint on another node through a ClusterIP | pod/alice | svc/host:80/tcp | host-0
a node reaches a hostNetwork endpoint on another node through a ClusterIP | node1 | svc/host:80/tcp | host-0
a node reaches its own hostNetwork endpoint through a ClusterIP | node2 | svc/host:80/tcp | host-0 | hairpin
a ClusterIP is not reachable from outside | client1 | svc/web:80/tcp | unreachable
a ClusterIP that no Service has does not answer | pod/alice | 10.96.0.99:80/tcp | dropped
a ClusterIP answers no ping | pod/alice | svc/web/icmp | dropped
""")

NODE_PORT_ROWS = rows("""
outside to a NodePort reaches every endpoint with the node's address | client1 | node1:30080/tcp | web-0 web-1 | node1
outside to a NodePort of a node without a pod is forwarded | client1 | node3:30080/tcp | web-0 web-1 | node3
outside to a NodePort by UDP | client1 | node3:30080/udp | web-0 web-1 | node3
outside to a NodePort whose only endpoint is local still carries the node's address | client1 | node1:30081/tcp | solo-0 | node1
outside to a NodePort with a hostNetwork endpoint on another node | client1 | node1:30083/tcp | host-0 | node1
outside to a NodePort with a hostNetwork endpoint on that node keeps the client's address | client1 | node2:30083/tcp | host-0
outside to a NodePort that is its hostNetwork endpoint's own port | client1 | node2:30086/tcp | same-0
outside to such a NodePort by UDP | client1 | node2:30086/udp | same-0
outside to such a NodePort of another node | client1 | node1:30086/tcp | same-0 | node1
a pod reaches such a NodePort of its own node | pod/far-0 | node2:30086/tcp | same-0
a pod reaches a NodePort of its own node | pod/alice | node1:30080/tcp | web-0 web-1 | node1
a pod reaches a NodePort of another node | pod/alice | node3:30080/tcp | web-0 web-1 | node3
a pod reaches itself through a NodePort of its own node | pod/solo-0 | node1:30081/tcp | solo-0 | node1
a pod reaches itself through a NodePort of another node | pod/solo-0 | node3:30081/tcp | solo-0 | node3
a node reaches its own NodePort by its address | node1 | node1:30080/tcp | web-0 web-1 | node1
a node reaches its own NodePort by localhost | node1 | localhost:30080/tcp | web-0 web-1 | node1
a node without a pod reaches its own NodePort by localhost and UDP | node3 | localhost:30080/udp | web-0 web-1 | node3
a node reaches another node's NodePort | node1 | node3:30080/tcp | web-0 web-1 | node3
a node reaches its own hostNetwork endpoint through its own NodePort | node2 | node2:30083/tcp | host-0 | hairpin
""")

EXTERNAL_ROWS = rows("""
outside to an external IP reaches every endpoint with the address of the node that got it | client1 | ext/ext@node1:80/tcp | web-0 web-1 | node1
outside to an external IP by UDP, by a node without a pod | client1 | ext/ext@node3:80/udp | web-0 web-1 | node3
a pod reaches an external IP on its own node | pod/bob | ext/ext:80/tcp | web-0 web-1 | node3
a node reaches an external IP on itself | node3 | ext/ext:80/tcp | web-0 web-1 | node3
an external IP answers no ping | pod/alice | ext/ext/icmp | dropped
outside to a balancer's address reaches every endpoint with the node's address | client1 | lb/lb@node3:80/tcp | web-0 web-1 | node3
outside to a balancer's address by UDP | client1 | lb/lb@node1:80/udp | web-0 web-1 | node1
a pod reaches a balancer's address on its own node | pod/alice | lb/lb:80/tcp | web-0 web-1 | node1
a node reaches a balancer's address on itself | node1 | lb/lb:80/udp | web-0 web-1 | node1
a balancer's address answers no ping | client1 | lb/lb@node1/icmp | dropped
a balancer's address that no Service has does not come back from a node | client1 | 203.0.113.99@node1:80/tcp | dropped
a balancer that is a proxy is asked itself | pod/alice | lb/proxied:80/tcp | unreachable
an allowed range reaches a balancer's address | client1 | lb/fenced@node1:80/tcp | web-0 web-1 | node1
a pod of an allowed range reaches a balancer's address | pod/alice | lb/fenced:80/udp | web-0 web-1 | node1
a pod outside the allowed ranges gets nothing from a balancer's address | pod/bob | lb/fenced:80/tcp | dropped
a node outside the allowed ranges gets nothing from a balancer's address | node1 | lb/fenced:80/udp | dropped
source ranges do not concern the ClusterIP | pod/bob | svc/fenced:80/tcp | web-0 web-1
source ranges do not concern the NodePort | pod/bob | node1:30093/tcp | web-0 web-1 | node1
""")

POLICY_ROWS = rows("""
policy Local from outside to a balancer's address reaches the node's own endpoint and keeps the client's address | client1 | lb/keep@node1:80/tcp | web-0
policy Local by another node reaches that node's endpoint | client1 | lb/keep@node2:80/udp | web-1
policy Local by a node without an endpoint gets nothing | client1 | lb/keep@node3:80/tcp | dropped
policy Local from outside to a NodePort keeps the client's address | client1 | node1:30092/tcp | web-0
policy Local from outside to a NodePort by UDP | client1 | node2:30092/udp | web-1
policy Local to a NodePort of a node without an endpoint gets nothing | client1 | node3:30092/tcp | dropped
policy Local does not concern the ClusterIP | pod/alice | svc/keep:80/tcp | web-0 web-1
policy Local does not bind a pod that asks its own node for a balancer's address | pod/alice | lb/keep:80/tcp | web-0 web-1
policy Local does not bind a pod on a node without an endpoint | pod/bob | lb/keep:80/udp | web-0 web-1
policy Local does not bind a pod that asks for its own node's NodePort | pod/bob | node3:30092/tcp | web-0 web-1
policy Local binds a pod that asks for another node's NodePort | pod/bob | node1:30092/tcp | web-0
policy Local does not bind the node itself | node3 | lb/keep:80/tcp | web-0 web-1 | node3
policy Local does not bind the node's own NodePort by localhost | node3 | localhost:30092/tcp | web-0 web-1 | node3
policy Local binds a node that asks for another node's NodePort | node1 | node3:30092/tcp | dropped
internal policy Local reaches the endpoint on the pod's node | pod/alice | svc/near:80/tcp | web-0
internal policy Local reaches the endpoint on the node | node2 | svc/near:80/udp | web-1
internal policy Local without an endpoint on the pod's node gets nothing | pod/bob | svc/near:80/tcp | dropped
internal policy Local without an endpoint on the node gets nothing | node3 | svc/near:80/udp | dropped
""")

HAIRPIN_ROWS = rows("""
a pod reaches itself through a balancer's address | pod/solo-0 | lb/mirror:80/tcp | solo-0 | node1
a pod reaches itself through a balancer's address of policy Local | pod/solo-0 | lb/self:80/tcp | solo-0 | hairpin
a pod reaches itself through a NodePort of policy Local of its own node | pod/solo-0 | node1:30073/udp | solo-0 | hairpin
a pod does not reach itself through a NodePort of policy Local of another node | pod/solo-0 | node3:30073/tcp | dropped
a pod on another node reaches a balancer's address with its node's address | pod/bob | lb/mirror:80/tcp | solo-0 | node3
a pod on another node reaches a balancer's address of policy Local | pod/bob | lb/self:80/udp | solo-0
a node reaches its own hostNetwork endpoint through a balancer's address | node2 | lb/onhost:80/tcp | host-0 | hairpin
a node reaches its own hostNetwork endpoint through a balancer's address of policy Local | node2 | lb/ownhost:80/udp | host-0 | hairpin
a node reaches its own hostNetwork endpoint through its NodePort of policy Local | node2 | node2:30075/tcp | host-0 | hairpin
a node reaches another node's hostNetwork endpoint through a balancer's address | node1 | lb/onhost:80/tcp | host-0 | node1
a pod reaches its node's hostNetwork endpoint through a balancer's address | pod/far-0 | lb/onhost:80/tcp | host-0
outside to a hostNetwork endpoint by a balancer's address and another node | client1 | lb/onhost@node1:80/tcp | host-0 | node1
outside to a hostNetwork endpoint by policy Local keeps the client's address | client1 | lb/ownhost@node2:80/tcp | host-0
""")

AFFINITY_ROWS = rows("""
a client with affinity gets one endpoint by ClusterIP | pod/bob | svc/sticky:80/tcp | one of web-0 web-1
a client with affinity gets one endpoint by UDP | pod/bob | svc/sticky:80/udp | one of web-0 web-1
a node with affinity gets one endpoint | node2 | svc/stay:80/tcp | one of web-0 web-1
outside to a NodePort with affinity gets one endpoint | client1 | node3:30070/tcp | one of web-0 web-1 | node3
""")

SCHEDULER_ROWS = rows("""
a pod reaches every endpoint of a Service that takes turns | pod/bob | svc/turns:80/tcp | web-0 web-1
a pod reaches every endpoint of a Service that takes turns by UDP | pod/alice | svc/turns:80/udp | web-0 web-1
a node reaches a Service that takes turns | node3 | svc/turns:80/tcp | web-0 web-1
outside to a NodePort that takes turns | client1 | node3:30076/tcp | web-0 web-1 | node3
a node reaches its own NodePort that takes turns by localhost | node1 | localhost:30076/tcp | web-0 web-1 | node1
a pod among endpoints reaches itself and the others by least connection | pod/web-0 | svc/fewest:80/tcp | web-0 web-1 | sender or hairpin
least connection under policy Local keeps to the node and to the client's address | client1 | lb/fewest@node1:80/tcp | web-0
least connection under policy Local by another node's NodePort | client1 | node2:30077/udp | web-1
least connection without an endpoint on the node gets nothing under policy Local | client1 | lb/fewest@node3:80/tcp | dropped
source hashing gives a pod one endpoint | pod/bob | svc/hashed:80/tcp | one of web-0 web-1
source hashing gives a client outside one endpoint | client1 | node3:30078/udp | one of web-0 web-1 | node3
destination hashing gives an address one endpoint | node2 | svc/target:80/tcp | one of web-0 web-1
""")

_REFUSED = """
a pod   | pod/alice | external IP's port that no Service serves                         | ext/ext:81
outside | client1   | external IP's port that no Service serves                         | ext/ext@node3:81
a pod   | pod/alice | balancer's address without endpoints                              | lb/none:80
a node  | node1     | balancer's address without endpoints                              | lb/none:80
outside | client1   | balancer's address without endpoints                              | lb/none@node1:80
outside | client1   | balancer's address of policy Local without endpoints anywhere     | lb/nokeep@node1:80
outside | client1   | NodePort of policy Local without endpoints anywhere               | node1:30098
outside | client1   | balancer's address's port that no Service serves                  | lb/lb@node1:81
a node  | node1     | balancer's address's port that no Service serves                  | lb/lb:81
a pod   | pod/alice | ClusterIP of internal policy Local without endpoints anywhere     | svc/nobody:80
a pod   | pod/alice | ClusterIP without endpoints                                       | svc/empty:80
a node  | node1     | ClusterIP without endpoints                                       | svc/empty:80
a pod   | pod/alice | ClusterIP whose pods are not ready                                | svc/lazy:80
a pod   | pod/alice | port that a ClusterIP does not serve                              | svc/web:81
a node  | node3     | port that a ClusterIP does not serve                              | svc/web:81
outside | client1   | NodePort without endpoints                                        | node1:30084
a pod   | pod/alice | NodePort without endpoints of its own node                        | node1:30084
a pod   | pod/alice | NodePort without endpoints of another node                        | node3:30084
a node  | node1     | NodePort without endpoints of its own                             | node1:30084
a node  | node1     | NodePort without endpoints on localhost                           | localhost:30084
a node  | node1     | NodePort without endpoints of another node                        | node3:30084
outside | client1   | NodePort whose pods are not ready                                 | node3:30085
outside | client1   | port in the NodePort range that no Service has                    | node1:32000
a node  | node1     | port in the NodePort range that no Service has, on localhost      | localhost:32000
"""
REFUSAL_ROWS = [
    row
    for protocol in ("tcp", "udp")
    for who, sender, what, to in (line.split("|") for line in _REFUSED.strip().splitlines())
    for row in rows(
        f"{who.strip()} is refused at once by a {what.strip()} ({protocol}) | {sender} | {to.strip()}/{protocol} | refused"
    )
]

ROWS = [
    *POD_ROWS,
    *CLUSTER_IP_ROWS,
    *NODE_PORT_ROWS,
    *EXTERNAL_ROWS,
    *POLICY_ROWS,
    *HAIRPIN_ROWS,
    *AFFINITY_ROWS,
    *SCHEDULER_ROWS,
    *REFUSAL_ROWS,
]
