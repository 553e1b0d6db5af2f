"""Kubernetes' rules about Ingresses and IngressClasses, in Kubernetes' words. Pure.

Whether a Service is there, and which Ingress wins, is for an ingress controller to find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from controller.api import rules_metadata as rules
from controller.api.objects import Obj
from controller.api.status import INVALID, REQUIRED, TOO_LONG, FieldError

TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_CLASS = "kubernetes.io/ingress.class"
_SEQUENCES, _ENDS = ("//", "/./", "/../", "%2f", "%2F"), ("/..", "/.")
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_WILDCARD = rf"\*\.{_LABEL}(\.{_LABEL})*"
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must "
    "consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character "
    rf"(e.g. '*.example.com', regex used for validation is '{_WILDCARD}')"
)
_DOMAIN_PATH = re.compile(rf"{_LABEL}(\.{_LABEL})*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_CONTROLLER_LIMIT = 250


def ingress(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS)
    chosen = spec.get("ingressClassName")
    if annotated is not None and chosen is not None and old is None:
        text = "can not be set when the class field is also set"
        yield FieldError(f"metadata.annotations.{_CLASS}", INVALID, text, annotated)
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        text = "either `defaultBackend` or `rules` must be specified"
        yield FieldError("spec", INVALID, text, spec.get("rules") or [])
    for index, tls in enumerate(spec.get("tls") or ()):
        for place, host in enumerate(tls.get("hosts") or ()):
            yield from rules.is_valid(f"spec.tls[{index}].hosts[{place}]", host, _name)
        if tls.get("secretName"):
            yield from rules.is_valid(f"spec.tls[{index}].secretName", tls["secretName"], rules.dns_subdomain)
    for index, rule in enumerate(spec.get("rules") or ()):
        yield from _rule(f"spec.rules[{index}]", rule)
    if spec.get("defaultBackend") is not None:
        yield from _backend("spec.defaultBackend", spec["defaultBackend"])
    if chosen is not None:
        yield from rules.is_valid("spec.ingressClassName", chosen, rules.dns_subdomain)


def _rule(field: str, rule: Mapping[str, Any]) -> Iterator[FieldError]:
    if rule.get("host"):
        yield from rules.is_valid(f"{field}.host", rule["host"], _host)
    if rule.get("http") is None:
        return
    paths: Sequence[Mapping[str, Any]] = rule["http"].get("paths") or ()
    if not paths:
        yield FieldError(f"{field}.http.paths", REQUIRED)
    for index, path in enumerate(paths):
        yield from _path(f"{field}.http.paths[{index}]", path)


def _path(field: str, item: Mapping[str, Any]) -> Iterator[FieldError]:
    kind, path = item.get("pathType"), item.get("path") or ""
    if kind is None:
        yield FieldError(f"{field}.pathType", REQUIRED, "pathType must be specified")
    elif kind in ("Exact", "Prefix"):
        if not path.startswith("/"):
            yield FieldError(f"{field}.path", INVALID, "must be an absolute path", path)
        elif path:
            for bad in _SEQUENCES:
                if bad in path:
                    yield FieldError(f"{field}.path", INVALID, f"must not contain '{bad}'", path)
            for bad in _ENDS:
                if path.endswith(bad):
                    yield FieldError(f"{field}.path", INVALID, f"cannot end with '{bad}'", path)
    elif kind == "ImplementationSpecific":
        if path and not path.startswith("/"):
            yield FieldError(f"{field}.path", INVALID, "must be an absolute path", path)
    else:
        yield from rules.one_of(f"{field}.pathType", kind, TYPES)
    if item.get("backend") is not None:
        yield from _backend(f"{field}.backend", item["backend"])


def _backend(field: str, backend: Mapping[str, Any]) -> Iterator[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield FieldError(field, INVALID, "cannot set both resource and service backends", "")
    elif service is not None:
        if not service.get("name"):
            yield FieldError(f"{field}.service.name", REQUIRED)
        else:
            yield from rules.is_valid(f"{field}.service.name", service["name"], rules.dns_label_1035)
        port = service.get("port") or {}
        if port.get("name") and port.get("number"):
            yield FieldError(field, INVALID, "cannot set both port name & port number", "")
        elif port.get("name"):
            yield from rules.is_valid(f"{field}.service.port.name", port["name"], rules.port_name)
        elif port.get("number"):
            yield from rules.is_valid(f"{field}.service.port.number", port["number"], rules.port_number)
        else:
            yield FieldError(field, REQUIRED, "port name or number is required")
    elif resource is not None:
        for word in ("kind", "name"):
            if not resource.get(word):
                yield FieldError(f"{field}.resource.{word}", REQUIRED)
    else:
        yield FieldError(field, INVALID, "resource or service backend is required", "")


def _host(text: str) -> list[str]:
    try:
        ip_address(text)
    except ValueError:
        return _name(text)
    return ["must be a DNS name, not an IP address"]


def _name(text: str) -> list[str]:
    if "*" not in text:
        return rules.dns_subdomain(text)
    return [] if re.fullmatch(_WILDCARD, text) and len(text) <= 253 else [_WILDCARD_TEXT]


def ingress_class(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    controller = (obj.get("spec") or {}).get("controller") or ""
    if old is not None:
        if controller != ((old.get("spec") or {}).get("controller") or ""):
            yield FieldError("spec.controller", INVALID, "field is immutable", controller)
    elif not controller:
        yield FieldError("spec.controller", REQUIRED)
    elif len(controller) > _CONTROLLER_LIMIT:
        yield FieldError("spec.controller", TOO_LONG, f"may not be more than {_CONTROLLER_LIMIT} bytes")
    elif not _DOMAIN_PATH.fullmatch(controller):
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield FieldError("spec.controller", INVALID, text, controller)
