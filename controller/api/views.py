"""The shapes an object or a list may be asked for: itself, a Table, or metadata only; whole or in pages.

``Accept`` says which (kubectl get asks for Tables). Pure functions of objects and a query.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.api import selectors, tables
from controller.api.errors import BadRequest
from controller.api.history import encode
from controller.api.kinds import Kind
from controller.api.objects import Obj, resource_version
from controller.api.routes import Target, number
from controller.api.store import Store

TABLE, PARTIAL = "Table", "PartialObjectMetadata"


@dataclass(frozen=True)
class View:
    """``shape`` is empty for the objects themselves; ``include`` is a Table's ``includeObject``."""

    shape: str = ""
    include: str = ""


PLAIN = View()


def asked(accept: str, query: Mapping[str, str]) -> View:
    """The first shape of an Accept header that is served here."""
    for part in accept.split(","):
        word, *parameters = (text.strip() for text in part.split(";"))
        told = dict(text.partition("=")[::2] for text in parameters)
        if word not in ("application/json", "*/*") or told.get("g", "meta.k8s.io") != "meta.k8s.io":
            continue
        shape = told.get("as", "").removesuffix("List")
        if shape == TABLE:
            include = query.get("includeObject", "")
            if include not in ("", "Metadata", "Object", "None"):
                raise BadRequest(
                    f'includeObject: Invalid value: "{include}": must be "Metadata", "Object", or "None"'
                )
            return View(TABLE, include)
        if shape in ("", PARTIAL):
            return View(shape)
    return View()


def one(view: View, obj: Obj, *, head: bool = True) -> Obj:
    """One object in a shape."""
    if view.shape == TABLE:
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return tables.table(obj["kind"], [obj], metadata, datetime.now(UTC), include=view.include, head=head)
    return tables.partial(obj) if view.shape == PARTIAL else obj


def list_body(store: Store, target: Target, query: Mapping[str, str], view: View) -> bytes:
    """A FooList, Table or PartialObjectMetadataList; with ``limit`` a page of it.

    Without selectors the stored bodies are joined, never parsed. Pages are cut from the store as it is
    when each is asked for, in order of namespace and name, under the first page's resourceVersion.
    Events that fit on one page come in the order they were told, as they do where their names carry the
    time: kubectl compares whole seconds.
    """
    kind = target.kind
    select = selectors.predicate(kind.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    limit = max(0, number(query, "limit") or 0)
    after = _after(query.get("continue", ""))
    with store.lock:
        newest = store.newest
        whole = not after and (not limit or store.count(kind.kind) <= limit)
        if select is None and not view.shape and whole and kind.kind != "Event":
            return _joined(
                _head(kind, {"resourceVersion": str(newest)}), store.bodies(kind.kind, target.namespace)
            )
        found = [obj for obj in store.list(kind.kind, target.namespace) if not select or select(obj)]
    if kind.kind == "Event" and whole:
        found.sort(key=resource_version)
    metadata: Obj = {"resourceVersion": str(newest)}
    if after:
        metadata["resourceVersion"] = after["rv"]
        found = [obj for obj in found if _place(obj) > (after["ns"], after["name"])]
    if limit and len(found) > limit:
        space, name = _place(found[limit - 1])
        told = {"rv": metadata["resourceVersion"], "ns": space, "name": name}
        metadata["continue"] = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        if select is None:
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    if view.shape == TABLE:
        return encode(tables.table(kind.kind, found, metadata, datetime.now(UTC), include=view.include))
    head = _head(kind, metadata)
    if view.shape == PARTIAL:
        head |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        found = [tables.partial(obj) for obj in found]
    return _joined(head, [encode(obj) for obj in found])


def _head(kind: Kind, metadata: Obj) -> Obj:
    return {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": metadata}


def _joined(head: Obj, bodies: Sequence[bytes]) -> bytes:
    return encode(head)[:-1] + b',"items":[' + b",".join(bodies) + b"]}"


def _place(obj: Obj) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _after(token: str) -> dict[str, Any]:
    if not token:
        return {}
    try:
        told = json.loads(base64.urlsafe_b64decode(token))
        return {word: str(told[word]) for word in ("rv", "ns", "name")}
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise BadRequest("continue key is not valid") from None
