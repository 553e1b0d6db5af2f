"""Who owns which field: ``metadata.managedFields``, as server-side apply needs it. Pure.

Ownership is kept for writers that name themselves (kubectl, the Python clients); the lab's own managers
and kubelets write through, which changes no ownership.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.api import apply, fieldset
from controller.api.errors import ApiError, Conflict
from controller.api.fieldset import Path
from controller.api.objects import Obj, copy
from controller.api.status import status_of

APPLY, UPDATE = "Apply", "Update"


@dataclass(frozen=True)
class Entry:
    """One manager's share of an object."""

    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str
    paths: frozenset[Path]

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.manager, self.operation, self.subresource)


def read(obj: Mapping[str, Any]) -> list[Entry]:
    return [
        Entry(
            told.get("manager", ""), told.get("operation", UPDATE), told.get("subresource", ""),
            told.get("apiVersion", ""), told.get("time", ""),
            frozenset(fieldset.from_fields(told.get("fieldsV1") or {})),
        )
        for told in obj["metadata"].get("managedFields") or ()
    ]  # fmt: skip


def write(obj: Obj, entries: list[Entry]) -> None:
    """Set managedFields (in place); managers that own nothing any more are left out."""
    told = [
        {
            "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version,
            "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": fieldset.to_fields(entry.paths),
            **({"subresource": entry.subresource} if entry.subresource else {}),
        }
        for entry in entries if entry.paths
    ]  # fmt: skip
    obj["metadata"].pop("managedFields", None)
    if told:
        obj["metadata"]["managedFields"] = told


def track(old: Obj | None, made: Obj, manager: str, subresource: str, now: str) -> None:
    """``manager`` has made or changed an object: what it changed is its own (``made`` in place)."""
    before = fieldset.values(old) if old else {}
    after = fieldset.values(made)
    entries = read(old) if old else []
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    if subresource != "status":
        changed = {path for path in changed if path[0] != "f:status"}
    gone = before.keys() - after.keys()
    mine = Entry(manager, UPDATE, subresource, made["apiVersion"], now, frozenset(changed))
    kept = []
    for entry in entries:
        if entry.key == mine.key:
            paths = (entry.paths | changed) - gone
            mine = replace(mine, paths=paths, time=now if paths != entry.paths else entry.time)
        else:
            kept.append(replace(entry, paths=entry.paths - changed - gone))
    write(made, [*kept, mine])


def applied(
    live: Obj | None, wanted: Obj, manager: str, now: str, *, subresource: str = "", force: bool = False
) -> Obj:
    """The object after an apply, with its managedFields. Conflict when others own what would change."""
    mine = frozenset(fieldset.values(wanted))
    if live is None:
        made = copy(wanted)
        write(made, [Entry(manager, APPLY, "", wanted["apiVersion"], now, mine)])
        return made
    before = fieldset.values(live)
    entries = read(live)
    if not entries:
        told = frozenset(path for path in before if path[0] != "f:status")
        entries = [Entry("before-first-apply", UPDATE, "", live["apiVersion"], now, told)]
    own = Entry(manager, APPLY, subresource, wanted["apiVersion"], now, frozenset())
    others = [entry for entry in entries if entry.key != own.key]
    earlier = next((entry for entry in entries if entry.key == own.key), own)
    made = copy(apply.merge(live, wanted))
    after = fieldset.values(made)
    changed = {path for path in mine if path in after and (path not in before or before[path] != after[path])}
    conflicts = [(entry, sorted(entry.paths & changed)) for entry in others if entry.paths & changed]
    if conflicts and not force:
        raise _conflict(conflicts)
    others = [replace(entry, paths=entry.paths - changed) for entry in others]
    kept = frozenset(path for entry in others for path in entry.paths)
    apply.remove(made, earlier.paths - mine - kept, kept | mine)
    same = earlier.paths == mine and not changed
    entries = [*others, replace(own, paths=mine, time=earlier.time if same else now)]
    write(made, sorted(entries, key=lambda entry: entry.operation))
    return made


def _conflict(conflicts: list[tuple[Entry, list[Path]]]) -> ApiError:
    causes, groups, count = [], [], 0
    for entry, paths in conflicts:
        who = f'conflict with "{entry.manager}"'
        if entry.subresource:
            who += f' with subresource "{entry.subresource}"'
        who += f" using {entry.api_version}"
        reason = "FieldManagerConflict"
        causes += [{"reason": reason, "message": who, "field": fieldset.shown(path)} for path in paths]
        count += len(paths)
        if len(paths) == 1:
            groups.append(f"{who}: {fieldset.shown(paths[0])}")
        else:
            listed = "".join(f"\n- {fieldset.shown(path)}" for path in paths)
            groups.append(f"{who.replace('conflict', 'conflicts', 1)}:{listed}")
    told = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: " + "\n".join(groups)
    return Conflict(told, status_of(409, "Conflict", told, {"causes": causes}))
