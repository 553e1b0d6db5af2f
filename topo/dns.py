"""The cluster's DNS pods as the lab sees them: who reports progress, and when the first one answers.

A lab does not wait for its DNS: it comes up beside everything else, and who needs names waits by
``Lab.wait_dns``. What the pods are is ``addons``', what they answer ``controller.dns``'.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.api.client import Client
from controller.api.errors import MachineError, NotSettled
from controller.api.objects import Obj, is_deleting, is_ready, key
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


def wait_ready(client: Client, timeout: float) -> None:
    """Until one of the pods is ready; NotSettled says how they are when none is in time."""
    pods, version = client.list("Pod", NAMESPACE, labels=SELECTOR)
    held = {key(pod): pod for pod in pods}
    if any(is_ready(pod) and not is_deleting(pod) for pod in pods):
        return
    stream = client.watch(
        "Pod",
        NAMESPACE,
        resource_version=version,
        labels=SELECTOR,
        timeoutSeconds=str(max(1, round(timeout))),
    )
    try:
        for line in stream:
            pod = line["object"]
            if line["type"] == "DELETED":
                held.pop(key(pod), None)
            else:
                held[key(pod)] = pod
            if line["type"] != "DELETED" and is_ready(pod) and not is_deleting(pod):
                return
    finally:
        stream.close()
    states = ", ".join(f"{at.name}: {(pod.get('status') or {}).get('phase')}" for at, pod in held.items())
    raise NotSettled(f"the cluster's DNS is not ready after {timeout:g} s: {states or 'it has no pod'}")
