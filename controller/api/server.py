"""The API server's process: a Unix socket, HTTP, and the managers beside the store.

    python -m controller.api.server --socket RUN/api.sock --db RUN/store.db [--no-managers]

It turns requests into ``verbs.Call`` and watches into chunks; what they mean is decided there, and what
aiohttp has to do with it stands in ``responses``. Handlers run in one thread; the managers have their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from controller.api import logs, metrics, proxy, routes, upgrade, verbs
from controller.api.aiohttp_web import web
from controller.api.errors import ApiError, PodwireError
from controller.api.forward import forward
from controller.api.history import encode
from controller.api.kinds import KINDS
from controller.api.metadata import timestamp
from controller.api.registry import Registry
from controller.api.responses import JSON, body_type, read, respond
from controller.api.secure import Handler, SecureConfig, SecurePort
from controller.api.side_channel import PREFIX, SideChannel
from controller.api.status import status_for, status_of
from controller.api.store import Store
from controller.api.tokens import ADMIN, ISSUER, LIFE, User
from controller.api.watch import Hub, watch_request
from controller.api.wiring import API_PORT, FAMILIES_OF, KUBELET_SOCKET


class Server:
    """HTTP on a registry. ``start`` serves, ``stop`` ends every watch and closes the socket."""

    def __init__(self, registry: Registry, socket: Path, secure: SecureConfig | None = None) -> None:
        self.registry = registry
        self._netns = secure.netns if secure else ""
        self._secure = SecurePort(registry.store, self._handle_secure, secure) if secure else None
        self.side_channel = SideChannel(registry.store, self._secure)
        self._socket = socket
        self._upgrades = upgrade.Upgrades(registry.store, socket.parent)
        self._metrics = metrics.Metrics()
        self._hub = Hub(registry.store)
        # Without handler_cancellation a watch whose client left lives until the next write.
        self._runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
        )

    async def start(self) -> None:
        await self._runner.setup()
        self._socket.unlink(missing_ok=True)
        before = os.umask(0o177)  # the socket is born 0600
        try:
            await web.UnixSite(self._runner, str(self._socket)).start()
        finally:
            os.umask(before)
        if self._secure is not None:
            self._secure.start()

    async def stop(self) -> None:
        self._hub.close()
        if self._secure is not None:
            await self._secure.stop()
        await self._runner.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._or_status(self._answer, request)

    async def _handle_secure(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._or_status(self._answer_secure, request)

    async def _answer_secure(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._secure is not None
        return await self._answer(request, self._secure.admit(request))

    async def _or_status(self, answer: Handler, request: web.BaseRequest) -> web.StreamResponse:
        began = metrics.clock()
        response = await self._answered(answer, request)
        took = metrics.clock() - began
        self._metrics.count(request.method, request.path, request.query, response.status, took)
        return response

    async def _answered(self, answer: Handler, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await answer(request)
        except ApiError as error:
            return respond(error.code, encode(status_for(error)), warnings=error.warnings)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPException as error:  # aiohttp's own: a body that is too large
            return respond(error.status, encode(status_of(error.status, "BadRequest", str(error))))
        except Exception as error:
            traceback.print_exc()
            message = f"Internal error occurred: {type(error).__name__}: {error}"
            return respond(500, encode(status_of(500, "InternalError", message)))

    async def _answer(self, request: web.BaseRequest, user: User = ADMIN) -> web.StreamResponse:
        path, query = request.path, request.query
        if path.startswith(PREFIX):
            return await self.side_channel.answer(request)
        if path == "/metrics" and request.method == "GET":
            stored = {kind.plural: self.registry.store.count(kind.kind) for kind in KINDS.values()}
            text = self._metrics.text(stored)
            return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})
        proxied = proxy.parse(request.raw_path.partition("?")[0])
        if proxied is not None:
            return await self._proxy(request, proxied)
        if self._secure is not None and request.method == "POST" and path.endswith("/token"):
            return await self._token(routes.parse_path(path))
        if request.method == "GET" and "watch" in query and routes.flag(query, "watch"):
            return await self._watch(request)
        if request.method == "GET" and path.endswith("/log"):
            target = routes.parse_path(path)
            if target.subresource == "log":
                return await self._log(request, target)
        if request.method in ("GET", "POST") and path.endswith(upgrade.ENDINGS):
            target = routes.parse_path(path)
            if target.subresource in upgrade.WORDS:
                pod = self.registry.get("Pod", target.namespace, target.name)
                return await self._upgrades.answer(request, pod, target.subresource)
        body = await read(request)
        call = verbs.Call(
            method=request.method,
            path=path,
            query=query,
            content_type=body_type(request, body),
            body=body,
            accept=request.headers.get("Accept", ""),
            agent=request.headers.get("User-Agent", ""),
            user=user,
        )
        answer = verbs.answer(self.registry, call)
        response = respond(
            answer.code, answer.body, content_type=answer.content_type, warnings=answer.warnings
        )
        response.headers.update(answer.headers)
        return response

    async def _proxy(self, request: web.BaseRequest, where: proxy.ProxyPath) -> web.StreamResponse:
        path, mark, query = request.raw_path.partition("?")
        if not where.rest and request.method in ("GET", "HEAD"):
            return web.Response(status=301, headers={"Location": f"{path}/{mark}{query}"})
        if not self._netns:
            raise proxy.unavailable("this API server runs on no node that it could ask from")
        store = self.registry.store
        address, port = proxy.resolve(
            where, store.get, lambda namespace: store.list("EndpointSlice", namespace), random.Random()
        )
        kubelet = where.is_for_kubelet
        answer = await forward(
            self._netns,
            address,
            port,
            scheme=where.scheme,
            method=request.method,
            path=f"{f'/{where.name}' if kubelet else ''}{where.rest or '/'}{mark}{query}",
            headers=request.headers,
            body=await read(request),
            unix=self._socket.with_name(KUBELET_SOCKET) if kubelet else None,
        )
        response = web.Response(status=answer.status, body=answer.body)
        for word, text in answer.headers:
            if word.lower() == "content-type":
                response.headers[word] = text
            else:
                response.headers.add(word, text)
        return response

    async def _token(self, target: routes.Target) -> web.StreamResponse:
        """A TokenRequest; what it asks for (audience, time) is not heeded."""
        assert self._secure is not None
        account = self.registry.get(target.kind.kind, target.namespace, target.name)
        token, until = await self._secure.token(account)
        made = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": target.name, "namespace": target.namespace},
            "spec": {"audiences": [ISSUER], "expirationSeconds": LIFE},
            "status": {"token": token, "expirationTimestamp": timestamp(until)},
        }
        return respond(201, encode(made))

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        target = routes.parse_path(request.path)
        accept = request.headers.get("Accept", "")
        wanted = watch_request(target.kind, target.namespace, target.name, request.query, accept)
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        async with contextlib.aclosing(self._hub.stream(wanted)) as chunks:
            first = await anext(chunks)  # raises 410 before any header is sent
            await response.prepare(request)
            if first:
                await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        return response

    async def _log(self, request: web.BaseRequest, target: routes.Target) -> web.StreamResponse:
        at = (target.kind.kind, target.namespace, target.name)
        wanted = logs.log_request(self.registry.get(*at), request.query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        chunks = logs.lines(self._socket.parent / "log", wanted, lambda: self.registry.store.get(*at))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                await response.write(chunk)
        return response


def _die_with_parent() -> None:
    """PR_SET_PDEATHSIG: an apiserver never outlives its lab."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


