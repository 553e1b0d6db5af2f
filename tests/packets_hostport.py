"""hostPort: pods and rows for both tiers, each row a sentence. In ``tests.packets``' scene."""

from __future__ import annotations

from typing import Any

from tests.packets import Row, pod, rows

Obj = dict[str, Any]


def host_port_pod(name: str, node: str, port: int, address: str = "", protocols: str = "TCP UDP") -> Obj:
    made = pod(name, node)
    made["spec"]["containers"][0]["ports"] = [
        {"containerPort": 8080, "protocol": protocol, "hostPort": port}
        | ({"hostIP": address} if address else {})
        for protocol in protocols.split()
    ]
    return made


HOST_PORT_PODS = [
    host_port_pod("open-0", "node1", 8088),
    host_port_pod("inner-0", "node2", 8089, "127.0.0.1"),
    host_port_pod("outer-0", "node2", 8089, "192.168.49.3", "TCP"),
    host_port_pod("datagram-0", "node2", 8089, "192.168.49.3", "UDP"),
    host_port_pod("other-0", "node2", 8090, "192.168.49.2"),
]

HOST_PORT_ROWS: list[Row] = rows("""
outside to a hostPort reaches the pod and keeps the client's address | client1 | node1:8088/tcp | open-0
outside to a hostPort by UDP | client1 | node1:8088/udp | open-0
a pod on the same node reaches a hostPort with its own address | pod/alice | node1:8088/tcp | open-0
a pod on another node reaches a hostPort with its own address | pod/bob | node1:8088/udp | open-0
a pod reaches itself by its hostPort | pod/open-0 | node1:8088/tcp | open-0 | hairpin
another node reaches a hostPort | node3 | node1:8088/tcp | open-0
a node reaches its own pod's hostPort by its address | node1 | node1:8088/tcp | open-0
a node reaches its own pod's hostPort by localhost, as itself | node1 | localhost:8088/tcp | open-0
a node reaches its own pod's hostPort by localhost and UDP | node1 | localhost:8088/udp | open-0
a hostPort is open on the pod's own node alone | client1 | node2:8088/tcp | refused
a hostPort at localhost alone is not open to outside | client1 | node2:8089/tcp | outer-0
one hostPort leads to one pod by TCP and to another by UDP | client1 | node2:8089/udp | datagram-0
one hostPort leads to another pod at another address | node2 | localhost:8089/tcp | inner-0
one hostPort leads the node to the pod of its address | node2 | node2:8089/tcp | outer-0
one hostPort leads the node to the pod of its address and protocol | node2 | node2:8089/udp | datagram-0
a hostPort at an address that is not the node's is not open | client1 | node2:8090/tcp | refused
a hostPort does not open the pod's own port | client1 | node1:8080/tcp | refused
""")
