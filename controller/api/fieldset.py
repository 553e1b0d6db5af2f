"""Sets of fields, as ``metadata.managedFields`` keeps them: which fields of an object somebody set. Pure.

A path is a tuple of steps: ``f:name`` a field, ``k:{...}`` an item of a list by its keys, ``v:...`` an
item of a set. A set holds the paths of values (scalars, atomic lists and maps, empty ones) and of items
themselves. What it means to own a field is ``managed``'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.api import published
from controller.api.published import Schema

Path = tuple[str, ...]
_NOT_OWNED = frozenset(
    ("f:metadata", f"f:{word}")
    for word in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "selfLink",
                 "managedFields", "generateName", "deletionTimestamp", "deletionGracePeriodSeconds")
)  # fmt: skip
_DEFAULTS = {"protocol": "TCP"}
"""Keys of list items that may be left out, with what they are then."""


def values(obj: Mapping[str, Any]) -> dict[Path, Any]:
    """Every path of an object with its value (None for an item of a list, which stands for itself)."""
    made: dict[Path, Any] = {}
    schema = published.of_kind(str(obj.get("kind")))
    for word, value in obj.items():
        if word not in ("apiVersion", "kind"):
            made |= _walk((f"f:{word}",), value, published.field(schema, word))
    return {path: value for path, value in made.items() if path[:2] not in _NOT_OWNED}


def _walk(path: Path, value: Any, schema: Schema) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value and not published.is_atomic_map(schema):
        for word, inner in value.items():
            yield from _walk((*path, f"f:{word}"), inner, published.field(schema, word))
        return
    keys = published.keys(schema)
    if isinstance(value, list) and keys and all(isinstance(one, Mapping) for one in value):
        inner_schema = published.items(schema)
        for one in value:
            step = (*path, item(one, keys))
            yield step, None
            for word, inner in one.items():
                yield from _walk((*step, f"f:{word}"), inner, published.field(inner_schema, word))
        return
    if isinstance(value, list) and published.is_set(schema):
        for one in value:
            yield (*path, f"v:{_compact(one)}"), one
        return
    yield path, value


def item(one: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The step to an item of a list."""
    named = {key: one.get(key, _DEFAULTS.get(key)) for key in keys}
    return "k:" + _compact({key: value for key, value in sorted(named.items()) if value is not None})


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """``fieldsV1``: the paths as nested maps."""
    made: dict[str, Any] = {}
    for path in sorted(paths):
        at = made
        for step in path:
            at = at.setdefault(step, {})
        if path[-1].startswith("k:"):
            at["."] = {}
    return made


def from_fields(told: Mapping[str, Any], at: Path = ()) -> Iterator[Path]:
    """The paths of ``fieldsV1``. A dot, or nothing below it, makes a path a member."""
    if not told and at:
        yield at
    for step, inner in told.items():
        if step == ".":
            yield at
        else:
            yield from from_fields(inner or {}, (*at, step))


def shown(path: Path) -> str:
    """A path as kubectl prints it: ``.spec.ports[port=80,protocol="TCP"].name``."""
    text = ""
    for step in path:
        mark, _, rest = step.partition(":")
        if mark == "f":
            text += f".{rest}"
        elif mark == "k":
            named = [f"{key}={_compact(value)}" for key, value in json.loads(rest).items()]
            text += f"[{','.join(named)}]"
        else:
            text += f"[={rest}]"
    return text
