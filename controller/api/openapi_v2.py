"""OpenAPI v2 as older kubectls read it: gnostic's ``openapi.v2.Document`` in protobuf. Pure; writing only.

Field numbers are gnostic's (github.com/google/gnostic, openapiv2/OpenAPIv2.proto).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""With ``.v1.0``: the ``@v1.0`` that clients ask for is no valid content type."""
_GVK = "x-kubernetes-group-version-kind"


def encode(
    definitions: Mapping[str, Any],
    texts: Mapping[str, Mapping[str, str]],
    kinds: Mapping[str, Mapping[str, str]],
    paths: Mapping[str, Mapping[str, str]],
) -> bytes:
    """The document. ``kinds`` is definition -> group, version, kind; ``paths`` the same by object path."""
    made = _text(1, "2.0") + _part(2, _text(1, "Kubernetes") + _text(2, "v1.33.0"))
    made += _part(8, b"".join(_part(2, _named(path, _path_item(gvk))) for path, gvk in paths.items()))
    named = b""
    for name, schema in definitions.items():
        body = _schema(schema, texts.get(name, {}), own=True)
        if name in kinds:
            body += _extension(_GVK, [kinds[name]])
        named += _part(1, _named(name, body))
    return made + _part(9, named)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _part(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _text(number: int, text: str) -> bytes:
    return _part(number, text.encode())


def _named(name: str, body: bytes) -> bytes:
    return _text(1, name) + _part(2, body)


def _extension(name: str, value: Any) -> bytes:
    """A vendor extension of a Schema (31): its value is YAML, and JSON is YAML."""
    return _part(31, _named(name, _text(2, json.dumps(value))))


def _schema(
    schema: Mapping[str, Any], texts: Mapping[str, str], *, own: bool = False, text: str = ""
) -> bytes:
    made = b""
    if "$ref" in schema:
        made += _text(1, f"#/definitions/{schema['$ref']}")
    if "format" in schema:
        made += _text(2, schema["format"])
    if own:
        text = texts.get("", "")
    if text:
        made += _text(4, text)
    for word in schema.get("required") or ():
        made += _text(19, word)
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        made += _part(21, _part(1, _schema(more, {})))
    kind = schema.get("type") or ("object" if "properties" in schema else "")
    if kind:
        made += _part(22, _text(1, kind))
    if "items" in schema:
        made += _part(23, _part(1, _schema(schema["items"], {})))
    if "properties" in schema:
        fields = schema["properties"].items()
        named = (_named(word, _schema(inner, {}, text=texts.get(word, ""))) for word, inner in fields)
        made += _part(25, b"".join(_part(1, one) for one in named))
    for word, value in schema.items():
        if word.startswith("x-kubernetes-"):
            made += _extension(word, value)
    return made


def _path_item(gvk: Mapping[str, str]) -> bytes:
    """A ``patch`` operation: kubectl 1.20 looks there whether a kind can be tried by dry run."""
    query = _text(2, "query") + _text(4, "dryRun") + _text(6, "string")
    parameter = _part(1, _part(2, _part(3, query)))
    marked = _part(13, _named(_GVK, _text(2, json.dumps(dict(gvk)))))
    operation = _text(5, f"patch{gvk['kind']}") + _part(8, parameter) + marked
    return _part(8, operation)
