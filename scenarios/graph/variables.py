"""What a container is told: its variables, its arguments, its mounted files, with where each comes from.

Pure. Like ``topo.kubelet_env``, but lenient: a ConfigMap that is not there is told of and left out, and a
Service's variables lead to its name, since a manifest has no addresses yet.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.objects import Obj
from topo.kubelet_env import ConfigError, expand, field_value, seen_by, service_variables

_KINDS = (("configMap", "ConfigMap"), ("secret", "Secret"))
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})


@dataclass(frozen=True, kw_only=True)
class Told:
    """One text that a container gets. ``text``: it is a script or a file, in which only what is an
    address for sure counts."""

    name: str
    value: str
    origin: str = ""
    text: bool = False


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A ConfigMap or Secret (or a key of one) that a container needs and nobody has."""

    what: str


def data_of(objects: Iterable[Obj]) -> dict[tuple[str, str, str], Mapping[str, str]]:
    """(kind, namespace, name) → the data of every ConfigMap and Secret, as text."""
    return {
        (obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): _data(obj)
        for obj in objects
        if obj["kind"] in ("ConfigMap", "Secret")
    }


def _data(obj: Obj) -> Mapping[str, str]:
    data = {name: str(value) for name, value in (obj.get("data") or {}).items()}
    if obj["kind"] == "Secret":
        data = {name: _decoded(value) for name, value in data.items()}
    return {**data, **(obj.get("stringData") or {})}


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""


def by_name(services: Iterable[Obj]) -> list[Obj]:
    """Services whose variables hold their names instead of addresses: ``$(CART_SERVICE_HOST)`` is cart."""
    made = []
    for service in services:
        spec, metadata = service["spec"], service["metadata"]
        if spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
            name = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
            made.append({**service, "spec": {**spec, "clusterIP": name}})
    return made


class Teller:
    """Reads containers against the objects around them."""

    def __init__(self, objects: Iterable[Obj]) -> None:
        known = list(objects)
        self._data = data_of(known)
        self._services = by_name(obj for obj in known if obj["kind"] == "Service")

    def told(self, pod: Obj, container: Obj) -> Iterator[Told | Missing]:
        """Everything in the order of the manifest; ``pod`` is a template with a namespace."""
        env = service_variables(seen_by(pod, self._services))
        own: dict[str, Told] = {}
        for source in container.get("envFrom") or ():
            for kind, reference in _references(source):
                data = self._find(pod, kind, reference)
                if isinstance(data, Missing):
                    yield data
                for name, value in ({} if isinstance(data, Missing) else data).items():
                    told = Told(
                        name=f"{source.get('prefix') or ''}{name}",
                        value=value,
                        origin=f"{kind} {reference.get('name')}",
                    )
                    own[told.name], env[told.name] = told, value
        for entry in container.get("env") or ():
            found = self._entry(pod, container, entry, env)
            if isinstance(found, Missing):
                yield found
            else:
                own[found.name], env[found.name] = found, found.value
        yield from own.values()
        yield from _arguments(container, env)
        yield from self._files(pod, container)

    def _entry(self, pod: Obj, container: Obj, entry: Obj, env: Mapping[str, str]) -> Told | Missing:
        source = entry.get("valueFrom")
        if not source:
            return Told(name=entry["name"], value=expand(entry.get("value") or "", env))
        if "fieldRef" in source:
            return Told(name=entry["name"], value=_field(pod, source["fieldRef"].get("fieldPath", "")))
        for kind, reference in _references(source):
            data = self._find(pod, kind, reference)
            if isinstance(data, Missing):
                return data
            key = reference.get("key", "")
            if key not in data and not reference.get("optional"):
                return Missing(what=f"key {key} of {kind} {reference.get('name')}")
            return Told(name=entry["name"], value=data.get(key, ""), origin=f"{kind} {reference.get('name')}")
        return Told(name=entry["name"], value="")

    def _find(self, pod: Obj, kind: str, reference: Mapping[str, Any]) -> Mapping[str, str] | Missing:
        found = self._data.get((kind, pod["metadata"]["namespace"], reference.get("name", "")))
        if found is None:
            return {} if reference.get("optional") else Missing(what=f"{kind} {reference.get('name')}")
        return found

    def _files(self, pod: Obj, container: Obj) -> Iterator[Told]:
        """The files of mounted ConfigMaps: an nginx.conf has addresses too."""
        mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
        for volume in pod["spec"].get("volumes") or ():
            if volume["name"] not in mounted or "configMap" not in volume:
                continue
            name = volume["configMap"].get("name", "")
            data = self._data.get(("ConfigMap", pod["metadata"]["namespace"], name)) or {}
            wanted = [item["key"] for item in volume["configMap"].get("items") or ()] or sorted(data)
            for key in wanted:
                yield Told(name=key, value=data.get(key, ""), origin=f"ConfigMap {name}", text=True)


def _references(source: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for word, reference in source.items():
        for prefix, kind in _KINDS:
            if word in (f"{prefix}Ref", f"{prefix}KeyRef"):
                yield kind, reference


def _field(pod: Obj, path: str) -> str:
    if path.startswith("status."):
        return ""
    try:
        return field_value(pod, path, {})
    except (ConfigError, KeyError):
        return ""


def _arguments(container: Obj, env: Mapping[str, str]) -> Iterator[Told]:
    """``--flag=value``, ``--flag value``, plain words; the script of ``sh -c`` is a text."""
    shell = False
    for word in ("command", "args"):
        words = [expand(part, env) for part in container.get(word) or ()]
        shell = shell or (bool(words) and word == "command" and words[0].rpartition("/")[2] in _SHELLS)
        flag = ""
        for part in words:
            name, equals, value = part.partition("=")
            if name.startswith("-") and equals:
                yield Told(name=name, value=value, origin=word)
                flag = ""
            elif part.startswith("-"):
                flag = part
            else:
                script = shell and (" " in part or "\n" in part)
                yield Told(name="" if script else flag, value=part, origin=word, text=script)
                flag = ""
