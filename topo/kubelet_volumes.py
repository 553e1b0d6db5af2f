"""A pod's volumes: which files each holds, what outlives the pod, where each is mounted. Pure.

How they are made and mounted is ``runtime_volumes``; how an object is fetched is the caller's ``lookup``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from controller.api.objects import Obj
from topo.images.image import Mount, Volume
from topo.kubelet_env import ConfigError, Lookup, expand, field_value

DEFAULT_SIZE = 64 << 20
MAX_SIZE = 512 << 20
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9}
_MACHINE = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/busybox", "/etc/ssl")
_KERNEL = ("/proc", "/sys")
_ROOT_CA = "kube-root-ca.crt"


class MountError(ConfigError):
    """A volume cannot be made yet."""

    state, reason, prefix = "ContainerCreating", "FailedMount", ""


def references(pod: Obj) -> set[tuple[str, str]]:
    """(kind, name) of every ConfigMap and Secret that the pod's volumes show."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"].get("name", "")))
            if "secret" in source:
                found.add(("Secret", _secret_name(source["secret"])))
    return found


def volumes_of(
    pod: Obj, *, fields: Mapping[str, str], credentials: Mapping[str, str], lookup: Lookup
) -> tuple[Volume, ...]:
    """All of them; MountError while a ConfigMap or Secret is not there that is not optional."""
    metadata = pod["metadata"]
    made = []
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"].get("claimName", "")
            shared = f"claim_{metadata['namespace']}_{quote(claim, safe='')}"
            made.append(Volume(name=name, shared=shared, size=DEFAULT_SIZE))
            continue
        projected = volume.get("projected")
        sources = (projected.get("sources") or ()) if projected is not None else (volume,)
        if projected is None and not {"configMap", "secret", "downwardAPI"} & set(volume):
            shared = f"pod_{quote(metadata.get('uid') or metadata['name'], safe='')}_{name}"
            made.append(Volume(name=name, shared=shared, size=_limit(volume)))
            continue
        word = next(w for w in ("projected", "configMap", "secret", "downwardAPI") if w in volume)
        default = volume[word].get("defaultMode", 0o644)
        files: dict[str, str] = {}
        modes: dict[str, int] = {}
        for source in sources:
            for path, text, mode in _files(pod, name, source, fields, credentials, lookup):
                files[path], modes[path] = text, default if mode is None else mode
        made.append(Volume(name=name, files=files, modes=modes))
    return tuple(made)


def _limit(volume: Obj) -> int:
    text = str((volume.get("emptyDir") or {}).get("sizeLimit") or "")
    number = text.rstrip("KMGTikm")
    try:
        size = int(float(number) * _UNITS.get(text[len(number) :], 1)) if text else DEFAULT_SIZE
    except ValueError:
        size = DEFAULT_SIZE
    return max(4096, min(size, MAX_SIZE))


def _secret_name(source: Obj) -> str:
    return str(source.get("secretName") or source.get("name") or "")


def _files(
    pod: Obj,
    volume: str,
    source: Obj,
    fields: Mapping[str, str],
    credentials: Mapping[str, str],
    lookup: Lookup,
) -> Iterator[tuple[str, str, int | None]]:
    namespace = pod["metadata"]["namespace"]
    if "configMap" in source or "secret" in source:
        kind = "ConfigMap" if "configMap" in source else "Secret"
        own = source["configMap"] if kind == "ConfigMap" else source["secret"]
        name = _secret_name(own) if kind == "Secret" else own.get("name", "")
        data = lookup(kind, namespace, name)
        if data is None and name == _ROOT_CA and "ca.crt" in credentials:
            data = {"ca.crt": credentials["ca.crt"]}
        if data is None and not own.get("optional"):
            raise MountError(
                f'MountVolume.SetUp failed for volume "{volume}" : {kind.lower()} "{name}" not found'
            )
        data = data or {}
        items = own.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            if item["key"] in data:
                yield _inside(item["path"]), data[item["key"]], item.get("mode")
            elif not own.get("optional"):
                text = f"{kind.lower()} references non-existent config key: {item['key']}"
                raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {text}')
    for item in (source.get("downwardAPI") or {}).get("items") or ():
        yield _inside(item["path"]), _downward(pod, item, fields), item.get("mode")
    if "serviceAccountToken" in source:
        yield _inside(source["serviceAccountToken"].get("path", "token")), credentials.get("token", ""), None


def _downward(pod: Obj, item: Obj, fields: Mapping[str, str]) -> str:
    if "fieldRef" in item:
        path = item["fieldRef"]["fieldPath"]
        if path in ("metadata.labels", "metadata.annotations"):
            found = pod["metadata"].get(path.partition(".")[2]) or {}
            return "\n".join(f"{key}={json.dumps(value)}" for key, value in sorted(found.items()))
        return field_value(pod, path, fields)
    wanted = item.get("resourceFieldRef") or {}
    where, _, what = wanted.get("resource", "").partition(".")
    for spec in pod["spec"]["containers"]:
        if spec["name"] == wanted.get("containerName"):
            return str(((spec.get("resources") or {}).get(where) or {}).get(what, "0"))
    return "0"


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise MountError(f"invalid path {path!r} in a volume")
    return str(pure)


def mounts_of(spec: Obj, env: Mapping[str, str]) -> tuple[Mount, ...]:
    """Those that have a place, the outer ones first."""
    made = []
    for mount in spec.get("volumeMounts") or ():
        if mount.get("mountPath") and not no_place(mount["mountPath"]):
            inner = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
            path = str(PurePosixPath(mount["mountPath"]))
            read_only = bool(mount.get("readOnly"))
            made.append(
                Mount(
                    volume=mount["name"],
                    path=path,
                    sub_path=_inside(inner) if inner else "",
                    read_only=read_only,
                )
            )
    return tuple(sorted(made, key=lambda mount: len(PurePosixPath(mount.path).parts)))


def no_place(path: str) -> bool:
    """Whether a mount path lies in what a box has from the machine, where no directory can be made."""
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        return True
    if any(pure.is_relative_to(place) for place in _KERNEL):
        return True
    return any(pure.is_relative_to(place) for place in _MACHINE) and not Path(path).exists()


def left_out(pod: Obj, spec: Obj) -> Iterable[str]:
    """What podwire does otherwise than Kubernetes, one sentence a mount."""
    known = {"emptyDir", "configMap", "secret", "downwardAPI", "projected", "persistentVolumeClaim"}
    sources = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    for mount in spec.get("volumeMounts") or ():
        source = set(sources.get(mount["name"]) or ()) - {"name"}
        if no_place(mount.get("mountPath", "")):
            yield f"{mount['name']} is not mounted: {mount.get('mountPath', '')} is read-only here"
        elif source and not source & known:
            yield f"{mount['name']} is an empty directory: podwire has no {min(source)}"
