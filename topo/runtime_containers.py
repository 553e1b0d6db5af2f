"""The containers that run now: start, stop, and what becomes of them when a process ends.

Used by the runtime's server only. Messages arrive here decoded; how they travel is ``runtime_wire``,
how a box is made is ``runtime_box``, what else runs in one ``runtime_exec``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from topo.images.image import Container
from topo.images.table import find
from topo.runtime_box import Box, Forker, Process
from topo.runtime_busybox import applets
from topo.runtime_log import Budget
from topo.runtime_running import Running
from topo.runtime_sys import CAPABILITIES
from topo.runtime_volumes import share
from topo.runtime_wire import Channel, Message, RuntimeFault

log = logging.getLogger("runtime")

TERMINATED = 128 + signal.SIGTERM
KILLED = 128 + signal.SIGKILL


class Containers:
    """``directory`` holds the mount point boxes are built on. ``on_exit`` hears of unasked exits."""

    def __init__(self, directory: Path, *, on_exit: Callable[[Message], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, Running] = {}
        self._on_exit = on_exit
        self.children: dict[int, Callable[[int], None]] = {}
        """Who hears of which process' end."""
        self._forker = Forker()
        self._budget = Budget()
        self._scratch = directory / "root"
        self._scratch.mkdir(exist_ok=True)
        self.volumes = directory / "volumes"
        self._busybox = applets(directory / "busybox")
        self._light: Channel | None = None

    # -- children

    def reap(self) -> None:
        """Collect every ended child; called on SIGCHLD."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            callback = self.children.pop(pid, None)
            if callback is not None:
                callback(code if code >= 0 else 128 - code)

    async def start_light(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "topo.runtime_light", str(theirs.fileno())],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)],
            )
        self._light = Channel(ours, on_message=self._light_says)
        self.children[pid] = self._light_ended

    def _light_says(self, channel: Channel, message: Message, fds: list[int]) -> None:
        running = self._running.get(message["container"])
        if running is not None:
            self._ended(running, message["exitCode"], message["message"])

    def _light_ended(self, code: int) -> None:
        log.error("the light child ended with code %d; its containers have ended, a new one starts", code)
        assert self._light is not None
        self._light.close()
        for running in list(self._running.values()):
            if running.image.light:
                self._ended(running, KILLED, "the process that serves light images ended")
        self._loop.call_later(0.2, lambda: asyncio.ensure_future(self.start_light()))

    # -- life

    async def start(self, containers: Sequence[Container]) -> list[Message | None]:
        """One answer a container: None when it runs (its sockets are bound), else reason and message."""
        all_running = [Running(container=c, image=find(c.image)) for c in containers]
        for running in all_running:
            self._running[running.container.id] = running
        light = [running for running in all_running if running.image.light]
        answers: dict[str, Message | None] = {}
        if light:
            assert self._light is not None
            try:
                got = await self._light.request("start", containers=[r.container.to_json() for r in light])
            except RuntimeFault as fault:
                got = [{"reason": fault.reason, "message": fault.message}] * len(light)
            answers.update((r.container.id, answer) for r, answer in zip(light, got, strict=True))
        for running in all_running:
            if not running.image.light:
                answers[running.container.id] = self._start_process(running)
                await asyncio.sleep(0)
        for container_id, answer in answers.items():
            if answer is not None:
                self._running.pop(container_id, None)
        return [answers[c.id] for c in containers]

    def _start_process(self, running: Running) -> Message | None:
        container = running.container
        try:
            if running.image.module:
                running.program = importlib.import_module(running.image.module).program(container)
            box = self._box(running)
            argv = running.program.argv if running.program else container.argv
            if argv:
                with open(os.devnull, "rb") as null:
                    fds = running.standard(null.fileno(), self._budget)
                    process = self.process(running, argv, fds, tty=container.tty)
                    running.main = self._forker.spawn(box, process)
                self.children[running.main] = lambda code: self._ended(running, code, "")
                running.close_theirs()
        except OSError as error:
            self._kill_box(running)
            running.close()
            text = f"failed to create containerd task: failed to start: {error.strerror}"
            return {"reason": "StartError", "message": text}
        return None

    def _box(self, running: Running) -> int:
        """The container's box, made now if it has none. OSError when it cannot be made."""
        if running.box is None:
            container = running.container
            pid = self._forker.create(
                Box(
                    netns=container.netns,
                    hostname=container.hostname or container.pod,
                    scratch=str(self._scratch),
                    busybox=self._busybox,
                    files=container.files,
                    binds=running.program.binds if running.program else (),
                    volumes=container.volumes,
                    mounts=container.mounts,
                    shared=share(self.volumes, container.volumes) if container.mounts else {},
                    user=container.user,
                )
            )
            running.box = pid
            self.children[pid] = lambda code: self._box_ended(running, code)
        return running.box

    def process(
        self,
        running: Running,
        argv: Sequence[str],
        fds: tuple[int, int, int],
        *,
        env: Mapping[str, str] | None = None,
        tty: bool = False,
    ) -> Process:
        container = running.container
        image = running.program.env if running.program else {}
        return Process(
            argv=argv,
            env={**container.env, **image, **(env or {})},
            fds=fds,
            uid=container.user,
            capabilities=tuple(CAPABILITIES[name] for name in running.image.capabilities),
            workdir=container.workdir,
            tty=tty,
        )

    def spawn(self, running: Running, process: Process) -> int:
        """One more process beside the container's own. OSError when it cannot be started."""
        return self._forker.spawn(self._box(running), process)

    def _box_ended(self, running: Running, code: int) -> None:
        running.box = None
        if not running.image.light and running.main is None:
            self._ended(running, code, "")

    def _kill_box(self, running: Running) -> None:
        if running.box is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.box, signal.SIGKILL)

    def _ended(self, running: Running, code: int, message: str) -> None:
        if running.ended.done():
            return
        running.ended.set_result(code)
        self._kill_box(running)
        running.close()
        self._running.pop(running.container.id, None)
        if not running.stopping:
            self._on_exit(
                {"event": "exited", "container": running.container.id, "exitCode": code, "message": message}
            )

    async def stop(self, ids: Sequence[str], grace: float) -> dict[str, int]:
        """TERM, wait up to ``grace`` seconds, KILL; exit code by id of those that still ran."""
        found = [running for i in ids if (running := self._running.get(i)) is not None]
        light = [running for running in found if running.image.light]
        for running in found:
            running.stopping = True
        if light:
            assert self._light is not None
            with contextlib.suppress(RuntimeFault):
                await self._light.request("stop", ids=[running.container.id for running in light])
            for running in light:
                self._ended(running, TERMINATED, "")
        for running in found:
            if running.main is not None and grace > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.main, signal.SIGTERM)
            elif running.main is None:
                self._ended(running, TERMINATED, "")
        waiting = [running.ended for running in found if not running.ended.done()]
        if waiting and grace > 0:
            await asyncio.wait(waiting, timeout=grace)
        for running in found:
            if not running.ended.done():
                self._kill_box(running)
        for running in found:
            await running.ended
        return {running.container.id: running.ended.result() for running in found}

    def kill_all(self) -> None:
        for running in list(self._running.values()):
            self._kill_box(running)

    def running(self, container_id: str) -> Running | None:
        return self._running.get(container_id)

    def describe(self) -> list[dict[str, Any]]:
        return [
            {
                "id": r.container.id,
                "namespace": r.container.namespace,
                "pod": r.container.pod,
                "container": r.container.name,
                "image": r.container.image,
                "program": r.image.name,
                "box": r.box,
                "netns": r.container.netns,
            }
            for r in self._running.values()
        ]

    def find(self, message: Message) -> Running:
        namespace, pod, name = (
            message.get("namespace", "default"),
            message["pod"],
            message.get("container", ""),
        )
        of_pod = [
            r for r in self._running.values() if r.container.pod == pod and r.container.namespace == namespace
        ]
        if not of_pod:
            raise RuntimeFault("NotFound", f"no running pod {namespace}/{pod}")
        for running in of_pod:
            if not name or running.container.name == name:
                return running
        known = ", ".join(r.container.name for r in of_pod)
        raise RuntimeFault(
            "NotFound", f"no running container {name} in pod {namespace}/{pod} (it has {known})"
        )

    async def input(self, message: Message) -> None:
        """Type ``data`` (base64) into a container that has an input, end it, or tell its terminal's size."""
        own = self.find(message).input
        if own is None:
            raise RuntimeFault("BadRequest", "the container has no standard input: its stdin is not true")
        if size := message.get("size"):
            own.resize(size[0], size[1])
        await own.write(base64.b64decode(message.get("data", "")))
        if message.get("end"):
            await own.end()
