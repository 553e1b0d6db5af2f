"""What an Ingress may look like, in Kubernetes' words, and what an ingress controller may do."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api import access
from controller.api.errors import Forbidden
from controller.api.reviews import review
from controller.api.status import FieldError
from controller.api.tokens import User
from controller.api.validate import problems

Obj = dict[str, Any]
SOMEBODY = User("default", "default")
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/default/ingresses"
EVENTS = "/api/v1/namespaces/default/events"
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}


def ingress(path: Obj | None = None, *, host: str = "a.com", **spec: Any) -> Obj:
    one = {"path": "/", "pathType": "Prefix", "backend": BACKEND} | (path or {})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"rules": [{"host": host, "http": {"paths": [one]}}], **spec},
    }


def klass(controller: str = "k8s.io/ingress-nginx") -> Obj:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "nginx"},
        "spec": {"controller": controller},
    }


def said(obj: Obj, old: Obj | None = None) -> list[str]:
    def words(error: FieldError) -> str:
        return f"{error.field}: {error.type}: {error.detail}".split(" (e.g.")[0]

    return [words(error) for error in problems(obj, old)]


PATH = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (ingress(), []),
        (ingress(host="*.a.com"), []),
        (ingress({"pathType": "ImplementationSpecific", "path": ""}), []),
        (ingress({"pathType": None}), [f"{PATH}.pathType: Required value: pathType must be specified"]),
        (ingress({"path": "foo"}), [f"{PATH}.path: Invalid value: must be an absolute path"]),
        (ingress({"path": ""}), [f"{PATH}.path: Invalid value: must be an absolute path"]),
        (ingress({"path": "/a//b"}), [f"{PATH}.path: Invalid value: must not contain '//'"]),
        (ingress({"path": "/a%2fb"}), [f"{PATH}.path: Invalid value: must not contain '%2f'"]),
        (ingress({"path": "/a/.."}), [f"{PATH}.path: Invalid value: cannot end with '/..'"]),
        (
            ingress({"pathType": "ImplementationSpecific", "path": "~ ^/x"}),
            [f"{PATH}.path: Invalid value: must be an absolute path"],
        ),
        (
            ingress(host="10.0.0.1"),
            ["spec.rules[0].host: Invalid value: must be a DNS name, not an IP address"],
        ),
        (
            ingress(host="a.*.com"),
            [
                "spec.rules[0].host: Invalid value: a wildcard DNS-1123 subdomain must start with '*.', "
                "followed by a valid DNS subdomain, which must consist of lower case alphanumeric "
                "characters, '-' or '.' and end with an alphanumeric character"
            ],
        ),
        (
            ingress(rules=None),
            ["spec: Invalid value: either `defaultBackend` or `rules` must be specified"],
        ),
        (ingress(rules=None, defaultBackend=BACKEND), []),
        (
            ingress(defaultBackend={}),
            ["spec.defaultBackend: Invalid value: resource or service backend is required"],
        ),
        (
            ingress({"backend": {"service": {"name": "web"}}}),
            [f"{PATH}.backend: Required value: port name or number is required"],
        ),
        (
            ingress({"backend": {"service": {"name": "web", "port": {"name": "http", "number": 80}}}}),
            [f"{PATH}.backend: Invalid value: cannot set both port name & port number"],
        ),
        (
            ingress({"backend": BACKEND | {"resource": {"kind": "Bucket", "name": "b"}}}),
            [f"{PATH}.backend: Invalid value: cannot set both resource and service backends"],
        ),
        (ingress(rules=[{"http": {"paths": []}}]), ["spec.rules[0].http.paths: Required value: "]),
        (klass(), []),
        (klass(""), ["spec.controller: Required value: "]),
        (
            klass("nginx"),
            ['spec.controller: Invalid value: must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
    ],
)
def test_an_ingress_is_told_what_is_wrong_with_it(obj: Obj, expected: list[str]) -> None:
    assert said(obj) == expected


def test_a_host_with_a_newline_or_quotes_is_refused() -> None:
    for host in ("a.com\n", 'a";', "a com", "A.com"):
        assert said(ingress(host=host)), host


def test_an_unknown_path_type_is_told_which_there_are() -> None:
    (error,) = problems(ingress({"pathType": "Regex"}))
    assert (error.field, error.type) == (f"{PATH}.pathType", "Unsupported value")
    assert "ImplementationSpecific" in error.detail


def test_the_annotation_and_the_field_exclude_each_other_when_an_ingress_is_made() -> None:
    made = ingress(ingressClassName="nginx")
    made["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "nginx"}
    assert len(said(made)) == 1
    assert said(made, made) == []


def test_a_class_keeps_its_controller() -> None:
    assert said(klass("a.io/b"), klass()) == ["spec.controller: Invalid value: field is immutable"]


MAY = [
    ("GET", "/apis/networking.k8s.io/v1/ingresses", {"watch": "true"}),
    ("GET", "/apis/networking.k8s.io/v1/ingressclasses", {}),
    ("PATCH", f"{INGRESSES}/web/status", {}),
    ("POST", EVENTS, {}),
    ("POST", "/podwire/v1/progress", {}),
]
MAY_NOT = [
    ("PATCH", f"{INGRESSES}/web", {}),
    ("DELETE", f"{INGRESSES}/web", {}),
    ("POST", INGRESSES, {}),
    ("PATCH", "/api/v1/namespaces/default/services/web/status", {}),
    ("GET", "/api/v1/secrets", {}),
    ("DELETE", f"{EVENTS}/x", {}),
    ("GET", EVENTS, {}),
]


@pytest.mark.parametrize(("method", "path", "query"), MAY)
def test_the_ingress_controller_reads_ingresses_and_writes_their_status_and_nobody_else_does(
    method: str, path: str, query: dict[str, str]
) -> None:
    access.authorize(access.INGRESS, method, path, query)
    with pytest.raises(Forbidden):
        access.authorize(SOMEBODY, method, path, query)


@pytest.mark.parametrize(("method", "path", "query"), MAY_NOT)
def test_more_it_may_not(method: str, path: str, query: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        access.authorize(access.INGRESS, method, path, query)


def test_what_only_one_account_may_do_is_not_told_to_others_as_theirs() -> None:
    def resources(user: User) -> set[str]:
        asked = {"kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}
        rules = review("SelfSubjectRulesReview", asked, user)["status"]["resourceRules"]
        return {resource for rule in rules for resource in rule["resources"]}

    assert "ingresses/status" in resources(access.INGRESS)
    assert not {"ingresses/status", "configmaps"} & resources(SOMEBODY)
