"""Where a NodePort answers, and a loopback listener that leads there.

``./lab url SERVICE`` prints what ``minikube service SERVICE --url`` prints. ``--local`` listens on
the caller's 127.0.0.1 and passes each connection on from the outside client's namespace, so that a
browser on the machine is one more outside client and its packets are on the lab's wires.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from controller.api.errors import UsageError
from controller.api.objects import Obj
from topo.netns import NAMES, Netns

_CHUNK = 1 << 16


def node_urls(service: Obj, nodes: Sequence[Obj]) -> list[str]:
    """One URL a port and family, at the first node's address (the control plane's), as minikube does it.

    minikube says http of every port; here only a TCP port is: others are ``udp://`` or ``sctp://``.
    """
    name = f"{service['metadata'].get('namespace', 'default')}/{service['metadata']['name']}"
    ports = [port for port in service["spec"].get("ports") or () if port.get("nodePort")]
    if not ports:
        raise UsageError(f"service {name} has no node port")
    first = min(nodes, key=lambda node: int("".join(filter(str.isdigit, node["metadata"]["name"])) or 0))
    internal = [entry["address"] for entry in first["status"]["addresses"] if entry["type"] == "InternalIP"]
    found = []
    for family in service["spec"].get("ipFamilies") or ("IPv4",):
        for address in [a for a in internal if (":" in a) == (family == "IPv6")][:1]:
            host = f"[{address}]" if ":" in address else address
            found += [f"{_scheme(port)}://{host}:{port['nodePort']}" for port in ports]
    return found


def _scheme(port: Obj) -> str:
    protocol = str(port.get("protocol") or "TCP")
    return "http" if protocol == "TCP" else protocol.lower()


def some_url(services: Sequence[Obj], nodes: Sequence[Obj]) -> str:
    """Where something answers HTTP by a node port, type NodePort first; empty where nothing does."""
    for wanted in ("NodePort", "LoadBalancer"):
        for service in services:
            ports = [port for port in service["spec"].get("ports") or () if _scheme(port) == "http"]
            if service["spec"].get("type") == wanted and any(port.get("nodePort") for port in ports):
                return node_urls({**service, "spec": {**service["spec"], "ports": ports}}, nodes)[0]
    return ""


def serve(urls: Sequence[str], caller_netns: int) -> int:
    """Listen on the caller's loopback, one port for each URL that is TCP, until Ctrl-C."""
    urls = [url for url in urls if url.startswith("http:")]
    if not urls:
        raise UsageError("--local passes on TCP, and that service has no node port for it")
    home = Netns("caller", caller_netns)
    outside = Netns.open("client1" if (NAMES / "client1").exists() else "fabric")
    for url in urls:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        listener = home.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        target = (parts.hostname, parts.port)
        threading.Thread(target=_accept, args=(listener, outside, target), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


def _accept(listener: socket.socket, outside: Netns, target: tuple[str, int]) -> None:
    while True:
        near, _ = listener.accept()
        threading.Thread(target=_forward, args=(near, outside, target), daemon=True).start()


def _forward(near: socket.socket, outside: Netns, target: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with near, outside.socket(family) as far:
        try:
            far.settimeout(10)
            far.connect(target)
            far.settimeout(None)
        except OSError:
            return  # closing tells the browser
        other = threading.Thread(target=_copy, args=(far, near), daemon=True)
        other.start()
        _copy(near, far)
        other.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """One direction, to its end; the other one may go on (a half-closed connection)."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
