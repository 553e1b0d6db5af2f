"""The DNS server's process: the API's objects into the index, the ConfigMap into the configuration.

``python -m controller.dns.app`` in a pod: reads ConfigMap kube-system/coredns through the API (and follows
it), serves what its Corefile says, and ends lame-duck on TERM. It only puts the parts together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from controller.api.client import Batch, Client, Informer
from controller.api.errors import PodwireError, UserError
from controller.api.incluster import InCluster
from controller.api.objects import Obj
from controller.dns.corefile import DEFAULT, Block, CorefileError, parse
from controller.dns.index import Index, Topic, trigger_time
from controller.dns.metrics import Metrics
from controller.dns.responder import Responder
from controller.dns.sockets import Listener, Page, Pages

CONFIG = ("kube-system", "coredns")
_KINDS = ("Service", "EndpointSlice", "Namespace", "ConfigMap")
_REPORTS, _REPORT_AGAIN = 10, 0.5
_PROGRAMMING = "coredns_kubernetes_dns_programming_duration_seconds"


class App:
    """``report(resourceVersion)`` is called on a thread when everything up to it is answered from."""

    def __init__(
        self,
        client: Client,
        *,
        own: Sequence[str] = (),
        address: str = "",
        report: Callable[[int], None] = lambda version: None,
    ) -> None:
        self._client, self._address, self._report = client, address, report
        self._loop = asyncio.get_running_loop()
        self.metrics, self.index = Metrics(), Index()
        # Until the ConfigMap is known nothing is forwarded: it may say that nobody else is to be asked.
        self._blocks: tuple[Block, ...] = tuple(replace(block, forwards=()) for block in parse(DEFAULT))
        self.responder = Responder(self._blocks, self.index, self.metrics, own=own)
        self.listeners: dict[int, Listener] = {}
        self._pages: dict[int, Pages] = {}
        self._configured = False
        self._text: str | None = None
        self._ducking = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._informer: Informer | None = None
        self._pods = self._moving = False
        """Whether Pods are followed too; whether another informer is about to take over."""
        self.failed: asyncio.Future[BaseException] = self._loop.create_future()

    # -- life

    async def start(self) -> App:
        await self._listen()
        self._follow(pods=False)
        return self

    async def stop(self, *, lameduck: bool = True) -> None:
        """Answer on for the lame-duck time, not ready any more; then close."""
        self._ducking = True
        wait = max((block.lameduck for block in self._blocks), default=0.0)
        if lameduck and wait:
            print(f"[INFO] plugin/health: Going into lameduck mode for {wait:g}s", flush=True)
            await asyncio.sleep(wait)
        if self._informer is not None:
            informer, self._informer = self._informer, None
            await asyncio.to_thread(informer.stop)
        for listener in self.listeners.values():
            listener.close()
        for pages in self._pages.values():
            pages.close()

    @property
    def ready(self) -> bool:
        return self.responder.synced and self._configured and not self._ducking

    async def _listen(self) -> None:
        """Open what the configuration names and is not open; close what it names no more."""
        ports = {block.port for block in self._blocks}
        for port in ports - set(self.listeners):
            listener = Listener(port, self.responder.respond, address=self._address)
            self.listeners[port] = await listener.start()
        for port in set(self.listeners) - ports:
            self.listeners.pop(port).close()
        pages: dict[int, dict[str, Page]] = {}
        for block in self._blocks:
            for port, path, page in (
                (block.health, "/health", _health),
                (block.ready, "/ready", self._ready_page),
                (block.prometheus, "/metrics", lambda: (200, self.metrics.text())),
            ):
                if port:
                    pages.setdefault(port, {})[path] = page
        for port in set(self._pages) - set(pages):
            self._pages.pop(port).close()
        for port, found in pages.items():
            if port in self._pages:
                self._pages[port].pages = found
            else:
                self._pages[port] = await Pages(port, found, address=self._address).start()

    def _ready_page(self) -> tuple[int, str]:
        if self._ducking:
            return 503, "Shutting down"
        return (200, "OK") if self.ready else (503, "kubernetes")

    # -- the API

    def _follow(self, *, pods: bool) -> None:
        kinds = (*_KINDS, "Pod") if pods else _KINDS
        self._pods, self._first = pods, True
        self._informer = Informer(
            self._client,
            kinds,
            self._on_batch,
            namespaces={"ConfigMap": CONFIG[0]},
            fields={"ConfigMap": f"metadata.name={CONFIG[1]}"},
            on_error=lambda error: self._soon(self._fail, error),
        ).start()

    def _soon(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(call, *arguments)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    def _on_batch(self, batch: Batch) -> None:
        """On the informer's thread: reported when the loop answers from it."""
        done = threading.Event()
        self._soon(self._apply, batch, done)
        while not done.wait(1):
            if self._loop.is_closed():
                return
        if not self._moving:
            self._report(batch.resource_version)

    def _apply(self, batch: Batch, done: threading.Event) -> None:
        try:
            first, config = self._first, self._text
            topics: set[Topic] = set()
            if first:  # perhaps of another informer, which tells of everything anew
                self._first = self._moving = False
                self.index = self.responder.index = Index()
            for type_, obj, _ in batch.events:
                if obj["kind"] == "ConfigMap":
                    config = None if type_ == "DELETED" else (obj.get("data") or {}).get("Corefile", "")
                elif changed := self.index.apply(type_, obj):
                    topics |= changed
                    if obj["kind"] == "EndpointSlice" and self.responder.synced:
                        self._programmed(obj)
            if first or topics:
                self.responder.changed(None if first else topics)
            if first or config != self._text:
                self._text = config
                self._configure(DEFAULT if config is None else config)
            if not self.responder.synced:
                self.responder.synced = True
                gc.collect()
                gc.freeze()
            done.set()
        except Exception as error:
            self._fail(error)

    def _programmed(self, obj: Obj) -> None:
        """CoreDNS' figure: from the change to the answer, for headless Services with a selector."""
        began = trigger_time(obj)
        if began is None:
            return
        service = self.index.service_of(obj)
        if service is not None and service.headless:
            spent = time.time() - datetime.fromisoformat(began).timestamp()
            self.metrics.see(_PROGRAMMING, max(0.0, spent), (("service_kind", "headless_with_selector"),))

    # -- the configuration

    def _configure(self, text: str) -> None:
        try:
            blocks = parse(text)
        except CorefileError as error:
            self.metrics.count("coredns_reload_failed_total")
            print(f"[ERROR] plugin/reload: Corefile of ConfigMap {'/'.join(CONFIG)}: {error}; "
                  "what was served is served on", file=sys.stderr, flush=True)  # fmt: skip
            return
        verified = any(b.kubernetes is not None and b.kubernetes.pods == "verified" for b in blocks)
        if verified != self._pods:  # in force with the first batch of the informer that follows
            self._moving = True
            self._later(self._move(pods=verified))
            return
        self._blocks, self._configured = blocks, True
        self.responder.configure(blocks)
        print(f"[INFO] plugin/reload: serving on {self._where()}", flush=True)
        self._later(self._listen())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    async def _move(self, *, pods: bool) -> None:
        if self._informer is not None:
            await asyncio.to_thread(self._informer.stop)
            self._follow(pods=pods)

    def _where(self) -> str:
        return ", ".join(
            f"{'.'.join(zone)}.:{block.port}" if zone else f".:{block.port}"
            for block in self._blocks
            for zone in block.zones
        )


