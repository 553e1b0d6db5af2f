"""What a control loop sees and what it answers: a read-only View in, Changes out.

``View`` is a cache of all objects with client-go's idea of indexers: named functions from an object
to strings, so that a loop finds "pods of this ReplicaSet" without scanning. Only the runner (and
tests) put objects in; loops must not change anything they get from it. No rules of any kind here.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.api import objects
from controller.api.objects import Key, Obj
from controller.api.wiring import MIRROR

Ref = Key
"""What a loop is asked to look at: kind, namespace, name. The object may be gone."""


@dataclass(frozen=True)
class Create:
    obj: Obj


@dataclass(frozen=True)
class Update:
    """``obj`` carries the resourceVersion it was derived from: a Conflict makes the loop look again."""

    obj: Obj
    subresource: str = ""


@dataclass(frozen=True)
class Bind:
    """The Binding of a pod to a node, which also sets the PodScheduled condition."""

    pod: Obj
    node: str


@dataclass(frozen=True, kw_only=True)
class Delete:
    """``uid``: only if it is still that object. ``grace``: seconds, None for the object's own."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    grace: int | None = None
    propagation: str = "Background"


@dataclass(frozen=True, kw_only=True)
class Record:
    """An Event about ``involved``, as the real controller of that name writes it."""

    involved: Obj
    reason: str
    message: str
    component: str
    type: str = "Normal"


@dataclass(frozen=True)
class Wake:
    """Look at the same Ref again at ``at``: something will be due then (minReadySeconds, deadlines)."""

    at: datetime


Change = Create | Update | Bind | Delete | Record | Wake


def delete(obj: Obj, *, grace: int | None = None, propagation: str = "Background") -> Delete:
    """The Delete of exactly this object."""
    kind, namespace, name = objects.key(obj)
    return Delete(
        kind=kind, namespace=namespace, name=name, uid=objects.uid(obj), grace=grace, propagation=propagation
    )


def _of_owner(obj: Obj) -> Iterator[str]:
    for owner in obj["metadata"].get("ownerReferences") or ():
        yield owner["uid"]


def _of_label(obj: Obj) -> Iterator[str]:
    namespace = obj["metadata"].get("namespace") or ""
    for key, value in (obj["metadata"].get("labels") or {}).items():
        yield f"{namespace}/{key}={value}"


_PLAIN_SELECTOR = ("Service", "ReplicationController")


def _of_selector(obj: Obj) -> Iterator[str]:
    """One label that a matching pod certainly has, or none: then the whole namespace are candidates."""
    selector = (obj.get("spec") or {}).get("selector")
    if not selector:
        return
    namespace = obj["metadata"].get("namespace") or ""
    plain = selector if obj["kind"] in _PLAIN_SELECTOR else selector.get("matchLabels")
    pair = max(plain.items(), key=lambda item: (len(item[1]), item)) if plain else None
    yield f"{namespace}/{pair[0]}={pair[1]}" if pair else f"{namespace}/"


def _of_parent(address: Obj) -> Iterator[str]:
    parent = address["spec"]["parentRef"]
    yield f"{parent['resource']}/{parent.get('namespace', '')}/{parent['name']}"


def is_finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _is_mirror(pod: Obj) -> bool:
    """Shown, not run: it takes no place on a node, and placement is the same with it and without."""
    return objects.annotation(pod, MIRROR) is not None


def _of_node(pod: Obj) -> Iterator[str]:
    """Pods that occupy a node; "" for those that wait for one."""
    if not is_finished(pod) and not _is_mirror(pod):
        yield pod["spec"].get("nodeName") or ""


def _of_node_and_owner(pod: Obj) -> Iterator[str]:
    if not is_finished(pod) and not objects.is_deleting(pod):
        yield f"{pod['spec'].get('nodeName') or ''}/{spread_group(pod)}"


def spread_group(pod: Obj) -> str:
    """Pods of one group should lie on different nodes: those of one controller, else of equal labels."""
    owner = objects.controller_of(pod)
    if owner:
        return str(owner["uid"])
    namespace = objects.namespace(pod)
    return namespace + "/" + ",".join(f"{key}={value}" for key, value in sorted(objects.labels(pod).items()))


Indexer = Callable[[Obj], Iterable[str]]
INDEXERS: Mapping[str, Mapping[str, Indexer]] = {
    "Pod": {"label": _of_label, "node": _of_node, "node and owner": _of_node_and_owner},
    "ReplicaSet": {"label": _of_label, "selector": _of_selector},
    "ReplicationController": {"label": _of_label, "selector": _of_selector},
    "StatefulSet": {"selector": _of_selector},
    "DaemonSet": {"selector": _of_selector},
    "IPAddress": {"parent": _of_parent},
    "EndpointSlice": {"label": _of_label},
    "Service": {"selector": _of_selector},
}
"""Kind -> index name -> where an object is found. Every kind is indexed by owner and by uid besides."""

_NOTHING: Mapping[Any, Any] = {}


