"""The published schemas as OpenAPI documents: what ``kubectl explain`` and client-side validation read.

v3 by group and version in JSON, v2 as one protobuf document (``openapi_v2``). Made when first asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from controller.api import openapi_v2
from controller.api.history import encode
from controller.api.kinds import GROUP_VERSIONS, KINDS, Kind
from controller.api.schema import document as published

HEADERS = {
    "Cache-Control": "public, immutable",
    "Expires": "Fri, 01 Jan 2100 00:00:00 GMT",  # without it kubectl loads them again for every apply
}
_REF = "#/components/schemas/"


def document(path: str) -> tuple[bytes, str] | None:
    """Body and content type of an OpenAPI path, None for other paths."""
    if path == "/openapi/v2":
        return _v2(), openapi_v2.CONTENT_TYPE
    if path == "/openapi/v3":
        return _index(), "application/json"
    found = _groups().get(path.removeprefix("/openapi/v3/"))
    return (_v3(*found), "application/json") if found and path.startswith("/openapi/v3/") else None


def _groups() -> dict[str, tuple[str, str]]:
    return {
        f"apis/{group}/{version}" if group else f"api/{version}": (group, version)
        for group, version in GROUP_VERSIONS
    }


@cache
def _index() -> bytes:
    paths = {}
    for path, found in _groups().items():
        mark = hashlib.sha256(_v3(*found)).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={mark}"}
    return encode({"paths": paths})


def _rows(group: str, version: str) -> list[Kind]:
    return [row for row in KINDS.values() if (row.group, row.version) == (group, version)]


def gvk(row: Kind) -> dict[str, str]:
    return {"group": row.group, "kind": row.kind, "version": row.version}


@cache
def _v3(group: str, version: str) -> bytes:
    rows = _rows(group, version)
    schemas: dict[str, Any] = {}
    waiting = [published()["kinds"][row.kind] for row in rows]
    kinds = {published()["kinds"][row.kind]: row for row in rows}
    while waiting:
        name = waiting.pop()
        if name not in schemas:
            schemas[name] = schema = _schema(published()["definitions"][name])
            _describe(schema, name)
            if name in kinds:
                schema["x-kubernetes-group-version-kind"] = [gvk(kinds[name])]
            waiting += _references(schema)
    return encode({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{published()['version'].removeprefix('v')}"},
        "paths": {path: item for row in rows for path, item in _paths(row)},
        "components": {"schemas": schemas},
    })  # fmt: skip


def _paths(row: Kind) -> Iterator[tuple[str, Any]]:
    space = "{namespace}" if row.namespaced else None
    answer = {"description": "OK", "content": {"application/json": {"schema": {
        "$ref": _REF + published()["kinds"][row.kind]}}}}  # fmt: skip
    parameters = [
        {"name": word, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for word in ("dryRun", "fieldManager", "fieldValidation")
    ]
    whole, single = {"get": "list", "post": "post"}, ("get", "put", "patch", "delete")
    for name, verbs in ((None, whole), ("{name}", dict(zip(single, single, strict=True)))):
        item = {
            method: {
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk(row),
                "parameters": parameters if method in ("post", "put", "patch") else [],
                "responses": {"200": answer},
            }
            for method, action in verbs.items()
        }
        yield row.path(space, name), item


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word == "$ref":
            made[word] = _REF + value
        elif word == "properties":
            made[word] = {name: _schema(inner) for name, inner in value.items()}
        elif word in ("items", "additionalProperties") and isinstance(value, Mapping):
            made[word] = _schema(value)
        else:
            made[word] = value
    if made.get("format") == "int-or-string":
        made = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    return made


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(_REF)
        for inner in schema.values():
            yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


@cache
def descriptions() -> dict[str, dict[str, str]]:
    """Definition -> field -> text; the definition's own under the empty name."""
    text = files("controller.api.schemas").joinpath("descriptions.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded


def _describe(schema: dict[str, Any], name: str) -> None:
    texts = descriptions().get(name, {})
    if "" in texts:
        schema["description"] = texts[""]
    for word, inner in (schema.get("properties") or {}).items():
        if word in texts:
            if "$ref" in inner:  # a reference may have no neighbours in OpenAPI 3.0
                inner["allOf"] = [{"$ref": inner.pop("$ref")}]
            inner["description"] = texts[word]


@cache
def _v2() -> bytes:
    kinds = {published()["kinds"][row.kind]: gvk(row) for row in KINDS.values()}
    paths = {
        row.path("{namespace}" if row.namespaced else None, "{name}"): gvk(row) for row in KINDS.values()
    }
    return openapi_v2.encode(published()["definitions"], descriptions(), kinds, paths)
