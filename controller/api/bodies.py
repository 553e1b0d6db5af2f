"""Request bodies by content type: JSON, YAML, and Kubernetes' protobuf. Pure."""

from __future__ import annotations

import json
from typing import Any

from controller.api import protobuf
from controller.api.documents import Document, parse
from controller.api.errors import BadRequest, UnsupportedMediaType

_YAML = ("application/yaml", "application/apply-patch+yaml")


def parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def parse_body(content_type: str, body: bytes) -> Any:
    """What a body says. 415 for a content type nobody here reads."""
    if content_type in _YAML and not body.lstrip().startswith(b"{"):
        return parse_yaml(body)
    if content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(body)
    if content_type in ("", "application/json", *_YAML):
        return parse_json(body)
    raise UnsupportedMediaType(
        f'the body of the request was in an unknown format "{content_type}" - accepted media types: '
        f"application/json, application/yaml, {protobuf.CONTENT_TYPE}"
    )


def parse_yaml(body: bytes) -> Any:
    try:
        found = [*parse(body.decode(), "the body")]
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error}") from None
    if len(found) != 1 or not isinstance(found[0], Document):
        raise BadRequest(str(found[0]) if found else "the body is empty")
    return found[0].obj
