"""Request bodies in Kubernetes' protobuf, read into the JSON they stand for. Pure; reading only.

Clients made with client-go 0.32 or later send ``application/vnd.kubernetes.protobuf`` from their typed
calls (``kubectl create deployment``) and accept JSON back. The field numbers are data, made from the
published descriptors (``schemas/make_protobuf``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from controller.api.errors import BadRequest

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_GROUPS = {"": "core", "authorization.k8s.io": "authorization", "authentication.k8s.io": "authentication"}
_POINTERS = frozenset({
    "activeDeadlineSeconds", "allocateLoadBalancerNodePorts", "allowPrivilegeEscalation",
    "automountServiceAccountToken", "backoffLimit", "blockOwnerDeletion", "completions", "controller",
    "enableServiceLinks", "gracePeriodSeconds", "hostUsers", "immutable", "minReplicas", "optional",
    "orphanDependents", "parallelism", "partition", "priority", "privileged", "progressDeadlineSeconds",
    "readOnlyRootFilesystem", "ready", "replicas", "revisionHistoryLimit", "runAsGroup", "runAsNonRoot",
    "runAsUser", "serving", "shareProcessNamespace", "started", "suspend", "terminating",
    "terminationGracePeriodSeconds", "tolerationSeconds", "ttlSecondsAfterFinished", "value",
})  # fmt: skip
"""Fields that mean something when they are zero or false; of all others a zero is an absence."""


class _Unreadable(Exception):
    pass


def decode(body: bytes) -> Any:
    """The object in a protobuf envelope, as JSON would have it. BadRequest when it cannot be read."""
    if not body.startswith(_MAGIC):
        raise BadRequest("the body of the request is not Kubernetes' protobuf")
    try:
        envelope = dict(fields(body[len(_MAGIC) :]))
        about = dict(fields(envelope[1]))
        version, kind = about.get(1, b"").decode(), about.get(2, b"").decode()
        made = _message(_name(version, kind), envelope.get(2, b""))
    except (_Unreadable, IndexError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise BadRequest(
            f"podwire cannot read this protobuf body ({error}): "
            "try --dry-run=client -o yaml | kubectl apply -f -"
        ) from None
    return {"apiVersion": version, "kind": kind, **made}


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of one message: numbers as int, everything else as bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[wire]
        if at + size > end:
            raise ValueError("it ends too early")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


@cache
def _tables() -> dict[str, dict[str, tuple[str, str]]]:
    loaded: dict[str, dict[str, tuple[str, str]]] = json.loads(
        files("controller.api.schemas").joinpath("protobuf.json").read_text()
    )
    return loaded


def _name(version: str, kind: str) -> str:
    if kind == "DeleteOptions":
        return "apis.meta.v1.DeleteOptions"
    group, _, number = version.rpartition("/")
    name = f"{_GROUPS.get(group) or group.partition('.')[0]}.{number}.{kind}"
    if name not in _tables():
        raise _Unreadable(f"no table for {kind} of {version}")
    return name


def _message(name: str, data: bytes) -> Any:
    special = _SPECIAL.get(name.rpartition(".")[2])
    if special is not None:
        return special(dict(fields(data)))
    table = _tables()[name]
    made: dict[str, Any] = {}
    for number, raw in fields(data):
        row = table.get(str(number))
        if row is None:
            raise _Unreadable(f"field {number} of {name} is newer than this server")
        word, kind = row
        if kind[0] == "[":
            made.setdefault(word, []).append(_value(kind[1:-1], raw))
        elif kind[0] == "{":
            entry = dict(fields(raw))
            made.setdefault(word, {})[entry.get(1, b"").decode()] = _value(kind[1:-1], entry.get(2, b""))
        elif word:
            value = _value(kind, raw)
            if value not in ("", 0, False, None) or word in _POINTERS:
                made[word] = value
        else:
            made |= _value(kind, raw)
    return {word: value for word, value in made.items() if value != {} or _is_meant(word)}


def _is_meant(word: str) -> bool:
    """Whether an empty object says something (a pointer in Go) or is a struct that was left alone."""
    return word in ("emptyDir", "podSelector", "namespaceSelector")


def _value(kind: str, raw: Any) -> Any:
    match kind:
        case "s":
            return raw.decode()
        case "b":
            return bool(raw)
        case "i":
            return raw - (1 << 64) if raw >= 1 << 63 else raw
        case "y":
            return base64.b64encode(raw).decode()
        case "d":
            raise _Unreadable("a floating point number")
    return _message(kind, raw)


def _time(told: dict[int, Any]) -> str | None:
    seconds = told.get(1, 0)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None


_SPECIAL: dict[str, Callable[[dict[int, Any]], Any]] = {
    "Time": _time,
    "MicroTime": _time,
    "Quantity": lambda told: told.get(1, b"").decode(),
    "IntOrString": lambda told: told.get(3, b"").decode() if told.get(1) else told.get(2, 0),
    "FieldsV1": lambda told: json.loads(told.get(1, b"{}")),
}
