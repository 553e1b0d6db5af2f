"""A way through the published definitions: which schema a field of a kind has, and how lists merge.

What ``patch_strategic`` and ``fieldset`` ask. Pure; the definitions themselves are ``schema``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.schema import document

Schema = Mapping[str, Any]
_NOTHING: Schema = {}


def of_kind(kind: str) -> Schema:
    name = document()["kinds"].get(kind)
    return resolve({"$ref": name}) if name else _NOTHING


def resolve(schema: Schema) -> Schema:
    """The definition a schema refers to; list and merge hints beside the reference are kept."""
    while "$ref" in schema:
        hints = {word: value for word, value in schema.items() if word != "$ref"}
        schema = {**document()["definitions"].get(schema["$ref"], {}), **hints}
    return schema


def field(schema: Schema, word: str) -> Schema:
    """The schema of one field of an object (or of one value of a map)."""
    properties = schema.get("properties")
    if properties is not None:
        return resolve(properties[word]) if word in properties else _NOTHING
    more = schema.get("additionalProperties")
    return resolve(more) if isinstance(more, Mapping) else _NOTHING


def items(schema: Schema) -> Schema:
    return resolve(schema.get("items") or _NOTHING)


def keys(schema: Schema) -> Sequence[str]:
    """The fields that tell a list's items apart in server-side apply; empty when it is no such list."""
    found: Sequence[str] = ()
    if schema.get("x-kubernetes-list-type") == "map":
        found = schema.get("x-kubernetes-list-map-keys") or ()
    return found


def is_set(schema: Schema) -> bool:
    return schema.get("x-kubernetes-list-type") == "set"


def is_atomic_map(schema: Schema) -> bool:
    return schema.get("x-kubernetes-map-type") == "atomic" or schema.get("format") in (
        "int-or-string", "quantity",
    )  # fmt: skip
