"""Who may do what over TLS: one fixed table. Pure.

A pod's token may read what service discovery needs, and nothing else; an ingress controller's may also say
what became of the Ingresses; the kubeconfig's token may do everything. The Unix socket is not asked; there
are no roles to bind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controller.api import routes
from controller.api.errors import ApiError, Forbidden, NotFound
from controller.api.routes import Target, flag
from controller.api.status import status_of
from controller.api.tokens import ADMIN, User


class Rule(NamedTuple):
    """One line of the table, as a rule of a ClusterRole."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    namespace: str = ""
    account: str = ""
    """Where it holds, and for whom: a service account's user name. "" is everywhere and everybody."""


_READ = ("get", "list", "watch")
DNS = User("kube-system", "coredns")
"""Who the cluster's DNS server is."""
INGRESS = User("ingress-nginx", "ingress-nginx")
"""Who the ingress controller is, by upstream's names. As there it writes status and events, nothing else
(``get`` of events is for counting those that come again)."""
RULES = (
    Rule("", ("services", "endpoints", "pods", "nodes", "namespaces"), _READ),
    Rule("discovery.k8s.io", ("endpointslices",), _READ),
    Rule("", ("configmaps",), _READ, namespace=DNS.namespace, account=DNS.name),
    Rule("networking.k8s.io", ("ingresses", "ingressclasses"), _READ, account=INGRESS.name),
    Rule("networking.k8s.io", ("ingresses/status",), ("patch", "update"), account=INGRESS.name),
    Rule("", ("events",), ("get", "create", "patch"), account=INGRESS.name),
)
"""What service accounts may do."""
PROGRESS = "/podwire/v1/progress"
EVERYBODY = ("/version", "/healthz", "/livez", "/readyz")
"""Paths that need no token."""
AUTHENTICATED = ("/api", "/api/v1", "/apis", "/apis/discovery.k8s.io", "/apis/discovery.k8s.io/v1")
"""Paths that any token opens: which resources there are."""
REVIEWS = (
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
)
"""Where anybody with a token may ask what they may do."""

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def is_public(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and (path.rstrip("/") or "/") in EVERYBODY


def authorize(user: User, method: str, path: str, query: Mapping[str, str]) -> None:
    """Return when the table allows it; raise Forbidden in Kubernetes' words when not."""
    if user == ADMIN or path in REVIEWS:
        return
    if method in ("GET", "HEAD") and path.rstrip("/") in AUTHENTICATED:
        return
    if method == "POST" and path == PROGRESS and user in (DNS, INGRESS):
        return
    try:
        target = routes.parse_path(path)
    except NotFound:
        verb = "get" if method in ("GET", "HEAD") else method.lower()
        raise _forbidden(f'forbidden: User "{user.name}" cannot {verb} path "{path}"') from None
    check(user, _verb(method, target, query), target)


def check(user: User, verb: str, target: Target) -> None:
    """The table itself."""
    if user == ADMIN:
        return
    resource = _resource(target)
    for rule in RULES:
        if (
            target.kind.group == rule.group
            and resource in rule.resources
            and verb in rule.verbs
            and rule.namespace in ("", target.namespace)
            and rule.account in ("", user.name)
        ):
            return
    raise _denied(user, verb, target)


def _resource(target: Target) -> str:
    """As a rule names it: ``ingresses``, ``ingresses/status``."""
    return f"{target.kind.plural}/{target.subresource}" if target.subresource else target.kind.plural


def _verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    if method in ("GET", "HEAD"):
        if flag(query, "watch"):
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE" and not target.name:
        return "deletecollection"
    return _VERBS.get(method, method.lower())


def _denied(user: User, verb: str, target: Target) -> ApiError:
    kind, resource = target.kind, _resource(target)
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    what = f'{kind.resource} "{target.name}"' if target.name else kind.resource
    return _forbidden(
        f'{what} is forbidden: User "{user.name}" cannot {verb} resource "{resource}" '
        f'in API group "{kind.group}" {where}',
        {"name": target.name, "group": kind.group, "kind": kind.plural},
    )


def _forbidden(message: str, details: Mapping[str, str] | None = None) -> ApiError:
    named = {word: text for word, text in (details or {}).items() if text}
    return Forbidden(message, status_of(403, "Forbidden", message, named))


def wrong_host(host: str) -> ApiError:
    return _forbidden(f'the Host header "{host}" does not name this API server')
