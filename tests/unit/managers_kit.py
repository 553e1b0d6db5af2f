"""Builders for the tests of the control loops, and a small cluster without a kubelet.

Each builder takes one mutation: a dict merged over the plain object. The cluster is the real store
and registry with the real runner, stepped by hand; ``start`` and ``stop`` play the kubelet.
"""

from __future__ import annotations

import builtins
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.api import objects
from controller.api.objects import Obj
from controller.api.patch import apply_patch
from controller.api.registry import Registry
from controller.api.store import Store
from controller.api.wiring import FAMILIES_OF
from controller.managers.allocations import Allocator
from controller.managers.allocator import ranges_of
from controller.managers.runner import Runner

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "default"


def merged(obj: Obj, *mutations: Obj) -> Obj:
    for mutation in mutations:
        obj = apply_patch("application/merge-patch+json", obj, mutation)
    return obj


def node(name: str = "node1", mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    return merged(plain, mutation or {})


def pod(name: str = "web-0", mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "web"}, "uid": f"uid-{name}"},
        "spec": {"containers": [{"name": "main", "image": "agnhost"}]},
        "status": {"phase": "Pending"},
    }
    return merged(plain, mutation or {})


def running(name: str, address: str, mutation: Obj | None = None, *, ready: bool = True) -> Obj:
    """A pod as the kubelet leaves it."""
    plain = {
        "spec": {"nodeName": "node1"},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }
    return pod(name, merged(plain, mutation or {}))


def service(name: str = "web", mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    }
    return merged(plain, mutation or {})


def deployment(name: str = "web", mutation: Obj | None = None) -> Obj:
    plain = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "agnhost:1"}]},
            },
        },
    }
    return merged(plain, mutation or {})


class Cluster:
    """Store, registry and managers; time stands still until ``pass_time``."""

    def __init__(self, *, nodes: int = 3, ip_family: str = "ipv4") -> None:
        self.families = FAMILIES_OF[ip_family]
        self.now = EPOCH
        self.seconds = 0.0
        self.store = Store()
        uids = itertools.count(1)
        self.registry = Registry(
            self.store,
            allocate=Allocator(self.store, ranges=ranges_of(ip_family)),
            now=lambda: self.now,
            new_uid=lambda: f"u{next(uids)}",
        )
        self.registry.ensure_system_namespaces()
        self.addresses = itertools.count(2)
        self.managers = self.new_managers()
        for number in range(1, nodes + 1):
            self.registry.create(node(f"node{number}"))

    def new_managers(self) -> Runner:
        def fail(error: BaseException) -> None:
            raise error

        return Runner(
            self.registry,
            now=lambda: self.now,
            clock=lambda: self.seconds,
            fatal=fail,
            families=self.families,
        )

    def settle(self) -> Cluster:
        self.managers.settle()
        return self

    def apply(self, *objs: Obj) -> Cluster:
        for obj in objs:
            self.registry.create(obj)
        return self.settle()

    def patch(self, kind: str, name: str, patch: Obj, *, subresource: str = "") -> Cluster:
        namespace = NAMESPACE if objects.KINDS[kind].namespaced else None
        self.registry.patch(kind, namespace, name, patch, subresource=subresource)
        return self.settle()

    def delete(self, kind: str, name: str, **options: Any) -> Cluster:
        self.registry.delete(kind, NAMESPACE if objects.KINDS[kind].namespaced else None, name, **options)
        return self.settle()

    def get(self, kind: str, name: str) -> Obj:
        return self.registry.get(kind, NAMESPACE if objects.KINDS[kind].namespaced else None, name)

    def list(self, kind: str) -> builtins.list[Obj]:
        return self.store.list(kind)

    def names(self, kind: str) -> builtins.list[str]:
        return [objects.name(obj) for obj in self.list(kind)]

    def pods(self) -> builtins.list[Obj]:
        """Those that are not on their way out."""
        return [one for one in self.list("Pod") if not objects.is_deleting(one)]

    def events(self, reason: str) -> builtins.list[str]:
        return [one["message"] for one in self.list("Event") if one["reason"] == reason]

    def pass_time(self, seconds: float) -> Cluster:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds
        return self.settle()

    # -- the kubelet's part

    def ready(self, *names: str, ready: bool = True) -> Cluster:
        """Every bound pod (or those named) runs and is ready."""
        for one in self.list("Pod"):
            if objects.is_deleting(one) or not one["spec"].get("nodeName"):
                continue
            if names and objects.name(one) not in names:
                continue
            self._write(one, ready)
        return self.settle()

    def _write(self, one: Obj, ready: bool) -> None:
        address = objects.status(one).get("podIP") or f"10.244.0.{next(self.addresses)}"
        old = objects.condition(one, "Ready") or {}
        if old.get("status") == str(ready):
            return
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        others = [entry for entry in objects.status(one).get("conditions") or () if entry["type"] != "Ready"]
        entry = {"type": "Ready", "status": str(ready), "lastTransitionTime": stamp}
        six = [{"ip": f"fd00:10:244::{address.rpartition('.')[2]}"}]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}, *six][: len(self.families)],
            "conditions": [*others, entry],
        }
        self.registry.patch(
            "Pod", objects.namespace(one), objects.name(one), {"status": status}, subresource="status"
        )

    def reap(self) -> Cluster:
        """Every terminating pod has ended."""
        for one in self.list("Pod"):
            if objects.is_deleting(one):
                self.registry.delete("Pod", objects.namespace(one), objects.name(one), grace=0)
        return self.settle()

    def roll(self, passes: int = 20) -> Cluster:
        """Kubelet and managers take turns until nothing changes."""
        for _ in range(passes):
            before = self.store.newest
            self.ready().reap()
            if self.store.newest == before:
                return self
        raise AssertionError("the rollout does not come to rest")
