"""Every error podwire raises on purpose, in one tree.

    PodwireError                what went wrong, to which object, and what to do now
    ├── UserError               the input is wrong: exit code 2, one sentence, nothing left behind
    │   ├── ManifestError       a document of a YAML file: names file, document, field, reason
    │   └── UsageError          a flag, a name or a combination on the command line
    ├── MachineError             the machine lacks something: says what to install or to start
    ├── ApiError                an answer of the API server that is not 2xx; carries the Status object
    │   ├── BadRequest          400
    │   ├── Unauthorized        401: no token, or one that is not good
    │   ├── Forbidden           403: not now or not there (a namespace that is being terminated)
    │   ├── NotFound            404
    │   ├── MethodNotAllowed    405
    │   ├── AlreadyExists       409, reason AlreadyExists
    │   ├── Conflict            409, reason Conflict
    │   ├── Expired             410: list again
    │   ├── UnsupportedMediaType 415
    │   ├── Invalid             422: names every field that is wrong
    │   ├── TooManyRequests     429: not now (an eviction that a disruption budget forbids)
    │   ├── ServiceUnavailable  503: whom a request was to be forwarded to does not answer
    │   └── Timeout             504
    ├── Unreachable             the API server does not answer (it is down, or was never started)
    └── NotSettled              the lab did not come to rest in time: names who is behind and by how much

Our own bugs are assertions, never one of these.
"""

from __future__ import annotations

from typing import Any


class PodwireError(Exception):
    """Base of the tree; ``str(error)`` is one sentence a user can act on."""

    exit_code = 1


class UserError(PodwireError):
    """The user's input is wrong; nothing was changed."""

    exit_code = 2


class UsageError(UserError):
    """A flag, a name or a combination on the command line is wrong."""


class ManifestError(UserError):
    """A document of a manifest is wrong; ``problems`` are all that were found, this one being the first.

    ``file`` is the path as the user gave it, ``document`` counts from 1, ``what`` names the object
    ("Service web"), ``field`` is a JSON path like ``spec.ports[0].nodePort`` (or empty when the whole
    document is meant).
    """

    def __init__(
        self, reason: str, *, file: str = "", document: int = 0, field: str = "", what: str = ""
    ) -> None:
        self.reason, self.file, self.document, self.field, self.what = reason, file, document, field, what
        self.problems: list[ManifestError] = [self]
        where = file + (f", document {document}" if document else "")
        super().__init__(": ".join(part for part in (where, what, field, reason) if part))

    @classmethod
    def of(cls, problems: list[ManifestError]) -> ManifestError:
        """One error that tells all problems, a line each."""
        if len(problems) == 1:
            return problems[0]
        first = problems[0]
        made = cls(first.reason, file=first.file, document=first.document, field=first.field, what=first.what)
        lines = "".join(f"\n  {problem}" for problem in problems)
        made.args = (f"{len(problems)} problems in the manifests, nothing was applied:{lines}",)
        made.problems = problems
        return made


class MachineError(PodwireError):
    """The machine lacks a program, a kernel option or a right; the text says what to do."""

    exit_code = 2


class NotSettled(PodwireError):
    """The lab did not come to rest in time."""


class ApiError(PodwireError):
    """An answer of the API server that is not 2xx. ``status`` is its ``Status`` object, ``warnings`` are
    sent along as headers."""

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, status: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status or {}
        self.warnings: tuple[str, ...] = ()


class BadRequest(ApiError):
    """The request itself cannot be understood."""

    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    """Nobody knows who asks."""

    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    """The server understands and refuses."""

    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    """There is no such object."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    """The resource exists, but not this verb on it."""

    code, reason = 405, "MethodNotAllowed"


class AlreadyExists(ApiError):
    """An object of that name exists."""

    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    """The object changed since it was read."""

    code, reason = 409, "Conflict"


class Expired(ApiError):
    """The history before that resourceVersion is gone: list again."""

    code, reason = 410, "Expired"


class UnsupportedMediaType(ApiError):
    """The body is in a format the server does not read."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object breaks a rule of its kind."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class ServiceUnavailable(ApiError):
    """There is nobody to forward the request to."""

    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    """What was waited for did not happen in time."""

    code, reason = 504, "Timeout"


class Unreachable(PodwireError):
    """The API server does not answer at its socket."""
