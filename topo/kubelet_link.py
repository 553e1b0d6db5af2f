"""The kubelet's connection to the container runtime: kept open, made again when the runtime restarts.

A runtime that goes takes its containers with it; ``on_lost`` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from topo.images.image import Container
from topo.kubelet_batch import Batcher
from topo.runtime_wire import GONE, Channel, Message, RuntimeFault, connect

RETRY_SECONDS = 0.1


class RuntimeLink:
    """Requests to the runtime; each waits until the runtime answers on its socket."""

    def __init__(
        self, path: Path, *, on_exit: Callable[[str, int, str], None], on_lost: Callable[[], None]
    ) -> None:
        self._path, self._on_exit, self._on_lost = path, on_exit, on_lost
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()
        self._starts: Batcher[Container, Message | None] = Batcher(self._start_all, limit=100)
        self._closing = False

    async def start(self, container: Container) -> None:
        """Run a container; returns when its sockets are bound. RuntimeFault says why it does not run."""
        answer = await self._starts.submit(container)
        if answer is not None:
            raise RuntimeFault(answer["reason"], answer["message"])

    async def stop(self, ids: Sequence[str], grace: float) -> dict[str, int]:
        """Exit codes of those that still ran."""
        if self._channel is None or self._channel.closed:
            return {}  # gone with the runtime
        try:
            codes: dict[str, int] = await self._channel.request("stop", ids=list(ids), grace=grace)
        except RuntimeFault as fault:
            if fault.reason != GONE:
                raise
            return {}
        return codes

    async def release(self, uid: str) -> None:
        """A pod's volumes are not needed any more."""
        if self._channel is not None and not self._channel.closed:
            with contextlib.suppress(RuntimeFault):  # gone with the runtime
                await self._channel.request("release", uid=uid)

    async def execute(self, container_id: str, argv: Sequence[str], timeout: float) -> tuple[int, str]:
        channel = await self._connected()
        done = await channel.request("exec_sync", container=container_id, argv=list(argv), timeout=timeout)
        return int(done["exitCode"]), str(done["output"])

    def close(self) -> None:
        self._closing = True
        if self._channel is not None:
            self._channel.close()

    async def _start_all(self, containers: Sequence[Container]) -> Sequence[Message | None]:
        described = [container.to_json() for container in containers]
        while True:
            channel = await self._connected()
            try:
                answers: list[Message | None] = await channel.request("start", containers=described)
                return answers
            except RuntimeFault as fault:
                if fault.reason != GONE or self._closing:
                    raise
            # What it may have started went with it; and one that is just ending may still accept.
            await asyncio.sleep(RETRY_SECONDS)

    async def _connected(self) -> Channel:
        async with self._lock:
            while self._channel is None or self._channel.closed:
                try:
                    self._channel = await connect(
                        str(self._path), on_message=self._says, on_close=lambda _: self._lost()
                    )
                except OSError:
                    await asyncio.sleep(RETRY_SECONDS)
            return self._channel

    def _says(self, channel: Channel, message: dict[str, Any], fds: list[int]) -> None:
        if message.get("event") == "exited":
            self._on_exit(message["container"], message["exitCode"], message["message"])

    def _lost(self) -> None:
        if not self._closing:
            self._on_lost()
