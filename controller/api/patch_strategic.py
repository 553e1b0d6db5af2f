"""Strategic merge patches: a merge patch that knows, by the published schema, how lists merge. Pure.

Lists with ``x-kubernetes-patch-strategy: merge`` merge by their key (objects) or as sets; all others are
replaced. The directives $patch, $retainKeys, $setElementOrder and $deleteFromPrimitiveList are heeded.
Service ports merge by ``port`` alone, as upstream's do (kubernetes/kubernetes#39188).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.api import published
from controller.api.errors import BadRequest
from controller.api.published import Schema

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic_merge(target: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """The patched document; its ``kind`` says by which schema."""
    if not isinstance(patch, Mapping):
        raise BadRequest("a strategic merge patch must be a JSON object")
    return _object(target, patch, published.of_kind(str(target.get("kind"))))


def _object(target: Mapping[str, Any], patch: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    directive = patch.get("$patch")
    if directive == "replace":
        fresh: dict[str, Any] = _clean(patch)
        return fresh
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"unknown patch type found: {directive}")
    made = dict(target)
    retained = patch.get("$retainKeys")
    if retained is not None:
        made = {word: value for word, value in made.items() if word in retained}
    for word, value in patch.items():
        if word in ("$patch", "$retainKeys") or word.startswith(_ORDER):
            continue
        if word.startswith(_DELETE):
            name = word.removeprefix(_DELETE)
            made[name] = [one for one in made.get(name) or () if one not in value]
        elif value is None:
            made.pop(word, None)
        else:
            made[word] = _value(made.get(word), value, published.field(schema, word))
    for word, order in patch.items():
        name = word.removeprefix(_ORDER)
        if word != name and isinstance(made.get(name), list):
            made[name] = _ordered(made[name], order, published.field(schema, name))
    return made


def _value(target: Any, patch: Any, schema: Schema) -> Any:
    if isinstance(patch, Mapping):
        return _object(target if isinstance(target, Mapping) else {}, patch, schema)
    if isinstance(patch, list):
        if "merge" in str(schema.get("x-kubernetes-patch-strategy", "")).split(","):
            return _list(target if isinstance(target, list) else [], patch, schema)
        return _clean(patch)
    return patch


def _list(target: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    key = schema.get("x-kubernetes-patch-merge-key")
    if not key:
        return [*target, *(one for one in patch if one not in target)]
    if any(isinstance(one, Mapping) and one.get("$patch") == "replace" and key not in one for one in patch):
        return [_clean(one) for one in patch if one.get("$patch") != "replace"]
    made, inner = [*target], published.items(schema)
    for one in patch:
        if not isinstance(one, Mapping) or key not in one:
            raise BadRequest(f"map: {one} does not contain declared merge key: {key}")
        found = [i for i, have in enumerate(made) if isinstance(have, Mapping) and have.get(key) == one[key]]
        if one.get("$patch") == "delete":
            made = [have for i, have in enumerate(made) if i not in found]
        elif found:
            made[found[0]] = _object(made[found[0]], one, inner)
        else:
            made.append(_object({}, one, inner))
    return made


def _ordered(made: list[Any], order: list[Any], schema: Schema) -> list[Any]:
    """The items that ``order`` names in its order; the others stay before what they stood before."""
    key = schema.get("x-kubernetes-patch-merge-key")

    def name(one: Any) -> Any:
        return one.get(key) if key and isinstance(one, Mapping) else one

    wanted = [name(one) for one in order]
    listed = sorted((one for one in made if name(one) in wanted), key=lambda one: wanted.index(name(one)))
    others = iter([one for one in made if name(one) not in wanted])
    places = [name(one) in wanted for one in made]
    queue = iter(listed)
    return [next(queue) if is_listed else next(others) for is_listed in places]


def _clean(value: Any) -> Any:
    """A value that is new as a whole: no nulls and no directives in it."""
    if isinstance(value, Mapping):
        return {word: _clean(one) for word, one in value.items() if one is not None and word[0:1] != "$"}
    return [_clean(one) for one in value] if isinstance(value, list) else value
