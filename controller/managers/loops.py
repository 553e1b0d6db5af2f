"""The control loops as one table: what each watches, which objects a change makes it look at.

To add a loop, write its file and add a row. What runs them is ``runner``; no rules here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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


LOOPS: Sequence[Loop] = (
    Loop(
        name=deployment.COMPONENT,
        reconcile=deployment.reconcile,
        refs=deployment.refs,
        kinds=frozenset({"Deployment", "ReplicaSet", "Pod"}),
    ),
    Loop(
        name=replicaset.COMPONENT,
        reconcile=replicaset.reconcile,
        refs=replicaset.refs,
        kinds=frozenset({"ReplicaSet", "ReplicationController", "Pod"}),
    ),
    Loop(
        name=revisions.COMPONENT,
        reconcile=revisions.reconcile,
        refs=revisions.refs,
        kinds=frozenset({"StatefulSet", "DaemonSet"}),
    ),
    Loop(
        name=statefulset.COMPONENT,
        reconcile=statefulset.reconcile,
        refs=statefulset.refs,
        kinds=frozenset({"StatefulSet", "Pod", "ControllerRevision"}),
    ),
    Loop(
        name=daemonset.COMPONENT,
        reconcile=daemonset.reconcile,
        refs=daemonset.refs,
        kinds=frozenset({"DaemonSet", "Pod", "Node", "ControllerRevision"}),
    ),
    Loop(
        name=scheduler.COMPONENT,
        reconcile=scheduler.reconcile,
        refs=scheduler.refs,
        kinds=frozenset({"Pod", "Node"}),
    ),
    Loop(
        name=endpointslice.COMPONENT,
        reconcile=endpointslice.reconcile,
        refs=endpointslice.refs,
        kinds=frozenset({"Service", "Pod", "Node", "EndpointSlice"}),
    ),
    Loop(
        name=endpoints.COMPONENT,
        reconcile=endpoints.reconcile,
        refs=endpoints.refs,
        kinds=frozenset({"Service", "Pod", "Node", "Endpoints"}),
    ),
    Loop(
        name=mirroring.COMPONENT,
        reconcile=mirroring.reconcile,
        refs=mirroring.refs,
        kinds=frozenset({"Service", "Endpoints", "EndpointSlice"}),
    ),
    Loop(
        name=ipaddress.COMPONENT,
        reconcile=ipaddress.reconcile,
        refs=ipaddress.refs,
        kinds=frozenset({"Service", "IPAddress"}),
    ),
    Loop(
        name=servicecidr.COMPONENT,
        reconcile=servicecidr.reconcile,
        refs=servicecidr.refs,
        kinds=frozenset({"ServiceCIDR", "Namespace"}),
    ),
    Loop(
        name=serviceaccount.COMPONENT,
        reconcile=serviceaccount.reconcile,
        refs=serviceaccount.refs,
        kinds=frozenset({"Namespace", "ServiceAccount"}),
    ),
    Loop(
        name=loadbalancer.COMPONENT,
        reconcile=loadbalancer.reconcile,
        refs=loadbalancer.refs,
        kinds=frozenset({"Service", "Lease"}),
    ),
    Loop(
        name=kubernetes.COMPONENT,
        reconcile=kubernetes.reconcile,
        refs=kubernetes.refs,
        kinds=frozenset({"Node", "Service", "Endpoints", "EndpointSlice"}),
    ),
    Loop(
        name=mirrorpods.COMPONENT,
        reconcile=mirrorpods.reconcile,
        refs=mirrorpods.refs,
        kinds=frozenset({"Node", "Pod"}),
    ),
    Loop(
        name=disruption.COMPONENT,
        reconcile=disruption.reconcile,
        refs=disruption.refs,
        kinds=frozenset({"PodDisruptionBudget", "Pod"}),
    ),
    Loop(
        name=podgc.COMPONENT,
        reconcile=podgc.reconcile,
        refs=podgc.refs,
        kinds=frozenset({"Pod", "Node"}),
    ),
    Loop(
        name=taints.COMPONENT,
        reconcile=taints.reconcile,
        refs=taints.refs,
        kinds=frozenset({"Pod", "Node"}),
    ),
    Loop(
        name=eventttl.COMPONENT,
        reconcile=eventttl.reconcile,
        refs=eventttl.refs,
        kinds=frozenset({"Event"}),
    ),
    Loop(name=garbage.COMPONENT, reconcile=garbage.reconcile, refs=garbage.refs),
    Loop(name=namespace.COMPONENT, reconcile=namespace.reconcile, refs=namespace.refs),
)