class View:
    """Every object of the cluster, read-only for loops. ``now`` is the only clock they have; ``families``
    are those of the cluster, the primary one first."""

    def __init__(
        self, objs: Iterable[Obj] = (), *, now: datetime | None = None, families: Iterable[str] = ("IPv4",)
    ) -> None:
        self.now = now or datetime(2000, 1, 1, tzinfo=UTC)
        self.families = tuple(families)
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._namespaces: dict[tuple[str, str], dict[str, Obj]] = {}
        self._indices: dict[tuple[str, str, str], dict[tuple[str, str], Obj]] = {}
        self._owned: dict[str, dict[Key, Obj]] = {}
        self._uids: dict[str, Obj] = {}
        self._pod_names: set[tuple[str, str]] = set()
        for obj in objs:
            self.put(obj)

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        return self._objects.get(kind, _NOTHING).get((namespace, name))

    def list(self, kind: str, namespace: str | None = None) -> Collection[Obj]:
        if namespace is None:
            return self._objects.get(kind, _NOTHING).values()
        return self._namespaces.get((kind, namespace), _NOTHING).values()

    def index(self, kind: str, index: str, value: str) -> Collection[Obj]:
        """The objects that the indexer of that name places at ``value``."""
        return self._indices.get((kind, index, value), _NOTHING).values()

    def owned_by(self, uid: str) -> Collection[Obj]:
        """Objects of every kind that name this uid as an owner."""
        return self._owned.get(uid, _NOTHING).values()

    def by_uid(self, uid: str) -> Obj | None:
        return self._uids.get(uid)

    def in_namespace(self, namespace: str) -> Iterator[Obj]:
        """Every object of every kind in a namespace."""
        for kind in self._objects:
            yield from self._namespaces.get((kind, namespace), _NOTHING).values()

    def select(self, kind: str, namespace: str, selector: Mapping[str, Any]) -> builtins.list[Obj]:
        """Objects of a label-indexed kind that match a plain map or a LabelSelector."""
        plain = selector.get("matchLabels") if _is_label_selector(selector) else selector
        candidates: Collection[Obj]
        if plain:
            values = [f"{namespace}/{key}={text}" for key, text in plain.items()]
            candidates = min((self.index(kind, "label", value) for value in values), key=len)
            if len(values) == 1 and plain is selector:
                return [*candidates]
        else:
            candidates = self.list(kind, namespace)
        return [obj for obj in candidates if objects.matches(selector, objects.labels(obj))]

    def selecting(self, kind: str, pod: Obj) -> Iterator[Obj]:
        """Objects of a selector-indexed kind whose selector matches a pod."""
        labels, namespace = objects.labels(pod), objects.namespace(pod)
        values = [f"{namespace}/{key}={value}" for key, value in labels.items()] + [f"{namespace}/"]
        for value in values:
            for obj in self.index(kind, "selector", value):
                if objects.matches(obj["spec"]["selector"], labels):
                    yield obj

    def used_pod_name(self, namespace: str, name: str) -> bool:
        """Whether a pod of that name exists or existed: generated names are not used twice."""
        return (namespace, name) in self._pod_names

    # -- for the runner only ------------------------------------------------------------------

    def put(self, obj: Obj) -> Obj | None:
        """Store the newest version; returns the one before."""
        old = self._drop(objects.key(obj))
        kind, namespace, name = objects.key(obj)
        at = (namespace, name)
        self._objects.setdefault(kind, {})[at] = obj
        self._namespaces.setdefault((kind, namespace), {})[name] = obj
        for index, indexer in INDEXERS.get(kind, _NOTHING).items():
            for value in indexer(obj):
                self._indices.setdefault((kind, index, value), {})[at] = obj
        for owner in _of_owner(obj):
            self._owned.setdefault(owner, {})[Key(kind, namespace, name)] = obj
        if uid := objects.uid(obj):
            self._uids[uid] = obj
        if kind == "Pod":
            self._pod_names.add(at)
        return old

    def drop(self, key: Key) -> Obj | None:
        """Forget an object that is gone; returns its last version."""
        return self._drop(key)

    def _drop(self, key: Key) -> Obj | None:
        kind, namespace, name = key
        at = (namespace, name)
        old = self._objects.get(kind, {}).pop(at, None)
        if old is None:
            return None
        del self._namespaces[kind, namespace][name]
        for index, indexer in INDEXERS.get(kind, _NOTHING).items():
            for value in indexer(old):
                self._remove(self._indices, (kind, index, value), at)
        for owner in _of_owner(old):
            self._remove(self._owned, owner, key)
        self._uids.pop(objects.uid(old), None)
        return old

    @staticmethod
    def _remove(index: dict[Any, dict[Any, Obj]], value: Any, at: Any) -> None:
        found = index.get(value)
        if found is not None and found.pop(at, None) is not None and not found:
            del index[value]


def _is_label_selector(selector: Mapping[str, Any]) -> bool:
    return isinstance(selector.get("matchLabels"), Mapping) or "matchExpressions" in selector
