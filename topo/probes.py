"""Probes: one question to one container, asked over the wire from its node, and what it answers.

``ask`` asks once; ``watch`` asks again and again and counts. What follows from an answer (ready, not
ready, restart) is the kubelet's. Sockets are made in the node's namespace, so a probe is real packets
with the node's address as their source, seen by captures and by the pod.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from topo.runtime_sys import socket_in

USER_AGENT = "kube-probe/1.31"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe's handler and numbers, defaults filled in."""

    kind: str
    handler: Mapping[str, Any]
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: float | None = None

    @classmethod
    def of(cls, kind: str, container: Mapping[str, Any]) -> Probe | None:
        """The container's ``startup``, ``liveness`` or ``readiness`` probe; None without one."""
        spec = container.get(f"{kind}Probe")
        if not spec:
            return None
        handler = {word: spec[word] for word in ("httpGet", "tcpSocket", "exec", "grpc") if word in spec}
        return cls(
            kind=kind,
            handler=handler,
            initial_delay=spec.get("initialDelaySeconds") or 0,
            period=spec.get("periodSeconds") or 10,
            timeout=spec.get("timeoutSeconds") or 1,
            success_threshold=spec.get("successThreshold") or 1,
            failure_threshold=spec.get("failureThreshold") or 3,
            grace=spec.get("terminationGracePeriodSeconds"),
        )


WIRING_SECONDS = 30.0
"""How long a new pod's wires may take until they carry its first probe."""


@dataclass(kw_only=True)
class Target:
    """Whom to ask: the pod's address, from which namespace, and how to run a command in it.

    ``execute(argv, timeout)`` answers (exit code, output). ``reached`` becomes True with the first
    answer of any kind.
    """

    address: str
    netns: str
    ports: Mapping[str, int] = field(default_factory=dict)
    execute: Callable[[Sequence[str], float], Awaitable[tuple[int, str]]]
    reached: bool = False


class ProbeFailed(Exception):
    """The container did not pass; ``str`` is the text after "Readiness probe failed: "."""


async def ask(probe: Probe, target: Target) -> None:
    """Return when the container passes; ProbeFailed when it does not."""
    handler = probe.handler
    if "exec" in handler:
        code, output = await target.execute(handler["exec"].get("command") or [], probe.timeout)
        if code != 0:
            raise ProbeFailed(output.strip() or f"command exited with code {code}")
    elif "httpGet" in handler:
        await _http(handler["httpGet"], target, probe.timeout)
    elif "tcpSocket" in handler:
        tcp = handler["tcpSocket"]
        host, port = tcp.get("host") or target.address, _port(tcp["port"], target)
        (await _connect(target, host, port, probe.timeout)).close()


def _port(port: int | str, target: Target) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    if port not in target.ports:
        raise ProbeFailed(f"unable to find named port: {port}")
    return target.ports[port]


class _NoAnswer(ProbeFailed):
    """Nothing came back in time."""


async def _connect(target: Target, host: str, port: int, timeout: float) -> socket.socket:
    """A connection to the pod from its node.

    The first one waits until the pod's wires carry packets: a real CNI plugin returns when they do,
    but here the kubeproxy learns of the pod from the very status that precedes its first probe. So
    until anything has come back, a lost SYN is sent again soon and is no failure of the pod.
    """
    loop = asyncio.get_running_loop()
    deadline, wait = loop.time() + WIRING_SECONDS, 0.05
    while not target.reached and loop.time() < deadline:
        began = loop.time()
        try:
            return await _dial(target, host, port, wait)
        except _NoAnswer:
            await asyncio.sleep(began + wait - loop.time())  # an ICMP error comes at once
            wait = min(2 * wait, 1.0)
    target.reached = True
    return await _dial(target, host, port, timeout)


async def _dial(target: Target, host: str, port: int, timeout: float) -> socket.socket:
    sock = socket_in(target.netns, socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        target.reached = True
    except TimeoutError:
        sock.close()
        raise _NoAnswer(f"dial tcp {host}:{port}: i/o timeout") from None
    except asyncio.CancelledError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        refused = error.errno == errno.ECONNREFUSED
        target.reached = target.reached or refused
        reason = "connection refused" if refused else os.strerror(error.errno or 0).lower()
        text = f"dial tcp {host}:{port}: connect: {reason}"
        raise (ProbeFailed if refused else _NoAnswer)(text) from None
    return sock


async def _http(get: Mapping[str, Any], target: Target, timeout: float) -> None:
    host, port = get.get("host") or target.address, _port(get["port"], target)
    path = get.get("path") or "/"
    scheme = (get.get("scheme") or "HTTP").lower()
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    headers = {"Host": f"{host}:{port}", "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header.get("value", "") for header in get.get("httpHeaders") or []}
    try:
        sock = await _connect(target, host, port, timeout)
        async with asyncio.timeout(timeout):
            status = await _exchange(sock, host, url, headers)
    except ProbeFailed as failure:
        raise ProbeFailed(f'Get "{url}": {failure}') from None
    except TimeoutError:
        raise ProbeFailed(f'Get "{url}": context deadline exceeded (Client.Timeout exceeded)') from None
    except (OSError, EOFError) as error:
        raise ProbeFailed(f'Get "{url}": {error or "EOF"}') from None
    if not 200 <= status < 400:
        raise ProbeFailed(f"HTTP probe failed with statuscode: {status}")


async def _exchange(sock: socket.socket, host: str, url: str, headers: Mapping[str, str]) -> int:
    """The status code of a GET."""
    options: dict[str, Any] = {}
    if url.startswith("https:"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as kubelet does
        options = {"ssl": context, "server_hostname": host}
    try:
        reader, writer = await asyncio.open_connection(sock=sock, **options)
    except BaseException:
        sock.close()
        raise
    try:
        path = url.split("/", 3)[3]
        lines = [f"GET /{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        words = (await reader.readline()).split()
        await reader.read(16384)
    finally:
        writer.close()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeFailed("malformed HTTP response" if words else "EOF")
    return int(words[1])


async def watch(
    probe: Probe,
    target: Target,
    *,
    passed: Callable[[], None],
    failed: Callable[[str], None],
    trouble: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Ask until cancelled. ``passed`` and ``failed`` are called each time a threshold is reached;
    ``trouble`` for every single failure."""
    successes = failures = 0
    await sleep(probe.initial_delay)
    while True:
        try:
            await ask(probe, target)
        except ProbeFailed as failure:
            successes, failures = 0, failures + 1
            trouble(str(failure))
            if failures >= probe.failure_threshold:
                failed(str(failure))
        else:
            successes, failures = successes + 1, 0
            if successes >= probe.success_threshold:
                passed()
        await sleep(probe.period)
