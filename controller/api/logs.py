"""The ``log`` subresource of Pods: what ``kubectl logs`` shows. asyncio only; the server writes the chunks.

The kubelet's runtime writes one file for each container beside this server's socket (``log/``), without
times in it; it is read where it lies. What stands in a log nobody here looks at.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.api import objects
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.api.routes import flag, number
from controller.api.wiring import MIRROR

LOOK = 0.1
"""Seconds between two looks at a log that is followed."""
_CHUNK = 1 << 16
_PROCESSES = {"kube-apiserver": "apiserver.log", "kube-proxy": "kubeproxy.log"}
"""What the lab's own processes write, shown for the mirror Pods that stand for them (one for all nodes)."""
_UNTIMED = ("timestamps", "sinceSeconds", "sinceTime")


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """``tail``: how many lines from the end; ``most``: how many bytes; ``earlier``: of the life before."""

    file: str
    container: str
    follow: bool = False
    earlier: bool = False
    tail: int | None = None
    most: int | None = None


def previous(path: Path) -> Path:
    """Where the log of a container's life before lies."""
    return path.with_suffix(".previous.log")


def log_request(pod: Obj, query: Mapping[str, str]) -> LogRequest:
    """What a query asks of a pod; BadRequest in Kubernetes' words when it has no such container or log."""
    name = objects.name(pod)
    spec = pod["spec"]
    every = [one["name"] for word in ("initContainers", "containers") for one in spec.get(word) or ()]
    container = query.get("container", "")
    if not container:
        if len(every) > 1:
            listed = " ".join(one["name"] for one in spec["containers"])
            raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{listed}]")
        container = every[0]
    if container not in every:
        raise BadRequest(f"container {container} is not valid for pod {name}")
    for word in _UNTIMED:
        if query.get(word) not in (None, "", "false"):
            raise BadRequest(f"{word}: the lab's logs have no times in them; try --tail")
    earlier = flag(query, "previous")
    if earlier and not _state(pod, container).get("restarts"):
        raise BadRequest(f'previous terminated container "{container}" in pod "{name}" not found')
    tail, most = number(query, "tailLines"), number(query, "limitBytes")
    if (tail or 0) < 0 or (most is not None and most < 1):
        raise BadRequest("tailLines must not be negative, limitBytes must be greater than 0")
    if not _has_begun(pod, container):
        raise BadRequest(f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating')
    file = f"{objects.namespace(pod)}_{name}_{container}.log"
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        file = _PROCESSES.get(container, file)
    follow = flag(query, "follow") and not earlier
    return LogRequest(file=file, container=container, follow=follow, earlier=earlier, tail=tail, most=most)


def _state(pod: Obj, container: str) -> Obj:
    status = pod.get("status") or {}
    for word in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(word) or ():
            if one["name"] == container:
                return {"restarts": one.get("restartCount", 0), **(one.get("state") or {})}
    return {}


def _has_begun(pod: Obj, container: str) -> bool:
    state = _state(pod, container)
    return "running" in state or "terminated" in state or bool(state.get("restarts"))


async def lines(
    directory: Path, wanted: LogRequest, current: Callable[[], Obj | None], *, look: float = LOOK
) -> AsyncGenerator[bytes, None]:
    """The log in chunks; when it is followed, until its container has ended (``current`` is the pod now)."""
    path = directory / wanted.file
    path = previous(path) if wanted.earlier else path
    left = wanted.most if wanted.most is not None else 1 << 62
    while not path.exists():  # it has not written anything yet
        if not wanted.follow or _is_over(current(), wanted.container):
            return
        await asyncio.sleep(look)
    with path.open("rb") as file:
        if wanted.tail is not None:
            file.seek(_start_of_tail(file.fileno(), wanted.tail))
        while left > 0:
            over = not wanted.follow or _is_over(current(), wanted.container)  # before the last look
            while left > 0 and (text := file.read(min(_CHUNK, left))):
                left -= len(text)
                yield text
            if over:
                return
            await asyncio.sleep(look)


def _is_over(pod: Obj | None, container: str) -> bool:
    return pod is None or "running" not in _state(pod, container)


def _start_of_tail(fd: int, count: int) -> int:
    """Where the last ``count`` lines begin; read from the end, in pieces."""
    end = at = os.fstat(fd).st_size
    wanted = count
    while at > 0:
        size = min(_CHUNK, at)
        at -= size
        text = os.pread(fd, size, at)
        stop = size - 1 if at + size == end and text.endswith(b"\n") else size
        if count == 0:
            return end
        while wanted and (found := text.rfind(b"\n", 0, stop)) >= 0:
            wanted, stop = wanted - 1, found
            if not wanted:
                return at + found + 1
    return 0 if count else end
