"""HTTP verbs on the registry: from (method, path, query, body) to (code, body, warnings).

No server library: the whole API but watches and settling can be called as a function. Reading paths
is ``routes``', the rules of writing are ``registry``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controller.api import discovery, eviction, older, openapi, reviews, routes, selectors, views
from controller.api.bodies import parse_body, parse_json
from controller.api.errors import BadRequest, Invalid, MethodNotAllowed
from controller.api.history import encode
from controller.api.kinds import Kind
from controller.api.objects import Obj
from controller.api.patch import APPLY
from controller.api.registry import Registry
from controller.api.routes import Target, dry_run
from controller.api.status import status_of, success
from controller.api.tokens import ADMIN, User

_ANSWERED_WITH_OBJECT = ("Pod", "Service", "ServiceAccount")
"""A DELETE of these answers the object, of all others a Status (typed clients insist)."""


@dataclass(frozen=True)
class Answer:
    """A whole response. ``body`` is encoded already; ``warnings`` become Warning headers."""

    code: int
    body: bytes
    content_type: str = "application/json"
    warnings: Sequence[str] = field(default=())
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as the server read it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: bytes = b""
    accept: str = ""
    agent: str = ""
    """The User-Agent; its first word is the field manager of whoever names none."""
    user: User = ADMIN

    @property
    def manager(self) -> str:
        """Who owns the fields this request sets; nobody when the lab itself writes."""
        agent = self.agent.partition("/")[0][:128]
        return self.query.get("fieldManager") or ("" if agent.startswith("podwire") else agent)

    @property
    def view(self) -> views.View:
        return views.asked(self.accept, self.query)


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
    asked = older.asked(call.method, call.path)
    if asked:
        version, path = asked
        body = older.as_served(version, call.body)
        found = answer(registry, replace(call, path=path, accept="", body=body))
        return replace(found, body=older.as_asked(version, found.body))
    if call.method == "GET":
        document = discovery.document(call.path, call.accept, verbose="verbose" in call.query)
        if document is not None:
            return Answer(200, *document)
        published = openapi.document(call.path)
        if published is not None:
            return Answer(200, *published, headers=openapi.HEADERS)
    if call.path in reviews.PATHS:
        if call.method != "POST":
            raise _not_allowed(call)
        review = parse_body(call.content_type, call.body)
        return Answer(201, encode(reviews.review(reviews.PATHS[call.path], review, call.user)))
    target = routes.parse_path(call.path)
    if target.subresource:
        return _on_subresource(registry, call, target)
    return _on_object(registry, call, target) if target.name else _on_collection(registry, call, target)


def _on_collection(registry: Registry, call: Call, target: Target) -> Answer:
    kind = target.kind
    if call.method == "GET":
        return Answer(200, views.list_body(registry.store, target, call.query, call.view))
    if call.method == "POST":
        told = Told(call)
        obj = _object(call, kind)
        if kind.kind == "HorizontalPodAutoscaler" and call.manager == older.AUTOSCALE:
            raise older.refused_autoscaler()
        made = registry.create(
            obj, namespace=target.namespace or None, dry_run=dry_run(call.query), unknown=told,
            manager=call.manager,
        )  # fmt: skip
        return Answer(201, _shown(registry, call, made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "DELETE":
        return Answer(200, encode(_delete_collection(registry, call, target)))
    raise _not_allowed(call)


def _on_object(registry: Registry, call: Call, target: Target) -> Answer:
    kind, at = target.kind, (target.kind.kind, target.namespace, target.name)
    if call.method == "GET":
        return Answer(200, _shown(registry, call, registry.get(*at)))
    if call.method == "PUT":
        obj, told = _named(_object(call, kind), target), Told(call)
        made = registry.update(obj, dry_run=dry_run(call.query), unknown=told, manager=call.manager)
        return Answer(200, _shown(registry, call, made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "PATCH" and call.content_type == APPLY:
        return _apply(registry, call, target)
    if call.method == "PATCH":
        patch, told = _json(call), Told(call)
        made = registry.patch(
            *at, patch, patch_type=call.content_type, dry_run=dry_run(call.query), unknown=told,
            manager=call.manager,
        )  # fmt: skip
        return Answer(200, _shown(registry, call, made), warnings=[*_warnings(kind), *told.warnings])
    if call.method == "DELETE":
        gone = registry.delete(*at, **_delete_options(call))
        if kind.kind not in _ANSWERED_WITH_OBJECT:
            gone = success(kind.kind, target.name, gone["metadata"]["uid"])
        return Answer(200, registry.store.body(gone))
    raise _not_allowed(call)


def _apply(registry: Registry, call: Call, target: Target) -> Answer:
    """Server-side apply; what is not there is created."""
    manager, told = call.query.get("fieldManager", ""), Told(call)
    if not manager:
        message = ('PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
                   "is required for apply patch")  # fmt: skip
        raise Invalid(message, status_of(422, "Invalid", message))
    if target.subresource not in ("", "status"):
        raise _not_allowed(call)
    obj = _named(_object(call, target.kind), target)
    made, created = registry.apply(
        obj,
        manager=manager,
        subresource=target.subresource,
        force=routes.flag(call.query, "force"),
        dry_run=dry_run(call.query),
        unknown=told,
    )
    warnings = [*_warnings(target.kind), *told.warnings]
    return Answer(201 if created else 200, _shown(registry, call, made), warnings=warnings)


def _evict(registry: Registry, call: Call, target: Target) -> Obj:
    """A DELETE that asks the budgets first."""
    asked = parse_body(call.content_type, call.body)
    if not isinstance(asked, dict) or asked.get("kind", "Eviction") != "Eviction":
        raise BadRequest("the body must be an Eviction")
    options = _options(asked.get("deleteOptions") or {}, call)
    with registry.store.lock:
        pod = registry.get("Pod", target.namespace, target.name)
        eviction.check(
            pod, registry.store.list("Pod", target.namespace),
            registry.store.list("PodDisruptionBudget", target.namespace),
        )  # fmt: skip
        registry.delete("Pod", target.namespace, target.name, **options)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _shown(registry: Registry, call: Call, obj: Obj) -> bytes:
    view = call.view
    return encode(views.one(view, obj)) if view.shape else registry.store.body(obj)


def _on_subresource(registry: Registry, call: Call, target: Target) -> Answer:
    kind, word = target.kind, target.subresource
    at = (kind.kind, target.namespace, target.name)
    dry = dry_run(call.query)
    if word == "binding":
        if call.method != "POST":
            raise _not_allowed(call)
        return Answer(201, encode(_bind(registry, target, _json(call))))
    if word == "eviction":
        if call.method != "POST":
            raise _not_allowed(call)
        return Answer(201, encode(_evict(registry, call, target)))
    if word in ("log", "proxy", "token"):  # the server's own: they need files, a network and a key
        raise _not_allowed(call)
    if call.method == "GET":
        return Answer(200, _shown(registry, call, registry.get(*at, subresource=word)))
    if call.method == "PATCH" and call.content_type == APPLY:
        return _apply(registry, call, target)
    if call.method == "PATCH":
        patched = registry.patch(
            *at, _json(call), patch_type=call.content_type, subresource=word, dry_run=dry,
            manager=call.manager,
        )  # fmt: skip
        return Answer(200, registry.store.body(patched))
    if call.method == "PUT":
        if word == "scale":
            scale = _json(call)
            if not isinstance(scale, dict):
                raise BadRequest("the body must be a Scale object")
            return Answer(200, encode(registry.scale(*at, scale, dry_run=dry, manager=call.manager)))
        obj = _named(_object(call, kind), target)
        return Answer(200, encode(registry.update(obj, subresource=word, dry_run=dry, manager=call.manager)))
    raise _not_allowed(call)


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
    return _options(parse_body(call.content_type, call.body) if call.body else {}, call)


def _options(options: Any, call: Call) -> dict[str, Any]:
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


def _object(call: Call, kind: Kind) -> Obj:
    obj = parse_body(call.content_type, call.body)
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
    if kind.kind == "IngressClass":
        return ()
    if kind.kind == "Ingress":
        return ("an Ingress needs an ingress controller, such as scenarios/manifests/ingress-nginx.yaml",)
    return (f"podwire stores {kind.plural} and shows them, but nothing in this lab acts on them",)


def _not_allowed(call: Call) -> MethodNotAllowed:
    return MethodNotAllowed(f"the server does not allow {call.method} on {call.path}")
