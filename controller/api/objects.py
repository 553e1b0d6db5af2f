"""Kubernetes objects as plain JSON dicts, and the few things every reader asks of them.

Pure; imports only the error tree, the table of kinds and the selectors. No rules about what is
valid (``validate``), no defaults (``defaults``), no I/O. Dicts that come out of the store, an
informer or a View are shared and must not be changed in place: take ``copy(obj)`` first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from controller.api.errors import BadRequest
from controller.api.kinds import KINDS, Kind
from controller.api.selectors import matches, selector_text

__all__ = [
    "KINDS", "Key", "Kind", "Obj", "annotation", "condition", "controller_of", "copy", "deletion_timestamp",
    "generation", "is_deleting", "is_ready", "key", "kind_named", "kind_of", "labels", "matches", "name",
    "namespace", "owner_reference", "owners", "resource_version", "selector_text", "spec", "status", "uid",
]  # fmt: skip

Obj = dict[str, Any]


class Key(NamedTuple):
    """What names an object: kind, namespace ("" for cluster-scoped kinds), name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(filter(None, (self.kind, self.namespace, self.name)))


def kind_named(word: str) -> Kind:
    """The row of a kind by its name ("Service"); BadRequest when there is none."""
    try:
        return KINDS[word]
    except KeyError:
        raise BadRequest(f'no matches for kind "{word}"') from None


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The row of an object's apiVersion and kind; BadRequest with Kubernetes' words when unknown."""
    word, version = obj.get("kind") or "", obj.get("apiVersion") or ""
    row = KINDS.get(word) if isinstance(word, str) else None
    if row is None or row.api_version != version:
        raise BadRequest(f'no matches for kind "{word}" in version "{version}"')
    return row


def key(obj: Mapping[str, Any]) -> Key:
    """(kind, namespace, name) of an object."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace") or "", metadata["name"])


def copy(obj: Obj) -> Obj:
    """An own deep copy (of JSON values; faster than copy.deepcopy)."""
    made: Obj = json.loads(json.dumps(obj))
    return made


def name(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])


def namespace(obj: Mapping[str, Any]) -> str:
    """The namespace, "" for a cluster-scoped object."""
    return str(obj["metadata"].get("namespace") or "")


def uid(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("uid") or "")


def resource_version(obj: Mapping[str, Any]) -> int:
    """The object's resourceVersion as a number, 0 when it has none."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def generation(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"].get("generation") or 0)


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotation(obj: Mapping[str, Any], word: str) -> str | None:
    """One annotation's value, None when the object does not carry it."""
    value = (obj["metadata"].get("annotations") or {}).get(word)
    return None if value is None else str(value)


def spec(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("status") or {}


def deletion_timestamp(obj: Mapping[str, Any]) -> str | None:
    """RFC 3339 time by which the object should be gone, None when it is not being deleted."""
    value = obj["metadata"].get("deletionTimestamp")
    return str(value) if value else None


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """The entry of ``status.conditions`` of that type."""
    for entry in status(obj).get("conditions") or ():
        if entry.get("type") == type_:
            found: Mapping[str, Any] = entry
            return found
    return None


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Whether the Ready condition (of a Pod or Node) is True."""
    return (condition(obj, "Ready") or {}).get("status") == "True"


def owners(obj: Mapping[str, Any]) -> list[Obj]:
    return obj["metadata"].get("ownerReferences") or []


def controller_of(obj: Mapping[str, Any]) -> Obj | None:
    """The owner reference with ``controller: true``."""
    return next((owner for owner in owners(obj) if owner.get("controller")), None)


def owner_reference(obj: Mapping[str, Any], *, controller: bool = True) -> Obj:
    """The reference by which what ``obj`` makes names ``obj`` as its owner."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": name(obj),
        "uid": uid(obj),
        "controller": controller,
        "blockOwnerDeletion": True,
    }
