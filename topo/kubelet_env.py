"""A container's environment: its own variables, Service variables, $(VAR) expansion. Pure.

Where a value comes from another object, ``lookup`` fetches it (an argument, so that this stays pure).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.api.objects import Obj

Lookup = Callable[[str, str, str], Mapping[str, str] | None]
"""(kind, namespace, name) → the data of a ConfigMap or Secret as text; None when there is none."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_FIELD_WITH_KEY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The environment cannot be made: the container waits in ``state``, an event says why."""

    state, reason, prefix = "CreateContainerConfigError", "Failed", "Error: "


def expand(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' $(VAR); ``$$(VAR)`` escapes, an unknown variable stays as it is written."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return "$"
        return env.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replace, text)


def service_variables(services: Iterable[Obj]) -> dict[str, str]:
    """Kubernetes' and Docker-link variables of Services that have a cluster IP."""
    env: dict[str, str] = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or []
        if not address or address == "None" or not ports:
            continue
        name = _upper(service["metadata"]["name"])
        first = ports[0]
        env[f"{name}_SERVICE_HOST"] = address
        env[f"{name}_SERVICE_PORT"] = str(first["port"])
        for port in ports:
            if port.get("name"):
                env[f"{name}_SERVICE_PORT_{_upper(port['name'])}"] = str(port["port"])
        env[f"{name}_PORT"] = _url(address, first)
        for port in ports:
            protocol = port.get("protocol") or "TCP"
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            env[prefix] = _url(address, port)
            env[f"{prefix}_PROTO"] = protocol.lower()
            env[f"{prefix}_PORT"] = str(port["port"])
            env[f"{prefix}_ADDR"] = address
    return env


def _upper(name: str) -> str:
    return name.upper().replace("-", "_")


def _url(address: str, port: Obj) -> str:
    return f"{(port.get('protocol') or 'TCP').lower()}://{address}:{port['port']}"


def seen_by(pod: Obj, services: Iterable[Obj]) -> list[Obj]:
    """The Services whose variables a pod gets: its namespace's, and the cluster's own ``kubernetes``."""
    namespace = pod["metadata"]["namespace"]
    links = pod["spec"].get("enableServiceLinks", True)
    found = {}
    for service in services:
        where, name = service["metadata"]["namespace"], service["metadata"]["name"]
        master = where == "default" and name == "kubernetes"
        if master or (links and where == namespace):
            found[name, not master] = service
    # a Service of the pod's own namespace wins over default/kubernetes
    return [service for _, service in sorted(found.items(), key=lambda item: item[0][1])]


def environment(
    pod: Obj, container: Obj, services: Iterable[Obj], *, fields: Mapping[str, str], lookup: Lookup
) -> dict[str, str]:
    """All variables of a container. ``fields`` are the values of ``status.*`` field references."""
    namespace = pod["metadata"]["namespace"]
    linked = service_variables(seen_by(pod, services))
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix") or ""
        for word, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if word in source:
                data = _data(kind, namespace, source[word], lookup)
                env |= {prefix + name: value for name, value in (data or {}).items()}
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            value = _from(pod, container, entry["valueFrom"], fields, lookup)
            if value is not None:
                env[entry["name"]] = value
        else:
            env[entry["name"]] = expand(entry.get("value") or "", {**linked, **env})
    return {**linked, **env}


def _from(
    pod: Obj, container: Obj, source: Mapping[str, Any], fields: Mapping[str, str], lookup: Lookup
) -> str | None:
    namespace = pod["metadata"]["namespace"]
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"], fields)
    if "resourceFieldRef" in source:
        resource = source["resourceFieldRef"]["resource"]
        where, _, what = resource.partition(".")
        return str(((container.get("resources") or {}).get(where) or {}).get(what, "0"))
    for word, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if word in source:
            reference = source[word]
            data = _data(kind, namespace, reference, lookup)
            if data is not None and reference["key"] in data:
                return data[reference["key"]]
            if reference.get("optional"):
                return None
            raise ConfigError(
                f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}"
            )
    return None


def _data(
    kind: str, namespace: str, reference: Mapping[str, Any], lookup: Lookup
) -> Mapping[str, str] | None:
    name = reference.get("name", "")
    data = lookup(kind, namespace, name)
    if data is None and not reference.get("optional"):
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    return data


def references(container: Obj) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap and Secret a container's environment is made from."""
    found = set()
    sources = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
    for source in [*sources, *(container.get("envFrom") or [])]:
        for word, reference in source.items():
            for prefix, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if word.startswith(prefix) and word.endswith("Ref"):
                    found.add((kind, reference.get("name", "")))
    return found


def field_value(pod: Obj, path: str, fields: Mapping[str, str]) -> str:
    """The value of a downward API field path."""
    if path in fields:
        return fields[path]
    metadata = pod["metadata"]
    keyed = _FIELD_WITH_KEY.fullmatch(path)
    if keyed:
        return str((metadata.get(keyed.group(1)) or {}).get(keyed.group(2), ""))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName") or "default",
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(simple[path])
