"""Questions about access: what ``kubectl auth can-i`` and ``auth whoami`` ask. Pure.

The answer is ``access``' table's. Nothing is stored.
"""

from __future__ import annotations

from typing import Any

from controller.api import access
from controller.api.errors import BadRequest, Forbidden
from controller.api.kinds import BY_PATH
from controller.api.objects import Obj
from controller.api.routes import Target
from controller.api.tokens import ADMIN, User

PATHS = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": "SelfSubjectRulesReview",
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": "SelfSubjectReview",
}
"""Path -> what is posted there. Only created, never read again."""


def review(kind: str, asked: Any, user: User) -> Obj:
    """The review with its status."""
    spec = asked.get("spec", {}) if isinstance(asked, dict) else None
    if not isinstance(spec, dict):
        raise BadRequest(f"the body must be a {kind}")
    version = "authentication.k8s.io/v1" if kind == "SelfSubjectReview" else "authorization.k8s.io/v1"
    answer = {"kind": kind, "apiVersion": version, "metadata": {}, "spec": spec}
    if kind == "SelfSubjectReview":
        groups = ["system:masters"] if user == ADMIN else ["system:serviceaccounts"]
        del answer["spec"]
        told = {"username": user.name, "groups": [*groups, "system:authenticated"]}
        return {**answer, "status": {"userInfo": told}}
    if kind == "SelfSubjectRulesReview":
        return {**answer, "status": _rules(user)}
    return {**answer, "status": _allowed(spec, user)}


def _rules(user: User) -> Obj:
    everything: Obj = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    rules = [
        {"apiGroups": [rule.group], "resources": [*rule.resources], "verbs": [*rule.verbs]}
        for rule in access.RULES
        if rule.account in ("", user.name)
    ]
    paths = ["*"] if user == ADMIN else [*access.EVERYBODY, *access.AUTHENTICATED]
    return {
        "resourceRules": [everything] if user == ADMIN else rules,
        "nonResourceRules": [{"nonResourceURLs": paths, "verbs": ["*"] if user == ADMIN else ["get"]}],
        "incomplete": False,
    }


def _allowed(spec: Obj, user: User) -> Obj:
    if user == ADMIN:
        return {"allowed": True, "reason": "the token of the kubeconfig may do everything"}
    asked, other = spec.get("resourceAttributes") or {}, spec.get("nonResourceAttributes") or {}
    if not isinstance(asked, dict) or not isinstance(other, dict):
        raise BadRequest("resourceAttributes and nonResourceAttributes must be objects")
    rows = [row for (group, _, plural), row in BY_PATH.items()
            if (group, plural) == (asked.get("group", ""), asked.get("resource"))]  # fmt: skip
    try:
        if not rows:
            path = other.get("path", "")
            return {"allowed": path in (*access.EVERYBODY, *access.AUTHENTICATED)}
        subresource = asked.get("subresource", "")
        target = Target(rows[0], asked.get("namespace", ""), asked.get("name", ""), subresource)
        access.check(user, asked.get("verb", ""), target)
    except Forbidden as error:
        return {"allowed": False, "reason": str(error)}
    return {"allowed": True}
