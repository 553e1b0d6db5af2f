"""The kubelet of every node of the lab: makes what the API says about Pods true, and reports back.

    Informer (Pods, Services, Nodes) ──► this loop: one PodWorker a pod ──► wires, runtime, status

One object and one event loop for all nodes; what blocks (API calls, plugging) goes to few threads,
many pods at a time. A pod's life is ``kubelet_pod``; nothing of Services or flows belongs here.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Protocol, TypeVar

from controller.api.client import Batch, Client, Informer
from controller.api.errors import ApiError, Conflict, NotFound, PodwireError, Unreachable
from controller.api.objects import Obj
from controller.api.wiring import KUBELET_SOCKET
from topo.kubelet_batch import Batcher, Progress
from topo.kubelet_events import EventRecorder
from topo.kubelet_ipam import Ipam
from topo.kubelet_link import RuntimeLink
from topo.kubelet_machine import Machine, Pace
from topo.kubelet_pod import PodWorker
from topo.kubelet_server import KubeletServer
from topo.kubelet_spec import Place, is_mirror
from topo.kubelet_status import ContainerRecord
from topo.plan import pod_host_name
from topo.wires import PodPlug

API_THREADS = 4
COMPONENT = "kubelet"
NETNS = "/run/netns"
_RETRY = 0.1
T = TypeVar("T")


class Wires(Protocol):
    """How pods get their wires (``topo.wires.PodWires``)."""

    def plug(self, pods: Sequence[PodPlug]) -> None: ...

    def unplug(self, names: Sequence[str]) -> None: ...


class Kubelet:
    """``nodes`` are the names it speaks for; ``runtime`` is the socket of the container runtime."""

    def __init__(
        self,
        client: Client,
        wires: Wires,
        nodes: Sequence[str],
        runtime: Path,
        *,
        log: Callable[[str], None] = lambda line: None,
        pace: Pace | None = None,
        logs: Path | None = None,
        resolv_conf: str = "",
    ) -> None:
        """``resolv_conf`` is the nodes' own, which pods with dnsPolicy Default get."""
        self._server = KubeletServer(runtime.with_name(KUBELET_SOCKET), nodes, logs) if logs else None
        self._serving: asyncio.Task[None] | None = None
        self._client, self._wires, self._runtime, self._log = client, wires, runtime, log
        self._nodes, self._pace = frozenset(nodes), pace or Pace()
        self._logs, self._resolv_conf = str(logs) if logs else "", resolv_conf
        self._api = ThreadPoolExecutor(API_THREADS, "kubelet-api")
        self._plugging = ThreadPoolExecutor(1, "kubelet-wires")
        self._events = EventRecorder(client, log=log)
        self._informer = Informer(client, ["Pod", "Service", "Node"], self._on_batch)
        self._ids = itertools.count(1)
        self._services: dict[tuple[str, str], Obj] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._ipams: dict[str, Ipam] = {}
        self._waiting: dict[str, Obj] = {}
        self._workers: dict[str, PodWorker] = {}
        self._by_host: dict[str, PodWorker] = {}
        self._containers: dict[str, tuple[PodWorker, ContainerRecord]] = {}
        self._progress = Progress(self._report)
        self._version = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._informer.start()

    def stop(self) -> None:
        """End all threads. Pods are left as they are: the lab takes them away with everything else."""
        self._informer.stop()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
        self._events.close()
        for threads in (self._api, self._plugging):
            threads.shutdown(wait=False, cancel_futures=True)

    # -- the loop

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(self._on_loop_error)
        loop.call_soon(self._set_up)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
            self._machine.link.close()
            loop.close()

    def _set_up(self) -> None:
        if self._server:
            self._serving = self._loop.create_task(self._server.run())
        plugs: Batcher[PodPlug, None] = Batcher(self._plug)
        unplugs: Batcher[str, None] = Batcher(self._unplug)
        credentials: Batcher[Obj, Mapping[str, str]] = Batcher(self._credentials)
        self._machine = Machine(
            link=RuntimeLink(self._runtime, on_exit=self._on_exit, on_lost=self._on_runtime_lost),
            events=self._events,
            plug=plugs.submit,
            unplug=unplugs.submit,
            write=self._write,
            delete=self._delete,
            fetch=self._fetch,
            credentials=credentials.submit,
            services=lambda: list(self._services.values()),
            new_id=self._new_id,
            pace=self._pace,
        )

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        lines = traceback.format_exception(error) if error else [str(context.get("message"))]
        self._log("kubelet: a bug: " + "".join(lines))

    async def _threaded(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(threads, call)

    # -- events of the API

    def _on_batch(self, batch: Batch) -> None:
        """On the informer's thread."""
        self._loop.call_soon_threadsafe(self._handle, batch)

    def _handle(self, batch: Batch) -> None:
        self._version = batch.resource_version
        for event in batch.events:
            kind = event.obj["kind"]
            if kind == "Pod":
                self._pod_event(event.type, event.obj)
            elif kind == "Service":
                self._service_event(event.type, event.obj)
            elif event.type != "DELETED":
                self._node_event(event.obj)
        for uid, pod in list(self._waiting.items()):
            # Not before everything older has been seen: its environment names the Services.
            if int(pod["metadata"]["resourceVersion"]) <= batch.resource_version:
                node = pod["spec"]["nodeName"]
                if node in self._addresses:
                    del self._waiting[uid]
                    self._begin(pod)
        self._progress.saw(batch.resource_version)

    def _service_event(self, type_: str, service: Obj) -> None:
        at = (service["metadata"]["namespace"], service["metadata"]["name"])
        if type_ == "DELETED":
            self._services.pop(at, None)
        else:
            self._services[at] = service

    def _node_event(self, node: Obj) -> None:
        name = node["metadata"]["name"]
        if name not in self._nodes:
            return
        addresses = node["status"].get("addresses", [])
        found = tuple(entry["address"] for entry in addresses if entry["type"] == "InternalIP")
        if name not in self._ipams:
            spec = node["spec"]
            ranges = spec.get("podCIDRs") or [spec["podCIDR"]]
            families = ["IPv6" if ":" in cidr else "IPv4" for cidr in ranges]
            self._ipams[name] = Ipam(IPv4Network(spec["podCIDR"]), families)
        if found and self._addresses.get(name) != found:
            self._addresses[name] = found
            for worker in self._workers.values():
                if worker.place.node == name:
                    worker.moved_to(found)

    def _pod_event(self, type_: str, pod: Obj) -> None:
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        worker = self._workers.get(uid)
        if type_ == "DELETED":
            self._waiting.pop(uid, None)
            if worker is not None:
                self._workers.pop(uid)
                if self._by_host.get(worker.host) is worker and worker.gone.is_set():
                    del self._by_host[worker.host]
                if not worker.gone.is_set():
                    worker.end(self._progress.begin(self._version), grace=0, delete=False)
        elif pod["spec"].get("nodeName") not in self._nodes or is_mirror(pod):
            return
        elif worker is not None:
            worker.update(pod)
            if metadata.get("deletionTimestamp"):
                grace = float(metadata.get("deletionGracePeriodSeconds") or 0)
                worker.end(self._progress.begin(self._version), grace=grace, delete=True)
        elif metadata.get("deletionTimestamp"):
            self._waiting.pop(uid, None)
            end = self._progress.begin(self._version)
            asyncio.ensure_future(self._delete(pod)).add_done_callback(lambda _: end())
        elif (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            self._waiting[uid] = pod

    def _begin(self, pod: Obj) -> None:
        metadata, node = pod["metadata"], pod["spec"]["nodeName"]
        host = pod_host_name(metadata["namespace"], metadata["name"])
        on_host = bool(pod["spec"].get("hostNetwork"))
        place = Place(
            node=node,
            node_addresses=self._addresses[node],
            addresses=self._addresses[node] if on_host else (),
            netns=f"{NETNS}/{node if on_host else host}",
            logs=self._logs,
            machine_resolv_conf=self._resolv_conf,
        )
        before = self._by_host.get(host)
        worker = PodWorker(
            self._machine, pod, place, host=host, ipam=self._ipams[node], node_netns=f"{NETNS}/{node}"
        )
        self._workers[metadata["uid"]] = self._by_host[host] = worker
        worker.begin(self._progress.begin(self._version), after=before.gone if before else None)

    # -- events of the runtime

    def _new_id(self, worker: PodWorker, record: ContainerRecord) -> str:
        self._containers.pop(record.id, None)
        container_id = f"{next(self._ids):012x}"
        self._containers[container_id] = (worker, record)
        return container_id

    def _on_exit(self, container_id: str, code: int, message: str) -> None:
        found = self._containers.pop(container_id, None)
        if found is not None:
            worker, record = found
            worker.exited(record, container_id, code, message)

    def _on_runtime_lost(self) -> None:
        for worker in self._workers.values():
            worker.runtime_lost()

    # -- what blocks

    async def _plug(self, pods: Sequence[PodPlug]) -> Sequence[None]:
        await self._threaded(self._plugging, lambda: self._wires.plug(pods))
        return [None] * len(pods)

    async def _unplug(self, names: Sequence[str]) -> Sequence[None]:
        await self._threaded(self._plugging, lambda: self._wires.unplug(names))
        return [None] * len(names)

    async def _credentials(self, pods: Sequence[Obj]) -> Sequence[Mapping[str, str]]:
        names = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods]
        while True:
            try:
                return await self._threaded(self._api, lambda: self._client.credentials(names))
            except Unreachable:
                await asyncio.sleep(_RETRY)
            except ApiError as error:  # without them no pod starts
                self._log(f"kubelet: no credentials yet: {error}")
                await asyncio.sleep(_RETRY)

    async def _write(self, pod: Obj, patch: Obj) -> None:
        metadata = pod["metadata"]
        await self._insist(
            lambda: self._client.patch(
                "Pod", metadata["name"], patch, metadata["namespace"], subresource="status"
            )
        )

    async def _delete(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        await self._insist(
            lambda: self._client.delete(
                "Pod", metadata["name"], metadata["namespace"], grace=0, uid=metadata["uid"]
            )
        )

    async def _fetch(self, kind: str, namespace: str, name: str) -> Mapping[str, str] | None:
        try:
            obj = await self._threaded(self._api, lambda: self._client.get(kind, name, namespace))
        except PodwireError:
            return None
        data: dict[str, str] = dict(obj.get("data") or {})
        if kind == "Secret":
            return {
                word: base64.b64decode(value).decode(errors="surrogateescape") for word, value in data.items()
            }
        return data

    async def _insist(self, call: Callable[[], Any]) -> None:
        """An API write that waits for the server to be there; an object that is gone is fine."""
        while True:
            try:
                await self._threaded(self._api, call)
                return
            except (NotFound, Conflict):  # gone, or another one has its name: what was meant is over
                return
            except Unreachable:
                await asyncio.sleep(_RETRY)
            except ApiError as error:
                self._log(f"kubelet: the API server refused a status: {error}")
                return

    def _report(self) -> None:
        """Tell the settle channel, after the events recorded so far."""
        version = self._progress.reached

        def report() -> None:
            if version < self._progress.reached:
                return  # a newer one stands in the queue
            try:
                self._client.progress(COMPONENT, version)
            except PodwireError:
                return  # the informer's next batch, when the server is back, reports again

        self._events.after_events(report)
