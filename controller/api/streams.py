"""A byte stream between a client and a pod, whatever carries it; and what a request asks to be streamed.

``Stream`` is the shape that SPDY's streams and WebSocket's channels have in common. How they travel is
``spdy_session`` and ``upgrade``; what is at their other end is ``exec`` and ``port_forward``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from controller.api import objects
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.api.routes import flag

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
"""Channels of a command, as WebSocket numbers them."""
_MOST = 1 << 18
"""Bytes that wait in a stream; its sender is held up then, and with it everything on that connection."""


class Stream:
    """Both directions end on their own: ``read`` gives b"" at the client's end, ``finish`` is ours."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = self._dropped = False
        self._changed = asyncio.Condition()

    async def put(self, data: bytes) -> None:
        """From the wire; returns when there is room for more."""
        async with self._changed:
            if data and not self._dropped and not self._ended:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._size < _MOST or self._dropped)

    async def put_end(self) -> None:
        """From the wire: the client sends no more."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def drop(self) -> None:
        """Nobody reads it any more: what still comes is thrown away."""
        async with self._changed:
            self._dropped = self._ended = True
            self._waiting.clear()
            self._size = 0
            self._changed.notify_all()

    async def read(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                return b""
            data = self._waiting.popleft()
            self._size -= len(data)
            self._changed.notify_all()
            return data

    async def write(self, data: bytes) -> None:
        """To the client; waits while the client is slow."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Tell the client that no more comes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ExecRequest:
    """A command to run in a container or, without ``argv``, its own output to look at."""

    namespace: str
    pod: str
    container: str
    argv: Sequence[str] = ()
    channels: frozenset[int]
    """The streams that the client asked for, the error channel always."""
    tty: bool = False


def exec_request(pod: Obj, query: Any, *, attach: bool) -> ExecRequest:
    """What a query asks of a pod; BadRequest in Kubernetes' words."""
    argv = query.getall("command", [])
    if not attach and not argv:
        raise BadRequest("you must specify at least 1 command for the container")
    tty = flag(query, "tty")
    found = {ERROR}
    for word, channel in (("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR)):
        if flag(query, word):
            found.add(channel)
    if found == {ERROR}:
        raise BadRequest("you must specify at least one of stdin, stdout, stderr")
    if tty:  # a terminal has one output
        found = found - {STDERR} | {RESIZE}
    return ExecRequest(
        namespace=objects.namespace(pod),
        pod=objects.name(pod),
        container=_container(pod, query.get("container", "")),
        argv=tuple(argv),
        channels=frozenset(found),
        tty=tty,
    )


def check_runs(pod: Obj) -> None:
    """BadRequest when a pod has no processes to talk to."""
    name = objects.name(pod)
    if not (pod.get("spec") or {}).get("nodeName"):
        raise BadRequest(f"pod {name} does not have a host assigned")
    phase = (pod.get("status") or {}).get("phase", "Unknown")
    if phase != "Running":
        raise BadRequest(f"unable to upgrade connection: pod {name} is not running. Current status={phase}")


def check_container_runs(pod: Obj, container: str) -> None:
    """BadRequest, in a kubelet's words, when no command can be run there: also of a pod that is about to
    begin or to end, whose other containers may run."""
    name = objects.name(pod)
    if not (pod.get("spec") or {}).get("nodeName"):
        raise BadRequest(f"pod {name} does not have a host assigned")
    status = pod.get("status") or {}
    for word in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(word) or ():
            if one["name"] == container and "running" in (one.get("state") or {}):
                return
    raise BadRequest(f'unable to upgrade connection: container not found ("{container}")')


def _container(pod: Obj, wanted: str) -> str:
    name, spec = objects.name(pod), pod["spec"]
    known = [one["name"] for word in ("containers", "initContainers") for one in spec.get(word) or ()]
    if not wanted:
        listed = [one["name"] for one in spec["containers"]]
        if len(listed) > 1:
            shown = " ".join(listed)
            raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{shown}]")
        return str(listed[0])
    if wanted not in known:
        raise BadRequest(f"container {wanted} is not valid for pod {name}")
    return wanted


async def while_there(pump: Awaitable[None], work: Awaitable[None]) -> None:
    """Do the work while ``pump`` (what the client sends) goes on; with the client the work ends."""
    tasks = [asyncio.ensure_future(pump), asyncio.ensure_future(work)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (ConnectionError, BadRequest)):
            raise result


class Tasks:
    """Tasks that end with the block they were started in."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
