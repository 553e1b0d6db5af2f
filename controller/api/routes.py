"""URL paths and queries of the API, read into values. Pure: no server library, no store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.api.errors import ApiError, BadRequest, NotFound
from controller.api.kinds import BY_PATH, Kind
from controller.api.status import status_of

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("", "0", "f", "F", "FALSE", "false", "False"))


@dataclass(frozen=True)
class Target:
    """What a path names: a collection (no name), an object, or a subresource of one."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def no_such_path() -> ApiError:
    message = "the server could not find the requested resource"
    return NotFound(message, status_of(404, "NotFound", message))


def parse_path(path: str) -> Target:
    """``/api/v1/namespaces/default/pods/web/status`` and its like; NotFound for anything else."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group, version, rest[2]) in BY_PATH:
        namespace, rest = rest[1], rest[2:]
    kind = BY_PATH.get((group, version, rest[0]))
    if kind is None or len(rest) > 3 or "" in parts:
        raise no_such_path()
    if namespace and not kind.namespaced:
        raise no_such_path()
    target = Target(kind, namespace, *rest[1:])
    if target.subresource == "ephemeralcontainers":
        raise BadRequest(
            "ephemeral containers are not served here: kubectl exec runs commands in the pod's own"
        )
    if target.subresource and target.subresource not in kind.subresources:
        raise no_such_path()
    if target.name and kind.namespaced and not namespace:
        raise no_such_path()
    return target


def flag(query: Mapping[str, str], word: str) -> bool:
    """A boolean parameter, in all the spellings Go's ParseBool takes."""
    value = query.get(word, "")
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise BadRequest(f'strconv.ParseBool: parsing "{value}": invalid syntax ({word})')


def number(query: Mapping[str, str], word: str) -> int | None:
    """An integer parameter, None when it is absent."""
    value = query.get(word, "")
    if not value:
        return None
    if not value.lstrip("-").isdigit():
        raise BadRequest(f'{word}: invalid value "{value}": must be an integer')
    return int(value)


def seconds(query: Mapping[str, str], word: str, default: float) -> float:
    """A duration, as the side channel takes it: fractions are allowed."""
    try:
        return float(query.get(word) or default)
    except ValueError:
        raise BadRequest(f'{word}: invalid value "{query[word]}": must be a number') from None


def dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun", "")
    if value not in ("", "All"):
        raise BadRequest(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return bool(value)
