"""What a query for logs asks of a pod, refused in Kubernetes' words where it must be.

How a log is read is ``logs``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from controller.api import cri, objects
from controller.api.errors import BadRequest
from controller.api.objects import Obj
from controller.api.routes import flag, number
from controller.api.wiring import MIRROR

_PROCESSES = {"kube-apiserver": "apiserver.log", "kube-proxy": "kubeproxy.log"}
"""What the lab's own processes write, shown for the mirror Pods that stand for them (one for all nodes)."""
_STREAMS = {"": b"", "All": b"", "Stdout": cri.STDOUT, "Stderr": cri.STDERR}


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """``tail``: how many lines from the end; ``most``: how many bytes; ``earlier``: of the life before;
    ``since``: a stamp; ``stream``: b"" for both; ``plain``: the file has no CRI records. ``uid`` and ``life``
    are the pod's and its container's id at the time."""

    file: str
    container: str
    uid: str = ""
    life: str = ""
    follow: bool = False
    earlier: bool = False
    tail: int | None = None
    most: int | None = None
    since: bytes = b""
    timestamps: bool = False
    stream: bytes = b""
    plain: bool = False


def log_request(pod: Obj, query: Mapping[str, str]) -> LogRequest:
    """BadRequest in Kubernetes' words when the pod has no such container or log."""
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
    earlier = flag(query, "previous")
    state = _state(pod, container)
    if earlier and not state.get("restarts"):
        raise BadRequest(f'previous terminated container "{container}" in pod "{name}" not found')
    tail, most = number(query, "tailLines"), number(query, "limitBytes")
    if (tail or 0) < 0 or (most is not None and most < 1):
        raise BadRequest("tailLines must not be negative, limitBytes must be greater than 0")
    stream = query.get("stream", "")
    if stream not in _STREAMS:
        raise BadRequest(
            f'stream: Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"'
        )
    if tail is not None and _STREAMS[stream]:
        raise BadRequest("`tailLines` and specific `stream` are mutually exclusive for now")
    if not ("running" in state or "terminated" in state or state.get("restarts")):
        raise BadRequest(f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating')
    return LogRequest(
        file=_file(pod, container),
        container=container,
        uid=pod["metadata"].get("uid", ""),
        life=state.get("id", ""),
        follow=flag(query, "follow") and not earlier,
        earlier=earlier,
        tail=tail,
        most=most,
        since=_since(query),
        timestamps=flag(query, "timestamps"),
        stream=_STREAMS[stream],
        plain=_is_mirror(pod) and container in _PROCESSES,
    )


def from_now_on(pod: Obj, container: str) -> LogRequest:
    """What a container writes from now to its end."""
    life, uid = _state(pod, container).get("id", ""), pod["metadata"].get("uid", "")
    file = _file(pod, container)
    return LogRequest(file=file, container=container, uid=uid, life=life, follow=True, tail=0)


def is_over(pod: Obj | None, wanted: LogRequest) -> bool:
    """Whether this life of the container is."""
    if pod is None or is_another(pod, wanted):
        return True
    return "running" not in _state(pod, wanted.container)


def is_another(pod: Obj | None, wanted: LogRequest) -> bool:
    """A pod that has taken the name, or the container's next life."""
    if pod is None:
        return False
    life = _state(pod, wanted.container).get("id", "")
    return pod["metadata"].get("uid", "") != wanted.uid or bool(wanted.life and life and life != wanted.life)


def _since(query: Mapping[str, str]) -> bytes:
    ago, moment = number(query, "sinceSeconds"), query.get("sinceTime", "")
    if ago is not None and moment:
        raise BadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if ago is not None:
        if ago < 1:
            raise BadRequest(f'sinceSeconds: Invalid value: "{ago}": must be greater than 0')
        return cri.stamp(max(0, time.time_ns() - ago * 1_000_000_000))
    try:
        return cri.stamp_of(moment) if moment else b""
    except ValueError as error:
        raise BadRequest(f"sinceTime: {error}") from None


def _file(pod: Obj, container: str) -> str:
    own = f"{objects.namespace(pod)}_{objects.name(pod)}_{container}.log"
    return _PROCESSES.get(container, own) if _is_mirror(pod) else own


def _is_mirror(pod: Obj) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def _state(pod: Obj, container: str) -> Obj:
    status = pod.get("status") or {}
    for word in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(word) or ():
            if one["name"] == container:
                known = {"restarts": one.get("restartCount", 0), "id": one.get("containerID", "")}
                return {**known, **(one.get("state") or {})}
    return {}
