"""The discovery documents (/version, /api, /apis, ...), computed from the table of kinds."""

from __future__ import annotations

from functools import cache
from typing import Any

from controller.api import older
from controller.api.history import encode
from controller.api.kinds import GROUP_VERSIONS, KINDS, Kind

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_VERSION = {
    "major": "1", "minor": "33", "gitVersion": "v1.33.0+podwire", "gitCommit": "", "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
}  # fmt: skip
_SUBRESOURCE_VERBS = {
    "attach": ["create", "get"],
    "binding": ["create"],
    "eviction": ["create"],
    "exec": ["create", "get"],
    "finalize": ["update"],
    "log": ["get"],
    "portforward": ["create", "get"],
    "proxy": ["create", "delete", "get", "patch", "update"],
    "token": ["create"],
}


_OPTIONS = {"attach": "PodAttachOptions", "exec": "PodExecOptions", "portforward": "PodPortForwardOptions"}
_HEALTH = ("/healthz", "/livez", "/readyz")
_LISTED = [old for old in older.OLDER if old.listed]
_JSON = "application/json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
"""Asked for by kubectl when it meets an unknown kind: there are none here."""


def document(path: str, accept: str = "", *, verbose: bool = False) -> tuple[bytes, str] | None:
    """Body and content type for a path outside the collections, or None when it is none. ``verbose`` as
    ``/readyz?verbose`` asks: one who answers has its store open, and nothing else to check."""
    path = path.rstrip("/")
    if verbose and path in _HEALTH:
        return f"[+]ping ok\n{path[1:]} check passed\n".encode(), "text/plain"
    for version in ("v2", "v2beta1"):
        shape = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        if path in ("/api", "/apis") and shape in accept:
            return _aggregated(path == "/api", version), shape
    found = _document(path)
    if found is None:
        return None
    return (found.encode(), "text/plain") if isinstance(found, str) else (encode(found), _JSON)


@cache
def _aggregated(core: bool, version: str) -> bytes:
    """Aggregated discovery (KEP-3352): every group of one prefix with all its resources at once."""
    items = []
    for group in dict.fromkeys(group for group, _ in GROUP_VERSIONS if bool(group) is not core):
        versions = [
            {"version": number, "freshness": "Current", "resources": _discovered(group, number)}
            for name, number in GROUP_VERSIONS if name == group
        ]  # fmt: skip
        items.append({"metadata": {"name": group, "creationTimestamp": None}, "versions": versions})
    return encode({
        "kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {},
        "items": items,
    })  # fmt: skip


def _discovered(group: str, version: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for entry in _resources(group, version)["resources"]:
        answers = {"group": group, "version": version}
        answers |= {word: entry[word] for word in ("group", "version", "kind") if word in entry}
        name, _, subresource = entry["name"].partition("/")
        if subresource:
            told = {"subresource": subresource, "responseKind": answers, "verbs": entry["verbs"]}
            found[-1].setdefault("subresources", []).append(told)
            continue
        made = {
            "resource": name, "responseKind": answers, "verbs": entry["verbs"],
            "scope": "Namespaced" if entry["namespaced"] else "Cluster",
            "singularResource": entry["singularName"],
        }  # fmt: skip
        found.append(made | {word: entry[word] for word in ("shortNames", "categories") if word in entry})
    return found


def _document(path: str) -> dict[str, Any] | str | None:
    if path == CRDS:
        return {"kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": []}  # fmt: skip
    if path == "":
        named = [f"/apis/{group}/{version}" for group, version in GROUP_VERSIONS if group]
        named += [f"/apis/{old.api_version}" for old in _LISTED]
        return {"paths": ["/api", "/api/v1", "/apis", *named, "/healthz", "/livez", "/openapi/v2",
                          "/openapi/v3", "/readyz", "/version"]}  # fmt: skip
    if path in _HEALTH:
        return "ok"
    if path == "/version":
        return _VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        groups = [_group(group, version) for group, version in GROUP_VERSIONS if group]
        served = {group for group, _ in GROUP_VERSIONS}
        groups += [_group(old.group, old.version) for old in _LISTED if old.group not in served]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for group, version in GROUP_VERSIONS:
        if path == (f"/apis/{group}/{version}" if group else f"/api/{version}"):
            return _resources(group, version)
        if group and path == f"/apis/{group}":
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
    for old in _LISTED:
        if path == f"/apis/{old.api_version}":
            return _listed(old.api_version, _entries(old.kind))
    return None


def _group(group: str, version: str) -> dict[str, Any]:
    versions = [version, *(old.version for old in _LISTED if old.group == group and old.version != version)]
    entries = [{"groupVersion": f"{group}/{one}", "version": one} for one in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def _resources(group: str, version: str) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in KINDS.values():
        if (kind.group, kind.version) == (group, version):
            resources += _entries(kind)
    return _listed(f"{group}/{version}" if group else version, resources)


def _listed(group_version: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }


def _entries(kind: Kind) -> list[dict[str, Any]]:
    main: dict[str, Any] = {
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": _VERBS,
    }  # fmt: skip
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    entries = [main]
    for word in kind.subresources:
        entry: dict[str, Any] = {
            "name": f"{kind.plural}/{word}", "singularName": "", "namespaced": kind.namespaced,
            "kind": kind.kind, "verbs": _SUBRESOURCE_VERBS.get(word, ["get", "patch", "update"]),
        }  # fmt: skip
        if word == "scale":
            entry |= {"kind": "Scale", "group": "autoscaling", "version": "v1"}
        if word == "binding":
            entry["kind"] = "Binding"
        if word == "eviction":
            entry |= {"kind": "Eviction", "group": "policy", "version": "v1"}
        if word in _OPTIONS:
            entry["kind"] = _OPTIONS[word]
        if word == "proxy":
            entry["kind"] = f"{kind.kind}ProxyOptions"
        if word == "token":
            entry |= {"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"}
        entries.append(entry)
    return entries
