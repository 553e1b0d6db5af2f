"""Patches, as a table by content type. Pure functions of a document and a patch.

``application/json-patch+json``, strategic merge and server-side apply get their row here when they
are written; a content type without a row is answered with 415.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controller.api.errors import BadRequest, UnsupportedMediaType

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


PATCHES: Mapping[str, Callable[[Mapping[str, Any], Any], dict[str, Any]]] = {MERGE: _merge}
"""Content type -> function of (document, patch)."""

SHORT = {
    "merge": MERGE,
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
"""The words kubectl and the client use for content types."""


def apply_patch(content_type: str, target: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    """The patched document; the target is left alone."""
    try:
        function = PATCHES[content_type]
    except KeyError:
        known = ", ".join(PATCHES)
        raise UnsupportedMediaType(
            f'the body of the request was in an unknown format "{content_type}"'
            f" - accepted media types: {known}"
        ) from None
    return function(target, patch)
