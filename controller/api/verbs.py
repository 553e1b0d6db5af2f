"""HTTP verbs on the registry: from (method, path, query, body) to (code, body, warnings).

No server library: the whole API but watches and settling can be called as a function. Reading paths
is ``routes``', the rules of writing are ``registry``'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.api import discovery, routes, selectors
from controller.api.errors import BadRequest, MethodNotAllowed
from controller.api.history import encode
from controller.api.kinds import Kind
from controller.api.objects import Obj
from controller.api.registry import Registry
from controller.api.routes import Target, dry_run
from controller.api.status import success

_ANSWERED_WITH_OBJECT = ("Pod", "Service", "ServiceAccount")
"""A DELETE of these answers the object, of all others a Status (typed clients insist)."""


@dataclass(frozen=True)
class Answer:
    """A whole response. ``body`` is encoded already; ``warnings`` become Warning headers."""

    code: int
    body: bytes
    content_type: str = "application/json"
    warnings: Sequence[str] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as the server read it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: bytes = b""


class Told:
    """Hears of unknown fields: by ``fieldValidation`` an error, a warning (the default) or nothing."""

    def __init__(self, call: Call) -> None:
        self.warnings: list[str] = []
        self._mode = call.query.get("fieldValidation") or "Warn"
        if self._mode not in ("Strict", "Warn", "Ignore"):
            raise BadRequest(f'fieldValidation: Unsupported value: "{self._mode}": supported values: '
                             '"Ignore", "Warn", "Strict"')  # fmt: skip

    def __call__(self, obj: Obj, fields: list[str]) -> None:
        texts = [f'unknown field "{path}"' for path in fields]
        if self._mode == "Strict":
            raise BadRequest(
                f'{obj["kind"]} in version "{obj["apiVersion"]}" cannot be handled as a {obj["kind"]}: '
                f"strict decoding error: {', '.join(texts)}"
            )
        if self._mode == "Warn":
            self.warnings += texts


def answer(registry: Registry, call: Call) -> Answer:
    """Do what a request asks. Raises ApiError for everything that is not 2xx."""
    if call.method == "GET":
        document = discovery.document(call.path)
        if isinstance(document, str):
            return Answer(200, document.encode(), "text/plain")
        if document is not None:
            return Answer(200, encode(document))
    target = routes.parse_path(call.path)
    if target.subresource:
        return _on_subresource(registry, call, target)
    return _on_object(registry, call, target) if target.name else _on_collection(registry, call, target)


def _on_collection(registry: Registry, call: Call, target: Target) -> Answer:
    kind = target.kind
    if call.method == "GET":
        return Answer(200, list_body(registry, target, call.query))
    if call.method == "POST":
        told = Told(call)
        made = registry.create(
            _object(call, kind), namespace=target.namespace or None, dry_run=dry_run(call.query), unknown=told
        )
        return Answer(201, registry.store.body(made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "DELETE":
        return Answer(200, encode(_delete_collection(registry, call, target)))
    raise _not_allowed(call)


def _on_object(registry: Registry, call: Call, target: Target) -> Answer:
    kind, at = target.kind, (target.kind.kind, target.namespace, target.name)
    if call.method == "GET":
        return Answer(200, encode(registry.get(*at)))
    if call.method == "PUT":
        obj, told = _named(_object(call, kind), target), Told(call)
        made = registry.update(obj, dry_run=dry_run(call.query), unknown=told)
        return Answer(200, registry.store.body(made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "PATCH":
        patch, told = _json(call), Told(call)
        made = registry.patch(
            *at, patch, patch_type=call.content_type, dry_run=dry_run(call.query), unknown=told
        )
        return Answer(200, registry.store.body(made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "DELETE":
        gone = registry.delete(*at, **_delete_options(call))
        if kind.kind not in _ANSWERED_WITH_OBJECT:
            gone = success(kind.kind, target.name, gone["metadata"]["uid"])
        return Answer(200, registry.store.body(gone))
    raise _not_allowed(call)


def _on_subresource(registry: Registry, call: Call, target: Target) -> Answer:
    kind, word = target.kind, target.subresource
    at = (kind.kind, target.namespace, target.name)
    dry = dry_run(call.query)
    if word == "binding":
        if call.method != "POST":
            raise _not_allowed(call)
        return Answer(201, encode(_bind(registry, target, _json(call))))
    if word in ("proxy", "token"):  # the server's own: they need a network and a key
        raise _not_allowed(call)
    if call.method == "GET":
        return Answer(200, encode(registry.get(*at, subresource=word)))
    if call.method == "PATCH":
        patched = registry.patch(
            *at, _json(call), patch_type=call.content_type, subresource=word, dry_run=dry
        )
        return Answer(200, registry.store.body(patched))
    if call.method == "PUT":
        if word == "scale":
            scale = _json(call)
            if not isinstance(scale, dict):
                raise BadRequest("the body must be a Scale object")
            return Answer(200, encode(registry.scale(*at, scale, dry_run=dry)))
        obj = _named(_object(call, kind), target)
        return Answer(200, encode(registry.update(obj, subresource=word, dry_run=dry)))
    raise _not_allowed(call)


def list_body(registry: Registry, target: Target, query: Mapping[str, str]) -> bytes:
    """A FooList. Without selectors the stored bodies are joined, never parsed."""
    kind, store = target.kind, registry.store
    select = selectors.predicate(kind.kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    with store.lock:
        newest = store.newest
        if select is None:
            bodies = store.bodies(kind.kind, target.namespace)
        else:
            bodies = [encode(obj) for obj in store.list(kind.kind, target.namespace) if select(obj)]
    head = {"kind": kind.list_kind, "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(newest)}}  # fmt: skip
    return encode(head)[:-1] + b',"items":[' + b",".join(bodies) + b"]}"


def _delete_collection(registry: Registry, call: Call, target: Target) -> Obj:
    kind = target.kind
    labels, fields = call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")
    select = selectors.predicate(kind.kind, labels, fields)
    options = _delete_options(call)
    with registry.store.lock:
        found = [obj for obj in registry.store.list(kind.kind, target.namespace) if not select or select(obj)]
        gone = [
            registry.delete(kind.kind, obj["metadata"].get("namespace"), obj["metadata"]["name"], **options)
            for obj in found
        ]
    return {"kind": kind.list_kind, "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(registry.store.newest)}, "items": gone}  # fmt: skip


def _bind(registry: Registry, target: Target, binding: Any) -> Obj:
    """A scheduler's decision: the Pod's nodeName."""
    node = (binding.get("target") or {}).get("name") if isinstance(binding, dict) else None
    if not node:
        raise BadRequest("a Binding needs target.name")
    with registry.store.lock:
        pod = registry.get("Pod", target.namespace, target.name)
        registry.update({**pod, "spec": {**pod["spec"], "nodeName": node}}, subresource="binding")
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _delete_options(call: Call) -> dict[str, Any]:
    options = _json(call) if call.body else {}
    if not isinstance(options, dict):
        raise BadRequest("the body of a DELETE must be DeleteOptions")
    grace = options.get("gracePeriodSeconds", routes.number(call.query, "gracePeriodSeconds"))
    conditions = options.get("preconditions") or {}
    propagation = options.get("propagationPolicy") or call.query.get("propagationPolicy")
    if propagation not in (None, "", "Background", "Foreground", "Orphan"):
        raise BadRequest(f'propagationPolicy: Unsupported value: "{propagation}": supported values: '
                         '"Background", "Foreground", "Orphan"')  # fmt: skip
    return {
        "grace": grace,
        "propagation": propagation,
        "uid": conditions.get("uid"),
        "version": conditions.get("resourceVersion"),
        "dry_run": dry_run(call.query) or bool(options.get("dryRun")),
    }


def _json(call: Call) -> Any:
    return parse_json(call.body)


def parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def _object(call: Call, kind: Kind) -> Obj:
    if call.content_type not in ("", "application/json"):
        raise routes.unsupported_body(call.content_type)
    obj = _json(call)
    if not isinstance(obj, dict):
        raise BadRequest("the body must be a JSON object")
    obj.setdefault("kind", kind.kind)
    obj.setdefault("apiVersion", kind.api_version)
    if (obj["kind"], obj["apiVersion"]) != (kind.kind, kind.api_version):
        raise BadRequest(
            f"the API version in the data ({obj['apiVersion']}, Kind={obj['kind']}) does not match the "
            f"expected one ({kind.api_version}, Kind={kind.kind})"
        )
    return obj


def _named(obj: Obj, target: Target) -> Obj:
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object")
    for word, wanted in (("name", target.name), ("namespace", target.namespace)):
        given = metadata.setdefault(word, wanted) if wanted else None
        if given != (wanted or None):
            raise BadRequest(
                f"the {word} of the object ({given}) does not match the {word} on the URL ({wanted})"
            )
    return obj


def _warnings(kind: Kind) -> tuple[str, ...]:
    if kind.behaviour:
        return ()
    return (f"podwire stores {kind.plural} and shows them, but nothing in this lab acts on them",)


def _not_allowed(call: Call) -> MethodNotAllowed:
    return MethodNotAllowed(f"the server does not allow {call.method} on {call.path}")
