"""Patches, as a table by content type. Pure functions of a document and a patch.

A content type without a row is answered with 415. Server-side apply is no function of these two alone
(``managed``), and the registry's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controller.api.errors import BadRequest, UnsupportedMediaType
from controller.api.objects import copy
from controller.api.patch_strategic import strategic_merge
from controller.api.status import INVALID, FieldError, invalid

MERGE = "application/merge-patch+json"


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, everything else (lists too) replaces."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(target) if isinstance(target, Mapping) else {}
    for word, value in patch.items():
        if value is None:
            made.pop(word, None)
        else:
            made[word] = merge_patch(made.get(word), value)
    return made


def _merge(target: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    if not isinstance(patch, Mapping):
        raise BadRequest("a merge patch of an object must be a JSON object")
    made: dict[str, Any] = merge_patch(target, patch)
    return made


def _json(target: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """RFC 6902, by the library."""
    import jsonpatch

    if not isinstance(patch, list):
        raise BadRequest("a JSON patch must be a list of operations")
    try:
        made: dict[str, Any] = jsonpatch.apply_patch(copy(dict(target)), patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, ValueError) as error:
        name = (target.get("metadata") or {}).get("name", "")
        raise invalid(str(target.get("kind")), name, [FieldError("patch", INVALID, str(error), "")]) from None
    if not isinstance(made, dict):
        raise BadRequest("a JSON patch must leave an object")
    return made


PATCHES: Mapping[str, Callable[[Mapping[str, Any], Any], dict[str, Any]]] = {
    MERGE: _merge,
    "application/json-patch+json": _json,
    "application/strategic-merge-patch+json": strategic_merge,
}
"""Content type -> function of (document, patch)."""

APPLY = "application/apply-patch+yaml"

SHORT = {
    "merge": MERGE,
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": APPLY,
}
"""The words kubectl and the client use for content types."""


def apply_patch(content_type: str, target: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """The patched document; the target is left alone."""
    try:
        function = PATCHES[content_type]
    except KeyError:
        known = ", ".join((*PATCHES, APPLY))
        raise UnsupportedMediaType(
            f'the body of the request was in an unknown format "{content_type}"'
            f" - accepted media types: {known}"
        ) from None
    return function(target, patch)
