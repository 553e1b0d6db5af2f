"""The echo stand-in: answers in the place of every image podwire has no program for.

TCP answers HTTP and raw bytes, UDP echoes; each answer tells pod, node and the client's address as
the pod sees it, which is what a lesson on Services wants to know. Ports are the containerPorts.
"""

from __future__ import annotations

from topo.images.image import Container
from topo.images.light import Host
from topo.images.peer import Peer, shown
from topo.images.web import Request, Response, as_json


class Echo:
    def __init__(self, container: Container) -> None:
        self._container = container

    async def serve(self, host: Host) -> None:
        for port in self._container.ports:
            if port.protocol == "TCP":
                await host.http(port.number, self.answer, raw=self.raw)
            elif port.protocol == "UDP":
                await host.udp(port.number, self.raw)

    async def answer(self, request: Request) -> Response:
        c = self._container
        return as_json(
            {
                "pod": c.pod,
                "namespace": c.namespace,
                "node": c.node,
                "podIP": c.address,
                "image": c.image,
                "client": shown(request.peer),
                "method": request.method,
                "path": request.path,
                "host": request.headers.get("Host", ""),
                "body": request.body.decode(errors="replace"),
            }
        )

    def raw(self, data: bytes, peer: Peer) -> bytes:
        c = self._container
        return f"pod={c.pod} node={c.node} client={shown(peer)}\n".encode() + data


def program(container: Container) -> Echo:
    return Echo(container)
