"""One pod's life on its node: wires, containers, probes, restarts, status, end.

A worker lives on the kubelet's event loop and does nothing blocking; all it needs from outside comes
as a ``Machine``. What a status looks like is ``kubelet_status``, what a container gets ``kubelet_spec``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from controller.api.hostports import forwarded
from controller.api.objects import Obj
from topo.images.table import find
from topo.kubelet_env import ConfigError, references
from topo.kubelet_ipam import AddressesExhausted, Ipam
from topo.kubelet_logs import turn_log
from topo.kubelet_machine import Machine
from topo.kubelet_prober import Prober
from topo.kubelet_reporter import StatusWriter
from topo.kubelet_spec import Place, container_of, image_id, named_ports, pod_message, remarks
from topo.kubelet_stand_in import excused
from topo.kubelet_status import OWN_CONDITIONS, ContainerRecord, pod_status, restarts, status_patch
from topo.kubelet_stop import before_stop
from topo.kubelet_volumes import references as shown
from topo.plan import in_family
from topo.probes import Target
from topo.runtime_wire import RuntimeFault
from topo.wires import PodPlug


class PodWorker:
    """``settled`` is called when all that its start (or end) asks for at once is done; waiting for an
    init container, a probe, a back-off or a grace period is not part of it."""

    def __init__(
        self, machine: Machine, pod: Obj, place: Place, *, host: str, ipam: Ipam, node_netns: str
    ) -> None:
        self.pod, self.place, self.host = pod, place, host
        self.gone = asyncio.Event()
        self._machine, self._ipam, self._node_netns = machine, ipam, node_netns
        self._interface = ""
        self._plugged = False
        self._ending = asyncio.Event()
        self._records = [
            ContainerRecord(spec=spec, init=init, image_id=image_id(spec["image"]))
            for word, init in (("initContainers", True), ("containers", False))
            for spec in pod["spec"].get(word) or []
        ]
        self._probers: dict[str, Prober] = {}
        self._early: dict[str, tuple[int, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._start_time = machine.now()
        self._status = StatusWriter(self._as_it_is, self._write, self._spawn)
        self._life: asyncio.Task[None] | None = None
        self._grace_given: float | None = None

    # -- what the kubelet calls

    def begin(self, settled: Callable[[], None], *, after: asyncio.Event | None) -> None:
        """Start the pod, once the pod that had its name before is gone."""
        self._life = self._spawn(self._start(settled, after))

    def update(self, pod: Obj) -> None:
        """The object as it is now: images may have changed, or conditions of others."""
        self.pod = pod
        specs = {spec["name"]: spec for spec in pod["spec"]["containers"]}
        for record in self._records:
            new = specs.get(record.name)
            if new is not None and not record.init and new["image"] != record.spec["image"]:
                record.spec, record.image_id = new, image_id(new["image"])
                if record.running:
                    self._event(f"Container {record.name} definition changed, will be restarted", "Killing")
                    self._spawn(self._kill(record, self._grace()))
        if self._status.written and pod["spec"].get("readinessGates"):
            self._status.sync()

    def moved_to(self, node_addresses: tuple[str, ...]) -> None:
        """The node has other addresses."""
        on_host = bool(self.pod["spec"].get("hostNetwork"))
        addresses = node_addresses if on_host else self.place.addresses
        self.place = replace(self.place, node_addresses=node_addresses, addresses=addresses)
        if self._status.written:
            self._status.sync()

    def end(self, settled: Callable[[], None], *, grace: float, delete: bool) -> None:
        """Stop the pod within ``grace`` seconds, take its wires away and (if asked) delete the object."""
        if self._grace_given is None:
            self._grace_given = grace
            self._ending.set()
            self._spawn(self._stop(settled, grace, delete))
        elif grace < self._grace_given:
            self._grace_given = grace
            self._spawn(self._hurry(settled, grace))
        else:
            settled()

    def exited(self, record: ContainerRecord, container_id: str, code: int, message: str) -> None:
        """The runtime says that a container ended by itself."""
        if record.id == container_id and record.running:
            self._ended(record, code, message)
        else:
            self._early[container_id] = (code, message)

    def runtime_lost(self) -> None:
        for record in self._records:
            if record.running:
                self._ended(record, 137, "the container runtime ended")

    def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    # -- start

    async def _start(self, settled: Callable[[], None], after: asyncio.Event | None) -> None:
        try:
            if after is not None:
                await after.wait()
            if not await self._wire(settled):
                return
            self.place = replace(self.place, credentials=await self._machine.credentials(self.pod))
            for record in self._records:
                if record.init:
                    await self._launch_init(record)
                    self._status.sync()
                    while not record.done:
                        settled()
                        self._moved.clear()
                        await self._moved.wait()
                        if self._ending.is_set() or self._failed_for_good(record):
                            return
            await asyncio.gather(*(self._launch(record) for record in self._records if not record.init))
            self._status.sync()
            await self._status.flushed()
        finally:
            settled()

    async def _launch_init(self, record: ContainerRecord) -> None:
        if record.sidecar or not find(record.spec["image"]).light:
            await self._launch(record)
            return
        text = f"init container {record.name} is not run: image {record.spec['image']} is no shell image"
        self._event(text, "InitContainerIgnored", type="Warning")
        record.end(0, text, self._machine.now())

    async def _wire(self, settled: Callable[[], None]) -> bool:
        """Address and wires; False when the pod is ended meanwhile."""
        if self.pod["spec"].get("hostNetwork"):
            return True
        attempts = 0
        while not self._ending.is_set():
            try:
                if not self.place.addresses:
                    self._take_address(self._ipam.allocate())
                self._plugged = True
                await self._machine.plug(self._as_plug(IPv4Address(self.place.address)))
                return True
            except Exception as error:
                text = f"Failed to create pod sandbox: {error}"
                if not isinstance(error, AddressesExhausted):
                    text += f" ({type(error).__name__})"
                self._event(text, "FailedCreatePodSandBox", type="Warning")
                self._status.sync()
                await self._status.flushed()
                settled()
                attempts += 1
                await self._pause(min(self._machine.pace.retry * attempts, 30))
        return False

    def _as_plug(self, address: IPv4Address) -> PodPlug:
        plug = PodPlug(name=self.host, node=self.place.node, address=address, interface=self._interface)
        return replace(plug, host_ports=forwarded(self.pod))

    def _take_address(self, address: IPv4Address) -> None:
        addresses = tuple(str(in_family(address, family)) for family in self._ipam.families)
        self.place = replace(self.place, addresses=addresses)
        self._interface = f"{self.place.node}-p{int(address) & 0xFF}"

    async def _launch(self, record: ContainerRecord) -> None:
        """Run a container, or begin to wait for another attempt."""
        if self._ending.is_set():
            return
        machine, namespace = self._machine, self.pod["metadata"]["namespace"]
        if not record.restarts:
            for remark in remarks(self.pod, record.spec):
                self._event(remark.message, remark.reason, type=remark.type)
            self._event(f'Container image "{record.spec["image"]}" already present on machine', "Pulled")
        try:
            found = {}
            for kind, name in references(record.spec) | shown(self.pod):
                found[kind, namespace, name] = await machine.fetch(kind, namespace, name)
            container_id = machine.new_id(self, record)
            container = container_of(
                self.pod, record.spec, container_id, self.place, machine.services(), lambda *at: found.get(at)
            )
        except ConfigError as error:
            record.wait(error.state, str(error))
            self._event(f"{error.prefix}{error}", error.reason, type="Warning")
            self._spawn(self._again(record, self._machine.pace.retry))
            return
        turn_log(container.log, again=record.restarts > 0)
        self._event(f"Created container {record.name}", "Created")
        record.id = container_id
        try:
            await machine.link.start(container)
        except RuntimeFault as fault:
            self._event(f"Error: {fault.message}", "Failed", type="Warning")
            record.run(container_id, machine.now())
            self._ended(record, 128, fault.message, reason=fault.reason)
            return
        record.run(container_id, machine.now())
        self._event(f"Started container {record.name}", "Started")
        early = self._early.pop(container_id, None)
        if early is not None:
            self._ended(record, *early)
            return
        target = Target(
            address=self.place.address,
            netns=self._node_netns,
            ports=named_ports(record.spec),
            execute=self._executor(container_id),
        )
        self._probers[record.name] = Prober(
            record,
            target,
            changed=self._changed,
            unhealthy=lambda text: self._event(text, "Unhealthy", type="Warning"),
            kill=lambda why, grace: self._spawn(self._kill_unhealthy(record, why, grace)),
        )

    def _executor(self, container_id: str) -> Callable[[Sequence[str], float], Awaitable[tuple[int, str]]]:
        async def execute(argv: Sequence[str], timeout: float) -> tuple[int, str]:
            try:
                return await self._machine.link.execute(container_id, argv, timeout)
            except RuntimeFault as fault:
                return -1, fault.message

        return execute

    # -- restarts

    def _ended(self, record: ContainerRecord, code: int, message: str, *, reason: str = "") -> None:
        self._stop_probing(record)
        why = excused(record.spec, code) if record.init and not record.sidecar and code else ""
        if why:
            text = f"init container {record.name} failed ({code}), and counts as done: {why}"
            self._event(text, "InitContainerIgnored", type="Warning")
            code, reason = 0, ""
        record.end(code, message, self._machine.now())
        if reason:
            record.state["terminated"]["reason"] = reason
        if not self._ending.is_set() and restarts(self.pod, record, code):
            self._spawn(self._again(record, self._back_off(record)))
        self._changed()

    def _back_off(self, record: ContainerRecord) -> float:
        pace = self._machine.pace
        delay = record.next_back_off(base=pace.back_off, limit=pace.back_off_max, steady=pace.steady)
        if delay:
            metadata = self.pod["metadata"]
            where = f"{metadata['name']}_{metadata['namespace']}({metadata.get('uid', '')})"
            record.wait(
                "CrashLoopBackOff",
                f"back-off {delay:g}s restarting failed container={record.name} pod={where}",
            )
            text = f"Back-off restarting failed container {record.name} in pod {where}"
            self._event(text, "BackOff", type="Warning")
        return delay

    async def _again(self, record: ContainerRecord, delay: float) -> None:
        await self._pause(delay)
        if self._ending.is_set():
            return
        if record.last_state or "terminated" in record.state:
            record.restarts += 1
        await self._launch(record)
        self._changed()

    async def _kill_unhealthy(self, record: ContainerRecord, why: str, grace: float | None) -> None:
        self._event(f"Container {record.name} failed {why} probe, will be restarted", "Killing")
        await self._kill(record, self._grace() if grace is None else grace)

    async def _kill(self, record: ContainerRecord, grace: float) -> None:
        container_id = record.id
        codes = await self._machine.link.stop([container_id], grace)
        if container_id in codes and record.id == container_id and record.running:
            self._ended(record, codes[container_id], "")

    def _failed_for_good(self, record: ContainerRecord) -> bool:
        ended = record.state.get("terminated")
        return ended is not None and not record.done and not restarts(self.pod, record, ended["exitCode"])

    # -- end

    async def _stop(self, settled: Callable[[], None], grace: float, delete: bool) -> None:
        try:
            if self._life is not None:
                self._moved.set()
                await asyncio.wait([self._life])
            patience = asyncio.get_running_loop().call_later(1, settled)  # a grace period is a timer
            for prober in self._probers.values():
                prober.only_readiness()
            running = [record for record in self._records if record.running]
            for record in running:
                self._event(f"Stopping container {record.name}", "Killing")
            if grace > 0:
                targets = [(r.spec, self._executor(r.id)) for r in running]
                grace = await before_stop(targets, self.place.address, self._node_netns, grace)
            if running:
                await self._machine.link.stop([record.id for record in running], grace)
            patience.cancel()
            for record in self._records:
                self._stop_probing(record)
            if self._plugged:
                await self._machine.unplug(self.host)
                self._ipam.release(IPv4Address(self.place.address))
            if self.pod["spec"].get("volumes"):
                await self._machine.link.release(self.pod["metadata"]["uid"])
            self.gone.set()
            if delete:
                await self._machine.delete(self.pod)
        finally:
            settled()
            self.gone.set()

    async def _hurry(self, settled: Callable[[], None], grace: float) -> None:
        try:
            running = [record.id for record in self._records if record.running]
            if running:
                await self._machine.link.stop(running, grace)
        finally:
            settled()

    # -- status

    def _changed(self) -> None:
        self._moved.set()
        if not self._ending.is_set() or self._probers:
            self._status.sync()

    async def _write(self, status: Obj) -> None:
        await self._machine.write(self.pod, status_patch(status, self._interface))

    def _as_it_is(self) -> Obj:
        # what was written may be newer than what the informer has shown; the others' conditions are not
        own = [c for c in self._status.written.get("conditions", []) if c["type"] in OWN_CONDITIONS]
        seen = (self.pod.get("status") or {}).get("conditions") or []
        known = {**self.pod, "status": {"conditions": [*seen, *own]}}
        status = pod_status(
            known,
            self._records,
            addresses=self.place.addresses,
            host_addresses=self.place.node_addresses,
            start_time=self._start_time,
            now=self._machine.now(),
        )
        message = pod_message(self.pod)
        return {**status, "message": message} if message else status

    # -- small things

    def _stop_probing(self, record: ContainerRecord) -> None:
        prober = self._probers.pop(record.name, None)
        if prober is not None:
            prober.stop()

    def _grace(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _event(self, message: str, reason: str, *, type: str = "Normal") -> None:
        self._machine.events.record(self.pod, reason, message, type=type)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than the pod lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            text = f"pod {self.host}"
            task.get_loop().call_exception_handler({"message": text, "exception": task.exception()})