async def serve(
    socket: Path,
    database: Path,
    *,
    managers: bool = True,
    secure: SecureConfig | None = None,
    ip_family: str = "ipv4",
    ready: Callable[[], None],
) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    store = Store(database)
    from controller.managers.allocations import Allocator  # the one step up, made only by the program
    from controller.managers.allocator import ranges_of

    registry = Registry(store, allocate=Allocator(store, ranges=ranges_of(ip_family)))
    registry.ensure_system_namespaces()
    server = Server(registry, socket, secure)
    await server.start()
    runner = None
    if managers:
        from controller.managers import runner as managers_runner

        runner = managers_runner.start(registry, server.side_channel.report, FAMILIES_OF[ip_family])
    ready()
    await stopping.wait()
    if runner is not None:
        runner.stop()
    await server.stop()
    store.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="controller.api.server", description="podwire's API server")
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to serve on (0600)")
    parser.add_argument("--db", type=Path, required=True, help="the SQLite file of the store")
    parser.add_argument("--no-managers", action="store_true", help="serve without the managers")
    parser.add_argument(
        "--secure-netns", default="", help="serve TLS too, in this namespace (the control plane's node's)"
    )
    parser.add_argument("--ip-family", choices=sorted(FAMILIES_OF), default="ipv4", help="of the cluster")
    parser.add_argument("--secure-port", type=int, default=API_PORT, help="the TLS port (%(default)s)")
    parser.add_argument("--loopback-fd", type=int, help="a listening socket to serve TLS on for the user")
    options = parser.parse_args(arguments)
    secure = None
    if options.secure_netns or options.loopback_fd is not None:
        directory = options.db.parent / "pki"
        secure = SecureConfig(directory=directory, netns=options.secure_netns, port=options.secure_port,
                              loopback=options.loopback_fd)  # fmt: skip
    _die_with_parent()
    # The store is one big acyclic heap: full collections find nothing and stop everybody for 150 ms.
    gc.set_threshold(100_000, 50, 1000)
    try:
        asyncio.run(
            serve(
                options.socket, options.db, managers=not options.no_managers, secure=secure,
                ip_family=options.ip_family,
                ready=lambda: print("ready", flush=True),
            )
        )  # fmt: skip
    except PodwireError as error:
        print(f"apiserver: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
