"""The TLS ports: what pods reach as ``https://kubernetes.default``, and what the user's kubectl reaches.

The first opens when the control plane's node is registered, in the node's own network namespace and on
all its addresses, and its certificate follows when the node gets another one. The second is a listening
socket on the user's loopback that this process was given. Who may do what there is ``access``'.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from controller.api import access, objects, proxy, tokens
from controller.api.aiohttp_web import web
from controller.api.history import Event
from controller.api.namespaces import listener
from controller.api.objects import Obj
from controller.api.store import Store
from controller.api.wiring import API_PORT, CONTROL_PLANE, node_address

if TYPE_CHECKING:
    from controller.api.pki import Pki

_RETRY = 0.2
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class SecureConfig:
    """``directory`` keeps authority and keys; ``netns`` is the path of the node's namespace (empty: no
    port there); ``loopback`` the descriptor of the user's listening socket."""

    directory: Path
    netns: str = ""
    port: int = API_PORT
    loopback: int | None = None


def _prepare(directory: Path, addresses: list[str]) -> Pki:
    from controller.api.pki import prepare  # here, because it costs 50 ms that nobody waits for at the start

    return prepare(directory, addresses)


class SecurePort:
    """Serves ``handler`` to whoever may; ``caught_up`` waits until it does so for the node as it is now."""

    def __init__(self, store: Store, handler: Handler, config: SecureConfig) -> None:
        self._store, self._handler, self._config = store, handler, config
        self._loop = asyncio.get_running_loop()
        self._news, self._served = asyncio.Event(), asyncio.Event()
        self._address: str | None = None
        self._pki: asyncio.Future[Pki] = self._loop.create_future()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._runners: list[web.ServerRunner] = []
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to look after it; keys are made in a thread."""
        self._unsubscribe = self._store.subscribe(self._hear)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for runner in self._runners:
            await runner.cleanup()

    async def caught_up(self) -> None:
        await asyncio.shield(self._pki)
        while self._config.netns and self._wanted() not in (None, self._address):
            self._served.clear()
            await self._served.wait()

    async def credentials(self, pod: Obj) -> dict[str, str]:
        """What a pod finds at its service account's path, by file name; nothing if it wants none."""
        pki = await asyncio.shield(self._pki)
        namespace = objects.namespace(pod)
        name = objects.spec(pod).get("serviceAccountName") or "default"
        account = self._store.get("ServiceAccount", namespace, name)
        if account is None or not tokens.is_mounted(pod, account):
            return {}
        token = tokens.issue(pki.token_key, account, pod, time.time())
        return {"token": token, "ca.crt": pki.ca, "namespace": namespace}

    async def token(self, account: Obj) -> tuple[str, datetime]:
        """A token for nobody in particular, as ``kubectl create token`` asks for, and its end."""
        pki, now = await asyncio.shield(self._pki), time.time()
        return tokens.issue(pki.token_key, account, None, now), datetime.fromtimestamp(now + tokens.LIFE, UTC)

    # -- the port

    def _hear(self, event: Event) -> None:
        if event.kind == "Node":
            self._loop.call_soon_threadsafe(self._news.set)

    def _wanted(self) -> str | None:
        """The control plane's address now."""
        for node in self._store.list("Node"):
            if CONTROL_PLANE in objects.labels(node):
                return node_address(node)
        return None

    async def _follow(self) -> None:
        told = False
        while True:
            try:
                await self._serve(self._wanted())
                told = False
            except asyncio.CancelledError:
                raise
            except OSError as error:
                if not told:
                    print(f"apiserver: no TLS port {self._config.port}: {error}", file=sys.stderr, flush=True)
                told = True
                await asyncio.sleep(_RETRY)
                continue
            except Exception:  # a bug ends the process loudly, and the lab starts it again
                traceback.print_exc()
                os._exit(70)
            await self._news.wait()
            self._news.clear()

    async def _serve(self, address: str | None) -> None:
        if self._pki.done() and address == self._address:
            return
        config = self._config
        pki = await asyncio.to_thread(_prepare, config.directory, [address] if address else [])
        self._context.load_cert_chain(pki.certificate, pki.key)
        if not self._pki.done():
            self._pki.set_result(pki)
            if config.loopback is not None:
                sock = socket.socket(fileno=os.dup(config.loopback))
                await self._listen(sock)
        if address is None or not config.netns:
            return
        if self._address is None:
            await self._listen(await asyncio.to_thread(listener, config.netns, config.port))
        self._address = address
        self._served.set()

    async def _listen(self, sock: socket.socket) -> None:
        server = web.Server(self._handler, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        sock.setblocking(False)
        await web.SockSite(runner, sock, ssl_context=self._context).start()

    def _user(self, token: str) -> tokens.User:
        pki = self._pki.result()
        if hmac.compare_digest(token.encode("utf-8", "surrogateescape"), pki.admin_token.encode()):
            return tokens.ADMIN
        return tokens.verify(pki.token_key, token, self._store.get, time.time())

    def admit(self, request: web.BaseRequest) -> tokens.User:
        """Who asks, when the request may go on; raise Unauthorized or Forbidden when not."""
        transport = request.transport
        local = (transport.get_extra_info("sockname") or ("",))[0] if transport else ""
        host = request.headers.get("Host", "")
        # On the loopback a page in the user's browser may ask too, by a name that leads there. The port may
        # be another: kubectl proxy (1.20) passes on the Host that it was asked by.
        if local == "127.0.0.1" and host.partition(":")[0] not in ("127.0.0.1", "localhost"):
            raise access.wrong_host(host)
        proxied = proxy.parse(request.raw_path.partition("?")[0])
        if proxied is None and access.is_public(request.method, request.path):
            return tokens.NOBODY
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise tokens.unauthorized()
        user = self._user(token.strip())
        if user == tokens.ADMIN and "Impersonate-User" in request.headers:
            user = tokens.named(request.headers["Impersonate-User"])
        if proxied is not None:
            access.check(user, "get", proxied.target)
        # The path as the server reads it: an encoded slash must not hide what is asked for
        access.authorize(user, request.method, request.path, request.query)
        return user
