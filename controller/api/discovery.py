"""The discovery documents (/version, /api, /apis, ...), computed from the table of kinds."""

from __future__ import annotations

from typing import Any

from controller.api.kinds import GROUP_VERSIONS, KINDS, Kind

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_VERSION = {
    "major": "1", "minor": "33", "gitVersion": "v1.33.0+podwire", "gitCommit": "", "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
}  # fmt: skip
_SUBRESOURCE_VERBS = {
    "binding": ["create"],
    "finalize": ["update"],
    "proxy": ["create", "delete", "get", "patch", "update"],
    "token": ["create"],
}


def document(path: str) -> dict[str, Any] | str | None:
    """The answer to a path outside the collections: JSON, plain text, or None when there is none."""
    path = path.rstrip("/")
    if path in ("/healthz", "/livez", "/readyz"):
        return "ok"
    if path == "/version":
        return _VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        groups = [_group(group, version) for group, version in GROUP_VERSIONS if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for group, version in GROUP_VERSIONS:
        if path == (f"/apis/{group}/{version}" if group else f"/api/{version}"):
            return _resources(group, version)
        if group and path == f"/apis/{group}":
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
    return None


def _group(group: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resources(group: str, version: str) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in KINDS.values():
        if (kind.group, kind.version) == (group, version):
            resources += _entries(kind)
    group_version = f"{group}/{version}" if group else version
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
        if word == "proxy":
            entry["kind"] = f"{kind.kind}ProxyOptions"
        if word == "token":
            entry |= {"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"}
        entries.append(entry)
    return entries
