"""The packet cases: one scene of Kubernetes objects and rows that each read as a sentence.

Shared by the tiers: ``ovs`` sends the first packets of each connection through a real ovs-vswitchd on the
dummy datapath and plays pods, nodes' kernels and the fabric itself; ``net`` applies the scene to a lab and
opens real connections. Nothing here knows how either does it.

The cluster: node1 .. node3 (192.168.49.2 .. .4), client1 outside (198.51.100.11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Obj = dict[str, Any]
Tier = Literal["ovs", "net"]

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.47"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case.

    ``sender``: ``pod/NAME``, ``node1``, ``client1``.
    ``to``: ``HOST:PORT/PROTOCOL`` or ``HOST/icmp``; HOST is ``pod/NAME``, ``svc/NAME`` (its ClusterIP),
    ``node1``, ``localhost`` or an address.
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
    tiers: tuple[Tier, ...] = ("ovs", "net")


def pod(name: str, node: str, app: str = "", *, port: int = 8080, host_network: bool = False,
        ready: bool = True) -> Obj:  # fmt: skip
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


def service(name: str, cluster_ip: str, node_port: int = 0, *, port: int = 80, target: int = 8080,
            protocols: tuple[str, ...] = ("TCP", "UDP")) -> Obj:  # fmt: skip
    """A Service over the pods labelled ``app: name``, on fixed addresses so that rows can name them."""
    ports: list[Obj] = []
    for protocol in protocols:
        entry: Obj = {"name": protocol.lower(), "protocol": protocol, "port": port, "targetPort": target}
        if node_port:
            entry["nodePort"] = node_port
        ports.append(entry)
    spec: Obj = {"clusterIP": cluster_ip, "selector": {"app": name}, "ports": ports}
    spec["type"] = "NodePort" if node_port else "ClusterIP"
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


SCENE: list[Obj] = [
    pod("alice", "node1"),
    pod("bob", "node3"),
    pod("web-0", "node1", "web"),
    pod("web-1", "node2", "web"),
    pod("solo-0", "node1", "solo"),
    pod("far-0", "node2", "far"),
    pod("host-0", "node2", "host", port=9090, host_network=True),
    pod("lazy-0", "node2", "lazy", ready=False),
    service("web", "10.96.0.50", 30080),
    service("solo", "10.96.0.51", 30081),
    service("far", "10.96.0.52", 30082),
    service("host", "10.96.0.53", 30083, target=9090),
    service("empty", "10.96.0.54", 30084),
    service("lazy", "10.96.0.55", 30085),
]

WEB = ("web-0", "web-1")

_POD_ROWS = [
    Row(name="a pod reaches a pod on its own node", sender="pod/alice", to="pod/web-0:8080/tcp",
        expect=("web-0",)),
    Row(name="a pod reaches a pod on another node", sender="pod/alice", to="pod/web-1:8080/tcp",
        expect=("web-1",)),
    Row(name="a pod reaches a pod on another node by UDP", sender="pod/bob", to="pod/web-0:8080/udp",
        expect=("web-0",)),
    Row(name="a pod pings a pod on its own node", sender="pod/alice", to="pod/web-0/icmp", expect=("web-0",)),
    Row(name="a pod pings a pod on another node", sender="pod/alice", to="pod/web-1/icmp", expect=("web-1",)),
    Row(name="a node reaches its own pod", sender="node1", to="pod/web-0:8080/tcp", expect=("web-0",)),
    Row(name="a node reaches a pod of another node", sender="node3", to="pod/web-0:8080/tcp", expect=("web-0",)),
    Row(name="a pod reaches its own node's network with its own address", sender="pod/far-0",
        to="node2:9090/tcp", expect=("host-0",)),
    Row(name="a pod reaches another node's network with its own address", sender="pod/alice",
        to="node2:9090/tcp", expect=("host-0",)),
    Row(name="a pod is refused by a pod that does not listen", sender="pod/alice", to="pod/web-1:9/tcp",
        expect="refused"),
    Row(name="a pod is refused by a node that does not listen", sender="pod/alice", to="node2:9/tcp",
        expect="refused"),
    Row(name="a pod is refused by UDP where nobody listens", sender="pod/alice", to="pod/web-1:9/udp",
        expect="refused"),
    Row(name="a pod address that no pod has does not answer", sender="pod/alice", to="10.244.1.250:8080/tcp",
        expect="dropped"),
    Row(name="a pod reaches the outside world with its node's address", sender="pod/alice",
        to="client1:8080/tcp", expect=("client1",), source="node1"),
    Row(name="a pod reaches the outside world by UDP with its node's address", sender="pod/bob",
        to="client1:8080/udp", expect=("client1",), source="node3"),
    Row(name="a pod pings the outside world", sender="pod/alice", to="client1/icmp", expect=("client1",),
        source="node1"),
    Row(name="a node reaches the outside world", sender="node2", to="client1:8080/tcp", expect=("client1",)),
    Row(name="the outside world reaches what listens on a node", sender="client1", to="node2:9090/tcp",
        expect=("host-0",)),
]  # fmt: skip

_CLUSTER_IP_ROWS = [
    Row(name="a pod reaches a ClusterIP and every endpoint answers some connection, with the pod's address",
        sender="pod/alice", to="svc/web:80/tcp", expect=WEB),
    Row(name="a pod on a node without an endpoint reaches a ClusterIP with its own address", sender="pod/bob",
        to="svc/web:80/tcp", expect=WEB),
    Row(name="one port number serves UDP beside TCP", sender="pod/bob", to="svc/web:80/udp", expect=WEB),
    Row(name="a node reaches a ClusterIP with its own address", sender="node1", to="svc/web:80/tcp", expect=WEB),
    Row(name="a node without an endpoint reaches a ClusterIP with its own address", sender="node3",
        to="svc/web:80/tcp", expect=WEB),
    Row(name="a node reaches a ClusterIP by UDP", sender="node3", to="svc/far:80/udp", expect=("far-0",)),
    Row(name="a pod reaches itself through its Service", sender="pod/solo-0", to="svc/solo:80/tcp",
        expect=("solo-0",), source="hairpin"),
    Row(name="a pod reaches itself through its Service by UDP", sender="pod/solo-0", to="svc/solo:80/udp",
        expect=("solo-0",), source="hairpin"),
    Row(name="a pod among several endpoints reaches itself and the others", sender="pod/web-0",
        to="svc/web:80/tcp", expect=WEB, source="sender or hairpin"),
    Row(name="a pod reaches a hostNetwork endpoint on its own node through a ClusterIP", sender="pod/far-0",
        to="svc/host:80/tcp", expect=("host-0",)),
    Row(name="a pod reaches a hostNetwork endpoint on another node through a ClusterIP", sender="pod/alice",
        to="svc/host:80/tcp", expect=("host-0",)),
    Row(name="a node reaches a hostNetwork endpoint on another node through a ClusterIP", sender="node1",
        to="svc/host:80/tcp", expect=("host-0",)),
    Row(name="a node reaches its own hostNetwork endpoint through a ClusterIP", sender="node2",
        to="svc/host:80/tcp", expect=("host-0",), source="hairpin"),
    Row(name="a ClusterIP is not reachable from outside", sender="client1", to="svc/web:80/tcp",
        expect="unreachable"),
    Row(name="a ClusterIP answers no ping", sender="pod/alice", to="svc/web/icmp", expect="dropped"),
]  # fmt: skip

_NODE_PORT_ROWS = [
    Row(name="outside to a NodePort reaches every endpoint with the node's address", sender="client1",
        to="node1:30080/tcp", expect=WEB, source="node1"),
    Row(name="outside to a NodePort of a node without a pod is forwarded", sender="client1",
        to="node3:30080/tcp", expect=WEB, source="node3"),
    Row(name="outside to a NodePort by UDP", sender="client1", to="node3:30080/udp", expect=WEB, source="node3"),
    Row(name="outside to a NodePort whose only endpoint is local still carries the node's address",
        sender="client1", to="node1:30081/tcp", expect=("solo-0",), source="node1"),
    Row(name="outside to a NodePort with a hostNetwork endpoint on another node", sender="client1",
        to="node1:30083/tcp", expect=("host-0",), source="node1"),
    Row(name="outside to a NodePort with a hostNetwork endpoint on that node keeps the client's address",
        sender="client1", to="node2:30083/tcp", expect=("host-0",)),
    Row(name="a pod reaches a NodePort of its own node", sender="pod/alice", to="node1:30080/tcp", expect=WEB,
        source="node1"),
    Row(name="a pod reaches a NodePort of another node", sender="pod/alice", to="node3:30080/tcp", expect=WEB,
        source="node3"),
    Row(name="a pod reaches itself through a NodePort of its own node", sender="pod/solo-0",
        to="node1:30081/tcp", expect=("solo-0",), source="node1"),
    Row(name="a pod reaches itself through a NodePort of another node", sender="pod/solo-0",
        to="node3:30081/tcp", expect=("solo-0",), source="node3"),
    Row(name="a node reaches its own NodePort by its address", sender="node1", to="node1:30080/tcp", expect=WEB,
        source="node1"),
    Row(name="a node reaches its own NodePort by localhost", sender="node1", to="localhost:30080/tcp",
        expect=WEB, source="node1"),
    Row(name="a node without a pod reaches its own NodePort by localhost and UDP", sender="node3",
        to="localhost:30080/udp", expect=WEB, source="node3"),
    Row(name="a node reaches another node's NodePort", sender="node1", to="node3:30080/tcp", expect=WEB,
        source="node3"),
    Row(name="a node reaches its own hostNetwork endpoint through its own NodePort", sender="node2",
        to="node2:30083/tcp", expect=("host-0",), source="hairpin"),
]  # fmt: skip

_REFUSAL_ROWS = [
    Row(name=f"{who} is refused at once by a {what} ({protocol})", sender=sender, to=f"{to}/{protocol}",
        expect="refused")
    for protocol in ("tcp", "udp")
    for who, sender, what, to in (
        ("a pod", "pod/alice", "ClusterIP without endpoints", "svc/empty:80"),
        ("a node", "node1", "ClusterIP without endpoints", "svc/empty:80"),
        ("a pod", "pod/alice", "ClusterIP whose pods are not ready", "svc/lazy:80"),
        ("a pod", "pod/alice", "port that a ClusterIP does not serve", "svc/web:81"),
        ("a node", "node3", "port that a ClusterIP does not serve", "svc/web:81"),
        ("outside", "client1", "NodePort without endpoints", "node1:30084"),
        ("a pod", "pod/alice", "NodePort without endpoints of its own node", "node1:30084"),
        ("a pod", "pod/alice", "NodePort without endpoints of another node", "node3:30084"),
        ("a node", "node1", "NodePort without endpoints of its own", "node1:30084"),
        ("a node", "node1", "NodePort without endpoints on localhost", "localhost:30084"),
        ("a node", "node1", "NodePort without endpoints of another node", "node3:30084"),
        ("outside", "client1", "NodePort whose pods are not ready", "node3:30085"),
        ("outside", "client1", "port in the NodePort range that no Service has", "node1:32000"),
        ("a node", "node1", "port in the NodePort range that no Service has, on localhost", "localhost:32000"),
    )
]  # fmt: skip

ROWS = [*_POD_ROWS, *_CLUSTER_IP_ROWS, *_NODE_PORT_ROWS, *_REFUSAL_ROWS]
