"""Who asks and what they may do: tokens, the table of access, the lab's own certificates."""

from __future__ import annotations

import base64
import json
import ssl
import stat
from pathlib import Path

import pytest

from controller.api import access, tokens
from controller.api.errors import Forbidden, Unauthorized
from controller.api.objects import Obj
from controller.api.pki import prepare

KEY = b"k" * 32
NOW = 1_800_000_000.0
USER = tokens.User("default", "default")


def account(uid: str = "account-1") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "default", "uid": uid},
    }


def pod(uid: str = "pod-1", **spec: object) -> Obj:
    metadata = {"name": "web", "namespace": "default", "uid": uid}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def stored(*objs: Obj) -> tokens.Get:
    held = {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in objs}
    return lambda *at: held.get(at)


def test_a_token_names_its_service_account() -> None:
    token = tokens.issue(KEY, account(), pod(), NOW)
    assert tokens.verify(KEY, token, stored(account(), pod()), NOW) == USER
    assert USER.name == "system:serviceaccount:default:default"


def test_a_token_is_worth_nothing_without_its_pod_its_account_its_key_or_in_a_year() -> None:
    token = tokens.issue(KEY, account(), pod(), NOW)
    everything = stored(account(), pod())
    for key, held, now in (
        (KEY, stored(account()), NOW),
        (KEY, stored(account(), pod("pod-2")), NOW),
        (KEY, stored(account("account-2"), pod()), NOW),
        (b"x" * 32, everything, NOW),
        (KEY, everything, NOW + tokens.LIFE),
    ):
        with pytest.raises(Unauthorized):
            tokens.verify(key, token, held, now)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "ü.ü.ü", "\udcff.\udcff.\udcff", "x" * 5000])
def test_what_is_no_token_of_ours_is_nobodys(token: str) -> None:
    with pytest.raises(Unauthorized):
        tokens.verify(KEY, token, stored(), NOW)


def test_claims_that_were_changed_are_noticed() -> None:
    head, claims, signature = tokens.issue(KEY, account(), None, NOW).split(".")
    read = json.loads(base64.urlsafe_b64decode(claims + "=="))
    read["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    changed = base64.urlsafe_b64encode(json.dumps(read).encode()).decode().rstrip("=")
    with pytest.raises(Unauthorized):
        tokens.verify(KEY, f"{head}.{changed}.{signature}", stored(account()), NOW)


def test_the_pods_word_on_mounting_counts_before_its_accounts() -> None:
    unwilling = {**account(), "automountServiceAccountToken": False}
    assert tokens.is_mounted(pod(), account())
    assert not tokens.is_mounted(pod(), unwilling)
    assert tokens.is_mounted(pod(automountServiceAccountToken=True), unwilling)
    assert not tokens.is_mounted(pod(automountServiceAccountToken=False), account())


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/v1/services", {}),
        ("/api/v1/namespaces/default/endpoints/web", {}),
        ("/api/v1/pods", {"watch": "true"}),
        ("/api/v1/nodes/node1", {}),
        ("/api/v1/namespaces", {}),
        ("/apis/discovery.k8s.io/v1/endpointslices", {"watch": "1"}),
        ("/apis/discovery.k8s.io/v1", {}),
    ],
)
def test_a_service_account_may_read_what_discovery_needs(path: str, query: dict[str, str]) -> None:
    access.authorize(USER, "GET", path, query)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        (
            "DELETE",
            "/api/v1/namespaces/default/pods/web",
            'pods "web" is forbidden: User "system:serviceaccount:default:default" cannot delete resource '
            '"pods" in API group "" in the namespace "default"',
        ),
        (
            "GET",
            "/apis/apps/v1/deployments",
            'deployments.apps is forbidden: User "system:serviceaccount:default:default" cannot list '
            'resource "deployments" in API group "apps" at the cluster scope',
        ),
        (
            "PATCH",
            "/api/v1/nodes/node1/status",
            'nodes "node1" is forbidden: User "system:serviceaccount:default:default" cannot patch resource '
            '"nodes/status" in API group "" at the cluster scope',
        ),
        (
            "POST",
            "/podwire/v1/progress",
            'forbidden: User "system:serviceaccount:default:default" cannot post path "/podwire/v1/progress"',
        ),
    ],
)
def test_for_more_it_is_refused_in_kubernetes_words(method: str, path: str, message: str) -> None:
    with pytest.raises(Forbidden) as caught:
        access.authorize(USER, method, path, {})
    assert str(caught.value) == message
    assert caught.value.status["code"] == 403


def test_the_whole_collection_may_not_be_deleted_and_nothing_be_made() -> None:
    for method, path in (("DELETE", "/api/v1/namespaces/default/pods"), ("POST", "/api/v1/namespaces")):
        with pytest.raises(Forbidden):
            access.authorize(USER, method, path, {})


def test_health_and_version_are_everybodys_to_read() -> None:
    assert all(access.is_public("GET", path) for path in ("/version", "/healthz", "/livez", "/readyz"))
    assert not access.is_public("POST", "/version")
    assert not any(access.is_public("GET", path) for path in ("/", "/api", "/healthz/../api/v1/pods"))


def test_the_authority_stays_when_the_certificate_is_made_again_and_keys_are_private(tmp_path: Path) -> None:
    first = prepare(tmp_path / "pki", ["192.168.49.2"])
    before = first.certificate.read_bytes()
    second = prepare(tmp_path / "pki", ["192.168.49.30"])
    assert (first.ca, first.token_key) == (second.ca, second.token_key)
    assert second.certificate.read_bytes() != before
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pki").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(second.certificate, second.key)
