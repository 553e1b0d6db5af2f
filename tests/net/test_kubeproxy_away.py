"""Pods and Services that go while no kubeproxy runs: the next one finds out from what the switch holds."""

from __future__ import annotations

import socket

import pytest

from tests.packets import pod, service
from topo.config import ClusterConfig
from topo.lab import Lab

PORT = 12345


def test_a_udp_client_leaves_what_vanished_while_the_kubeproxy_was_away() -> None:
    with Lab(ClusterConfig(nodes=2, clients=1)) as lab:
        pods = [pod("alice", "node1"), pod("web-0", "node1", "web"), pod("web-1", "node2", "web")]
        lab.apply(*pods, service("web", "10.96.0.50", 30080), service("gone", "10.96.0.51", 30081, app="web"))
        lab.settle()
        asked = [(lab.pod("alice"), "10.96.0.50", 80), (lab.outside(), str(lab.node(1).ip), 30080)]
        deleted = (lab.outside(), str(lab.node(2).ip), 30081)
        sockets = []
        for number, (host, address, port) in enumerate((*asked, deleted)):
            sock = host.socket(kind=socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.bind(("0.0.0.0", PORT + number))
            sock.connect((address, port))
            sockets.append(sock)

        def answer(sock: socket.socket) -> str:
            sock.send(b"hostname\n")
            return sock.recv(4096).decode()

        first = [answer(sock) for sock in sockets]
        lab.kill("kubeproxy")
        lab.client.delete("Pod", first[0], "default", grace=0)
        lab.client.delete("Service", "gone", "default")
        lab.client.settle(["managers", "kubelet"])
        lab.restart("kubeproxy")
        lab.settle()
        left = {"web-0", "web-1"} - {first[0]}
        assert {answer(sock) for sock in sockets[:2]} == left
        with pytest.raises(ConnectionRefusedError):
            answer(sockets[2])
        for sock in sockets:
            sock.close()
