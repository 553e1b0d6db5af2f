"""Make ``definitions.json`` from the files of PyPI's ``kubernetes-validate``: build time only.

    python -m controller.api.schemas.make [KUBERNETES_VERSION]

Keeps the definitions that the kinds of ``controller.api.kinds`` reach, with the patch strategies and list
keys a strategic merge needs; the descriptions go to ``descriptions.json``, which only `kubectl explain`
needs. Nothing at run time imports this.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from controller.api.kinds import KINDS

_VERSION = "v1.33.0"
_OUT = Path(__file__).with_name("definitions.json")
_TEXTS = Path(__file__).with_name("descriptions.json")
_PREFIX = "#/$defs/"
_KEPT = ("$ref", "type", "format", "items", "additionalProperties", "properties", "required",
         "x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key", "x-kubernetes-list-type",
         "x-kubernetes-list-map-keys", "x-kubernetes-map-type")  # fmt: skip


def main(arguments: list[str]) -> int:
    version = arguments[0] if arguments else _VERSION
    published = _published(version)
    roots = {}
    for name, definition in published.items():
        for entry in definition.get("x-kubernetes-group-version-kind", ()):
            row = KINDS.get(entry["kind"])
            if row and (row.group, row.version) == (entry["group"], entry["version"]):
                roots[row.kind] = name
    missing = KINDS.keys() - roots.keys()
    assert not missing, f"{version} publishes no schema of {sorted(missing)}"
    definitions: dict[str, Any] = {}
    waiting = list(roots.values())
    while waiting:
        name = waiting.pop()
        if name not in definitions:
            definitions[name] = _pruned(name, published[name], waiting)
    document = {
        "version": version,
        "kinds": {kind: roots[kind] for kind in KINDS},
        "definitions": dict(sorted(definitions.items())),
    }
    _OUT.write_text(json.dumps(document, separators=(",", ":"), sort_keys=False) + "\n")
    texts = {name: _descriptions(published[name]) for name in sorted(definitions)}
    _TEXTS.write_text(json.dumps(texts, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(f"{_OUT}: {len(definitions)} definitions, {_OUT.stat().st_size} bytes")
    return 0


def _published(version: str) -> dict[str, Any]:
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("install kubernetes-validate first: pip install kubernetes-validate")
    root = Path(found.submodule_search_locations[0])
    path = root / "kubernetes-json-schema" / f"{version}-local" / "_definitions.json"
    definitions: dict[str, Any] = json.loads(path.read_text())["$defs"]
    return definitions


def _descriptions(schema: dict[str, Any]) -> dict[str, str]:
    """Field -> its text; the definition's own under the empty name."""
    found = {"": schema.get("description", "")}
    for word, inner in (schema.get("properties") or {}).items():
        found[word] = inner.get("description", "")
    return {word: text for word, text in found.items() if text}


def _pruned(name: str, schema: dict[str, Any], waiting: list[str]) -> dict[str, Any]:
    if name.endswith(".IntOrString"):
        return {"type": "string", "format": "int-or-string"}
    if name.endswith(".Quantity"):
        return {"type": "string", "format": "quantity"}
    return _schema(schema, waiting)


def _schema(schema: dict[str, Any], waiting: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for word in _KEPT:
        if word not in schema:
            continue
        value = schema[word]
        if word == "$ref":
            value = value.removeprefix(_PREFIX)
            waiting.append(value)
        elif word == "type" and isinstance(value, list):
            (value,) = (kind for kind in value if kind != "null")
        elif word == "properties":
            value = {key: _schema(inner, waiting) for key, inner in value.items()}
        elif word in ("items", "additionalProperties") and isinstance(value, dict):
            value = _schema(value, waiting)
        made[word] = value
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