def _health() -> tuple[int, str]:
    return 200, "OK"


def own_addresses(toward: Sequence[str]) -> list[str]:
    """The addresses from which this host would speak to others."""
    found = []
    for other in toward:
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.connect((other, 53))  # sends nothing
            found.append(str(sock.getsockname()[0]))
    return found


async def _run(arguments: argparse.Namespace) -> int:
    client = Client(arguments.api, "podwire-dns") if arguments.api else InCluster("podwire-dns")
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    component = f"dns/{os.environ.get('HOSTNAME', socket.gethostname())}"

    def report(version: int) -> None:
        """Again for a while when it was not heard: no later batch may come to make up for it."""
        for _ in range(_REPORTS):
            if client.progress(component, version):
                return
            threading.Event().wait(_REPORT_AGAIN)

    app = App(
        client,
        own=own_addresses([os.environ.get("KUBERNETES_SERVICE_HOST", "10.96.0.1"), "fd00:10:96::1"]),
        address=arguments.address,
        report=report,
    )
    await app.start()
    app.failed.add_done_callback(lambda _: ended.set())
    await ended.wait()
    if app.failed.done():
        traceback.print_exception(app.failed.result())
        return 1
    await app.stop()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m controller.dns.app", description=__doc__)
    parser.add_argument("--api", help="the API server's Unix socket (default: as a pod, over TLS)")
    parser.add_argument("--address", default="", help="the one address to listen on (default: all)")
    try:
        return asyncio.run(_run(parser.parse_args(argv)))
    except (PodwireError, UserError) as error:
        print(f"dns: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the informer's threads may sit in a read
