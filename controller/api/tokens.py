"""Bearer tokens of service accounts: who a pod is when it asks the API server. Pure.

A JWT (RFC 7519, HS256) with Kubernetes' claims, bound to a pod: it is worth nothing once that pod or
its service account is gone. What its bearer may do is ``access``'.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.api.errors import Unauthorized
from controller.api.objects import Obj
from controller.api.status import status_of

ISSUER = "https://kubernetes.default.svc.cluster.local"
LIFE = 365 * 24 * 3600
"""Seconds; a lab never lives that long, so nothing has to be renewed."""
Get = Callable[[str, str, str], Obj | None]
"""(kind, namespace, name) -> the object as it is stored now."""


@dataclass(frozen=True)
class User:
    """Who asks: a service account, or ``ADMIN``."""

    namespace: str
    account: str

    @property
    def name(self) -> str:
        if not self.namespace:
            return self.account
        return f"system:serviceaccount:{self.namespace}:{self.account}"


ADMIN = User("", "kubernetes-admin")
"""Whoever holds the token of the kubeconfig; may do everything."""
NOBODY = User("", "system:anonymous")


def named(name: str) -> User:
    """The user of a name, as ``kubectl --as`` gives one."""
    prefix, _, rest = name.rpartition("system:serviceaccount:")
    namespace, colon, account = rest.partition(":")
    return User(namespace, account) if colon and not prefix and namespace else User("", name)


def unauthorized() -> Unauthorized:
    return Unauthorized("Unauthorized", status_of(401, "Unauthorized", "Unauthorized"))


def issue(key: bytes, account: Obj, pod: Obj | None, now: float) -> str:
    """A token of a service account for a pod, or for nobody in particular (``kubectl create token``)."""
    metadata = account["metadata"]
    bound: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
    }
    if pod is not None:
        bound["pod"] = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    claims = {
        "aud": [ISSUER],
        "exp": int(now) + LIFE,
        "iat": int(now),
        "nbf": int(now),
        "iss": ISSUER,
        "kubernetes.io": bound,
        "sub": User(metadata["namespace"], metadata["name"]).name,
    }
    text = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{text}.{_signature(key, text)}"


def verify(key: bytes, token: str, get: Get, now: float) -> User:
    """Whose token it is; Unauthorized when it is not ours, too old, or what it is bound to is gone."""
    text, dot, signature = token.rpartition(".")
    if not dot or not hmac.compare_digest(_bytes(signature), _bytes(_signature(key, text))):
        raise unauthorized()
    claims = json.loads(_decode(text.partition(".")[2]))
    bound = claims["kubernetes.io"]
    namespace, account = bound["namespace"], bound["serviceaccount"]
    if now >= claims["exp"] or not _is(get("ServiceAccount", namespace, account["name"]), account):
        raise unauthorized()
    pod = bound.get("pod")
    if pod is not None and not _is(get("Pod", namespace, pod["name"]), pod):
        raise unauthorized()
    return User(namespace, account["name"])


def is_mounted(pod: Obj, account: Obj) -> bool:
    """automountServiceAccountToken: the pod's word counts before its account's."""
    wish = (pod.get("spec") or {}).get("automountServiceAccountToken")
    if wish is None:
        wish = account.get("automountServiceAccountToken")
    return wish is not False


def _is(found: Obj | None, wanted: Obj) -> bool:
    return found is not None and found["metadata"]["uid"] == wanted["uid"]


def _encode(value: Any) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _signature(key: bytes, text: str) -> str:
    return _base64(hmac.digest(key, _bytes(text), hashlib.sha256))


def _bytes(text: str) -> bytes:
    """A header may hold any bytes; what is not UTF-8 comes as surrogates."""
    return text.encode("utf-8", "surrogateescape")
