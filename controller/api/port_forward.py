"""Connections into a pod for ``port-forward``: dialled from inside the pod, on its own localhost.

In a real cluster the node's runtime dials, asked by the kubelet. Here the API server asks the runtime for
the pod's network namespace and dials there itself: no packet passes a switch. How a client asks is
``upgrade``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.api import objects
from controller.api.errors import ApiError
from controller.api.exec import answer_of, ask_runtime
from controller.api.history import Event
from controller.api.namespaces import call_in
from controller.api.objects import Obj
from controller.api.store import Store
from controller.api.streams import Stream, Tasks

_CHUNK = 1 << 17
_TIMEOUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Into one pod, which another of the same name is not."""

    pod: Obj
    runtime: Path

    async def connect(self, port: int, data: Stream, error: Stream) -> None:
        """One connection: both ways until the pod closes it. What goes wrong is told on ``error``."""
        try:
            reader, writer = await self._dial(port)
        except (OSError, ApiError) as problem:
            text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
            name, uid = objects.name(self.pod), self.pod["metadata"]["uid"]
            told = f"failed to connect to localhost:{port} inside the pod: {text.lower()}"
            await error.write(f"error forwarding port {port} to pod {name}, uid {uid}: {told}".encode())
            await data.drop()
        else:
            async with Tasks() as tasks:
                tasks.start(_up(data, writer))
                await _down(reader, data)
            await data.drop()
            writer.close()
        await data.finish()
        await error.finish()

    async def _dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        netns = await self._netns()

        def dial() -> socket.socket:
            try:
                return socket.create_connection(("127.0.0.1", port), _TIMEOUT)
            except OSError:
                with contextlib.suppress(OSError):
                    return socket.create_connection(("::1", port), _TIMEOUT)
                raise

        made = await asyncio.to_thread(call_in, netns, dial)
        return await asyncio.open_connection(sock=made, limit=_CHUNK)

    async def _netns(self) -> str:
        reader, writer = await ask_runtime(self.runtime, {"id": 1, "method": "list"})
        try:
            answer = await answer_of(reader)
        finally:
            writer.close()
        for one in answer.get("result") or ():
            if (one["namespace"], one["pod"]) == (objects.namespace(self.pod), objects.name(self.pod)):
                return str(one["netns"])
        raise ConnectionRefusedError("no container of the pod is running")


async def _up(data: Stream, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await data.read():
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


async def _down(reader: asyncio.StreamReader, data: Stream) -> None:
    while True:
        try:
            piece = await reader.read(_CHUNK)
        except ConnectionError:  # reset by the pod
            return
        if not piece:
            return
        await data.write(piece)


async def until_gone(store: Store, pod: Obj) -> None:
    """Return when this pod is not there any more, or has ended."""
    gone, loop = asyncio.Event(), asyncio.get_running_loop()
    uid = pod["metadata"]["uid"]

    def hear(event: Event) -> None:
        if event.kind == "Pod" and event.obj["metadata"]["uid"] == uid and _is_over(event.type, event.obj):
            loop.call_soon_threadsafe(gone.set)

    unsubscribe: Callable[[], None] = store.subscribe(hear)
    try:
        now = store.get("Pod", objects.namespace(pod), objects.name(pod))
        if now is None or now["metadata"]["uid"] != uid or _is_over("", now):
            return
        await gone.wait()
    finally:
        unsubscribe()


def _is_over(type_: str, pod: Obj) -> bool:
    return type_ == "DELETED" or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
