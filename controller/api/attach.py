"""``attach``: what a container writes from now on, and what is typed into it. No HTTP here.

Its output is read from its log, where all of it goes; its input, where the manifest says ``stdin``, is handed
to the container runtime piece by piece. Runs of other commands are ``exec``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from pathlib import Path
from typing import Any

from controller.api import cri, logs
from controller.api.exec import SUCCESS, Streams, answer_of, ask_runtime, sizes, tell
from controller.api.log_query import from_now_on
from controller.api.objects import Obj
from controller.api.store import Store
from controller.api.streams import RESIZE, STDERR, STDIN, STDOUT, ExecRequest, Stream, Tasks

_LOOK = 0.02
"""Seconds between two looks at the log: somebody sees what they type by it."""


async def attach(wanted: ExecRequest, streams: Streams, store: Store, directory: Path) -> None:
    """Until the container ends or the client leaves."""
    pod = store.get("Pod", wanted.namespace, wanted.pod)
    spec = _container(pod, wanted.container)
    door = _Door(directory / "runtime.sock", wanted)
    if pod is None:
        await tell(streams, SUCCESS)
        return
    batches = logs.entries(
        directory / "log",
        from_now_on(pod, wanted.container),
        lambda: store.get("Pod", wanted.namespace, wanted.pod),
        look=_LOOK,
    )
    async with Tasks() as tasks:
        for channel, work in ((STDIN, door.type), (RESIZE, door.resize)):
            if channel not in streams:
                continue
            if spec.get("stdin") or (channel == RESIZE and spec.get("tty")):
                tasks.start(work(streams[channel], once=bool(spec.get("stdinOnce"))))
            else:
                await streams[channel].drop()
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for name, entries in itertools.groupby(batch, key=lambda entry: entry.stream):
                    channel = STDERR if name == cri.STDERR else STDOUT
                    if channel in streams:
                        await streams[channel].write(b"".join(entry.text for entry in entries))
    await tell(streams, SUCCESS)


def _container(pod: Obj | None, name: str) -> Obj:
    spec = (pod or {}).get("spec") or {}
    found = [one for word in ("containers", "initContainers") for one in spec.get(word) or ()]
    return next((one for one in found if one["name"] == name), {})


class _Door:
    """The runtime's ``input``; a piece is taken before the next is sent."""

    def __init__(self, runtime: Path, wanted: ExecRequest) -> None:
        self._runtime = runtime
        self._message = {"id": 1, "method": "input", "namespace": wanted.namespace, "pod": wanted.pod,
                         "container": wanted.container}  # fmt: skip
        self._order = asyncio.Lock()

    async def type(self, stream: Stream, *, once: bool) -> None:
        while data := await stream.read():
            await self._tell(data=base64.b64encode(data).decode())
        if once:  # without it another may attach and type on
            await self._tell(end=True)

    async def resize(self, stream: Stream, *, once: bool) -> None:
        async for rows, columns in sizes(stream):
            await self._tell(size=[rows, columns])

    async def _tell(self, **more: Any) -> None:
        async with self._order:
            reader, writer = await ask_runtime(self._runtime, {**self._message, **more})
            try:
                await answer_of(reader)
            finally:
                writer.close()
