"""Server-side apply: merge what somebody wants into what is there, and take away what they no longer say.

Pure: live object and wanted object in, merged object out. Who owns which field is ``managed``'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from controller.api import published
from controller.api.fieldset import Path, item
from controller.api.published import Schema


def merge(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """``wanted`` over ``live``, lists by the published list types."""
    made: dict[str, Any] = _merge(live, wanted, published.of_kind(str(wanted.get("kind"))))
    return made


def _merge(live: Any, wanted: Any, schema: Schema) -> Any:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping) and not published.is_atomic_map(schema):
        made = dict(live)
        for word, value in wanted.items():
            made[word] = _merge(live.get(word), value, published.field(schema, word))
        return made
    if isinstance(wanted, list) and isinstance(live, list):
        if published.is_set(schema):
            return [*live, *(one for one in wanted if one not in live)]
        keys = published.keys(schema)
        if keys and all(isinstance(one, Mapping) for one in (*live, *wanted)):
            inner = published.items(schema)
            named = {item(one, keys): one for one in live}
            for one in wanted:
                step = item(one, keys)
                named[step] = _merge(named[step], one, inner) if step in named else one
            # The applier's order first, then what others have added.
            order = [item(one, keys) for one in wanted]
            return [named[step] for step in (*order, *(step for step in named if step not in order))]
    return wanted


def remove(obj: dict[str, Any], paths: Iterable[Path], kept: frozenset[Path]) -> None:
    """Take paths out of an object (changed in place). An item of a list goes with all in it, unless
    somebody else owns a part of it (``kept``); a map that becomes empty goes too, unless somebody
    wants it empty."""
    schema = published.of_kind(str(obj.get("kind")))
    for path in sorted(paths, key=len, reverse=True):
        if not any(other[: len(path)] == path for other in kept):
            _remove(obj, path, 0, schema, kept)


def _remove(at: Any, path: Path, depth: int, schema: Schema, kept: frozenset[Path]) -> None:
    step, rest = path[depth], path[depth + 1 :]
    mark, _, word = step.partition(":")
    if mark == "f" and isinstance(at, dict) and word in at:
        if not rest:
            del at[word]
            return
        _remove(at[word], path, depth + 1, published.field(schema, word), kept)
        if at[word] in ({}, []) and path[: depth + 1] not in kept:
            del at[word]
    elif isinstance(at, list):
        if mark == "v":
            at[:] = [one for one in at if one != json.loads(word)]
            return
        keys = published.keys(schema)
        for index, one in enumerate(at):
            if isinstance(one, dict) and item(one, keys) == step:
                if rest:
                    _remove(one, path, depth + 1, published.items(schema), kept)
                else:
                    del at[index]
                return
