"""Kubernetes' ``Status`` object and the errors that carry it, in Kubernetes' wording.

Both ends use it: the server makes a Status of an ApiError, the client an ApiError of a Status. What
is wrong with an object is decided elsewhere (``validate``, ``rules_*``); here it is only worded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.api.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    Timeout,
    Unauthorized,
    UnsupportedMediaType,
)
from controller.api.kinds import KINDS

REQUIRED = "Required value"
INVALID = "Invalid value"
DUPLICATE = "Duplicate value"
NOT_SUPPORTED = "Unsupported value"
FORBIDDEN = "Forbidden"
TOO_LONG = "Too long"
TOO_MANY = "Too many"
NOT_FOUND = "Not found"

_REASONS = {
    REQUIRED: "FieldValueRequired",
    INVALID: "FieldValueInvalid",
    DUPLICATE: "FieldValueDuplicate",
    NOT_SUPPORTED: "FieldValueNotSupported",
    FORBIDDEN: "FieldValueForbidden",
    TOO_LONG: "FieldValueTooLong",
    TOO_MANY: "FieldValueTooMany",
    NOT_FOUND: "FieldValueNotFound",
}


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with one field. ``type`` is one of this module's constants; ``value`` is shown
    for the types that concern a value; ``field`` is a path like ``spec.ports[0].name``."""

    field: str
    type: str
    detail: str = ""
    value: Any = None

    @property
    def reason(self) -> str:
        """Everything but the field: ``Invalid value: 80: provided port is not in the valid range``."""
        parts = [self.type]
        if self.type in (INVALID, DUPLICATE, NOT_SUPPORTED, NOT_FOUND):
            parts.append(json.dumps(self.value, ensure_ascii=False))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


def unsupported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    """A value outside an enumeration, with the values there are."""
    words = ", ".join(f'"{word}"' for word in sorted(allowed))
    return FieldError(field, NOT_SUPPORTED, f"supported values: {words}", value)


def _details(kind: str, name: str, **more: Any) -> dict[str, Any]:
    row = KINDS.get(kind)
    found: dict[str, Any] = {"name": name, "group": row.group if row else "", "kind": kind}
    found.update(more)
    return {word: value for word, value in found.items() if value not in ("", None)}


def _resource(kind: str) -> str:
    row = KINDS.get(kind)
    return row.resource if row else kind.lower()


def _error(error: type[ApiError], message: str, details: Mapping[str, Any] | None = None) -> ApiError:
    return error(message, status_of(error.code, error.reason, message, details))


def status_of(
    code: int, reason: str, message: str, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A failure as a Status object."""
    made: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details:
        made["details"] = dict(details)
    made["code"] = code
    return made


def success(kind: str, name: str, uid: str) -> dict[str, Any]:
    """What a DELETE of most kinds answers."""
    row = KINDS[kind]
    details = {"name": name, "group": row.group, "kind": row.plural, "uid": uid}
    details = {word: value for word, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def not_found(kind: str, name: str) -> ApiError:
    return _error(NotFound, f'{_resource(kind)} "{name}" not found', _details(kind, name))


def already_exists(kind: str, name: str) -> ApiError:
    return _error(AlreadyExists, f'{_resource(kind)} "{name}" already exists', _details(kind, name))


def conflict(kind: str, name: str, why: str = "") -> ApiError:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {_resource(kind)} "{name}": {why}'
    return _error(Conflict, message, _details(kind, name))


def forbidden(kind: str, name: str, why: str, cause: Mapping[str, str] | None = None) -> ApiError:
    message = f'{_resource(kind)} "{name}" is forbidden: {why}'
    return _error(Forbidden, message, _details(kind, name, causes=[dict(cause)] if cause else None))


def expired(asked: int, oldest: int) -> ApiError:
    return _error(Expired, f"too old resource version: {asked} ({oldest})")


def invalid(kind: str, name: str, errors: Sequence[FieldError]) -> Invalid:
    """422 that names every field that is wrong, in Kubernetes' one line."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    row = KINDS.get(kind)
    qualified = f"{kind}.{row.group}" if row and row.group else kind
    message = f'{qualified} "{name}" is invalid: {listed}'
    causes = [
        {"reason": _REASONS[error.type], "message": error.reason, "field": error.field} for error in errors
    ]
    return Invalid(
        message, status_of(Invalid.code, Invalid.reason, message, _details(kind, name, causes=causes))
    )


_BY_REASON: Mapping[str, type[ApiError]] = {
    error.reason: error
    for error in (AlreadyExists, BadRequest, Conflict, Expired, Forbidden, Invalid, MethodNotAllowed,
                  NotFound, ServiceUnavailable, Timeout, Unauthorized, UnsupportedMediaType)
}  # fmt: skip
_BY_CODE = {404: NotFound, 410: Expired, 409: Conflict}


def error_of(code: int, body: Mapping[str, Any]) -> ApiError:
    """The exception a client raises for an answer that is not 2xx."""
    reason = str(body.get("reason") or "")
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code) or ApiError
    made = kind(str(body.get("message") or f"the server answered {code}"), dict(body))
    made.code = code
    return made


def status_for(error: ApiError) -> dict[str, Any]:
    """The Status a server answers for an error, whoever raised it."""
    return dict(error.status) or status_of(error.code, error.reason, str(error))
