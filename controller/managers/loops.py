"""The control loops as one table: what each watches, which objects a change makes it look at.

To add a loop, write its file and add a row. What runs them is ``runner``; no rules here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.api.objects import Obj
from controller.managers import (
    daemonset,
    deployment,
    disruption,
    endpoints,
    endpointslice,
    eventttl,
    garbage,
    ipaddress,
    kubernetes,
    loadbalancer,
    mirroring,
    mirrorpods,
    namespace,
    podgc,
    replicaset,
    revisions,
    scheduler,
    serviceaccount,
    servicecidr,
    statefulset,
    taints,
)
from controller.managers.view import Change, Ref, View

Reconcile = Callable[[View, Ref], list[Change]]
Refs = Callable[[View, Obj | None, Obj | None], Iterable[Ref]]
"""(view with the change in it, object before, object after) -> what to look at."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """``kinds``: whose changes matter to it; empty means every kind."""

    name: str
    reconcile: Reconcile
    refs: Refs
    kinds: frozenset[str] = frozenset()


class _Module(Protocol):
    """The file of a loop."""

    COMPONENT: str

    def reconcile(self, view: View, ref: Ref) -> list[Change]: ...

    def refs(self, view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]: ...


def _loop(file: _Module, *kinds: str) -> Loop:
    return Loop(name=file.COMPONENT, reconcile=file.reconcile, refs=file.refs, kinds=frozenset(kinds))


LOOPS: Sequence[Loop] = (
    _loop(deployment, "Deployment", "ReplicaSet", "Pod"),
    _loop(replicaset, "ReplicaSet", "ReplicationController", "Pod"),
    _loop(revisions, "StatefulSet", "DaemonSet"),
    _loop(statefulset, "StatefulSet", "Pod", "ControllerRevision"),
    _loop(daemonset, "DaemonSet", "Pod", "Node", "ControllerRevision"),
    _loop(scheduler, "Pod", "Node"),
    _loop(endpointslice, "Service", "Pod", "Node", "EndpointSlice"),
    _loop(endpoints, "Service", "Pod", "Node", "Endpoints"),
    _loop(mirroring, "Service", "Endpoints", "EndpointSlice"),
    _loop(ipaddress, "Service", "IPAddress"),
    _loop(servicecidr, "ServiceCIDR", "Namespace"),
    _loop(serviceaccount, "Namespace", "ServiceAccount"),
    _loop(loadbalancer, "Service", "Lease"),
    _loop(kubernetes, "Node", "Service", "Endpoints", "EndpointSlice"),
    _loop(mirrorpods, "Node", "Pod"),
    _loop(disruption, "PodDisruptionBudget", "Pod"),
    _loop(podgc, "Pod", "Node"),
    _loop(taints, "Pod", "Node"),
    _loop(eventttl, "Event"),
    _loop(garbage),
    _loop(namespace),
)
