"""The cluster's DNS pods as the lab sees them: who reports progress, and when the first one answers.

A lab does not wait for its DNS: it comes up beside everything else, and who needs names waits by
``Lab.wait_dns``. What the pods are is ``addons``', what they answer ``controller.dns``'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from controller.api.client import Client
from controller.api.errors import MachineError, NotSettled
from controller.api.objects import Obj, is_deleting, is_ready
from topo.addons import COREDNS
from topo.images.coredns import BINARY, coredns_program

NAMESPACE, _ = COREDNS
SELECTOR = "k8s-app=kube-dns"


def need(which: str) -> None:
    """MachineError when the program that was asked for (ClusterConfig.dns) is not there."""
    if which == "coredns" and coredns_program() is None:
        raise MachineError(
            "there is no program coredns on the PATH: put the one of CoreDNS' release there "
            "(https://github.com/coredns/coredns/releases), or leave --dns coredns out"
        )


def components(client: Client) -> list[str]:
    """Whom ``settle`` waits for: the ready pods of our own server. A name is as new as its objects in
    each of them then; one that starts or ends is asked by nobody."""
    pods, _ = client.list("Pod", NAMESPACE, labels=SELECTOR)
    return [f"dns/{pod['metadata']['name']}" for pod in pods if is_ready(pod) and _reports(pod)]


def _reports(pod: Obj) -> bool:
    images: Sequence[str] = [container["image"] for container in pod["spec"]["containers"]]
    return not is_deleting(pod) and not any(image.partition(":")[0] == BINARY for image in images)


def wait_ready(client: Client, timeout: float, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Until one of the pods is ready; NotSettled says how they are when none is in time."""
    end = clock() + timeout
    while not _ready_by(client, end - clock()):
        if clock() >= end:
            raise NotSettled(f"the cluster's DNS is not ready after {timeout:g} s: {_how(client)}")


def _ready_by(client: Client, seconds: float) -> bool:
    """One list, and one watch for so long, or as long as the server keeps it up."""
    pods, version = client.list("Pod", NAMESPACE, labels=SELECTOR)
    if any(is_ready(pod) and not is_deleting(pod) for pod in pods):
        return True
    if seconds <= 0:
        return False
    stream = client.watch(
        "Pod",
        NAMESPACE,
        resource_version=version,
        labels=SELECTOR,
        timeoutSeconds=str(max(1, round(seconds))),
    )
    try:
        for line in stream:
            pod = line["object"]
            if line["type"] == "ERROR":
                return False  # too old: list again
            if line["type"] != "DELETED" and is_ready(pod) and not is_deleting(pod):
                return True
    finally:
        stream.close()
    return False


def _how(client: Client) -> str:
    """Each pod's state in a line, with what was last said of it."""
    pods, _ = client.list("Pod", NAMESPACE, labels=SELECTOR)
    events, _ = client.list("Event", NAMESPACE)
    return ", ".join(_state(pod, events) for pod in pods) or "it has no pod"


def _state(pod: Obj, events: Sequence[Obj]) -> str:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    words = [str(status.get("phase")), f"on {pod['spec'].get('nodeName') or 'no node'}"]
    for one in status.get("containerStatuses") or ():
        words += [str(state.get("reason") or word) for word, state in (one.get("state") or {}).items()]
    said = [e for e in events if (e.get("involvedObject") or {}).get("name") == name]
    if said:
        last = max(said, key=lambda event: int(event["metadata"]["resourceVersion"]))
        words.append(f"last event {last.get('reason')}: {last.get('message')}")
    return f"{name}: {'; '.join(words)}"
