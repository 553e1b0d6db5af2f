"""The rules of writing: what Kubernetes does to an object between a request and the store.

Defaults, validation, admission, generation, the split of status from spec, graceful deletion and
finalizers. In-process writers (managers) and the HTTP server both come through here. Rules about one
kind live in their own modules (``defaults``, ``validate``, ``rules_*``); time and randomness are
arguments of the constructor.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.api import admission, binding, deletion, managed
from controller.api import metadata as meta
from controller.api.defaults import set_defaults
from controller.api.errors import BadRequest
from controller.api.kinds import Kind
from controller.api.metadata import timestamp
from controller.api.objects import Obj, copy, kind_of, resource_version
from controller.api.patch import SHORT, apply_patch
from controller.api.scale import from_scale, to_scale
from controller.api.status import REQUIRED, FieldError, already_exists, conflict, invalid, not_found
from controller.api.store import Store
from controller.api.validate import check, decode

Allocate = Callable[[Obj], Obj]
"""Admission of a Service: fills in clusterIP and nodePorts, or raises Invalid."""
Unknown = Callable[[Obj, list[str]], None]
"""Told of the fields of an object that its schema does not know (and that were dropped); may raise."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _new_uid() -> str:
    return str(uuid.uuid4())


def _ignore(obj: Obj, fields: list[str]) -> None:
    """Kubernetes' fieldValidation=Ignore."""


class Registry:
    """Kubernetes' verbs over a store. Thread-safe; every method is atomic and durable at return.

    Objects that come back are the store's own: shared, not to be changed in place.
    """

    def __init__(
        self,
        store: Store,
        *,
        allocate: Allocate | None = None,
        now: Callable[[], datetime] = _utc_now,
        new_uid: Callable[[], str] = _new_uid,
        rng: random.Random | None = None,
    ) -> None:
        self.store = store
        self.now = now
        self._allocate = allocate
        self._new_uid = new_uid
        self._rng = rng or random.Random()

    def ensure_system_namespaces(self) -> None:
        for name in admission.SYSTEM_NAMESPACES:
            if self.store.get("Namespace", "", name) is None:
                self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # -- reading

    def get(self, kind: str, namespace: str | None, name: str, *, subresource: str = "") -> Obj:
        obj = self.store.get(kind, namespace, name)
        if obj is None:
            raise not_found(kind, name)
        return to_scale(obj) if subresource == "scale" else obj

    # -- create

    def create(
        self,
        obj: Obj,
        *,
        namespace: str | None = None,
        dry_run: bool = False,
        unknown: Unknown = _ignore,
        manager: str | None = "",
    ) -> Obj:
        """Create an object; ``namespace`` is the one of the URL, which the object's must equal. ``manager``
        gets its fields (empty: nobody; None: managedFields are as given)."""
        row = kind_of(obj)
        made, report = decode(obj)
        if report.unknown:
            unknown(made, report.unknown)
        metadata = meta.of(made)
        meta.place(row, metadata, namespace)
        prefix = str(metadata.get("generateName") or "")
        wanted = str(metadata.get("name") or "")
        if not wanted and not prefix:
            raise invalid(
                row.kind, "", [FieldError("metadata.name", REQUIRED, "name or generateName is required")]
            )
        if metadata.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        with self.store.lock:
            if row.namespaced:
                admission.to_namespace(self.store, row, metadata["namespace"], wanted or prefix)
            if not wanted:
                space = metadata.get("namespace")
                metadata["name"] = admission.free_name(self.store, row, space, prefix, self._rng)
            meta.bear(row, metadata, self._new_uid(), self.now())
            if manager is not None:
                metadata.pop("managedFields", None)
            if "status" in row.subresources and row.kind != "Node":
                made.pop("status", None)
            set_defaults(made)
            check(made, None, report.missing)
            if self.store.get(row.kind, metadata.get("namespace"), metadata["name"]) is not None:
                raise already_exists(row.kind, metadata["name"])
            made = self._admit(row, made, None)
            if manager:
                managed.track(None, made, manager, "", timestamp(self.now()))
            return made if dry_run else self.store.create(made)

    def _admit(self, row: Kind, obj: Obj, old: Obj | None) -> Obj:
        if row.kind != "Service" or self._allocate is None:
            return obj
        if old is not None and old.get("spec") == obj.get("spec"):
            return obj
        return self._allocate(obj)

    # -- update

    def update(
        self,
        obj: Obj,
        *,
        subresource: str = "",
        dry_run: bool = False,
        unknown: Unknown = _ignore,
        manager: str | None = "",
    ) -> Obj:
        """Replace an object, or by subresource: its ``status``, a Namespace's finalizers (``finalize``),
        a Pod's node (``binding``). A stale resourceVersion is 409. ``manager`` as in ``create``."""
        row = kind_of(obj)
        made, report = decode(obj)
        if report.unknown:
            unknown(made, report.unknown)
        with self.store.lock:
            metadata = meta.of(made)
            if row.namespaced:
                metadata["namespace"] = metadata.get("namespace") or "default"
            else:
                metadata.pop("namespace", None)
            name = str(metadata.get("name") or "")
            old = self.store.get(row.kind, metadata.get("namespace"), name)
            if old is None:
                raise not_found(row.kind, name)
            if manager is not None:
                metadata.pop("managedFields", None)
                if old["metadata"].get("managedFields"):
                    metadata["managedFields"] = old["metadata"]["managedFields"]
            made = self._prepared(row, made, old, subresource, report.missing)
            if manager:
                managed.track(old, made, manager, subresource, timestamp(self.now()))
            if dry_run:
                return made
            if deletion.is_finished(made):
                return self.store.delete(row.kind, metadata.get("namespace"), name)
            return self.store.update(made)

    def _prepared(self, row: Kind, made: Obj, old: Obj, subresource: str, missing: Sequence[str]) -> Obj:
        metadata, before = made["metadata"], old["metadata"]
        meta.carry_over(row, metadata, old)
        if subresource == "status":
            made = {**copy(old), "metadata": metadata, "status": made.get("status") or {}}
            metadata.pop("ownerReferences", None)
            if before.get("ownerReferences"):
                metadata["ownerReferences"] = before["ownerReferences"]
            check(made, old)
            return made
        if subresource == "binding":
            return binding.bind(copy(old), made, timestamp(self.now()))
        if "status" in row.subresources:
            made.pop("status", None)
            if "status" in old:
                made["status"] = copy(old["status"])
        set_defaults(made, old)
        # Before the rules: an update that leaves an allocated address or port out keeps it, and one
        # that changes the type gives back what the new type has no use for.
        made = self._admit(row, made, old)
        check(made, old, missing)
        meta.count(row, made, old)
        return made

    def scale(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        scale: Obj,
        *,
        dry_run: bool = False,
        manager: str = "",
    ) -> Obj:
        """Set the replicas an ``autoscaling/v1 Scale`` asks for; answers the new Scale."""
        with self.store.lock:
            made = copy(self.get(kind, namespace, name))
            made.setdefault("spec", {})["replicas"] = from_scale(scale)
            made["metadata"]["resourceVersion"] = meta.of(scale).get("resourceVersion")
            return to_scale(self.update(made, dry_run=dry_run, manager=manager))

    # -- patch

    def patch(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        patch: Any,
        *,
        patch_type: str = "merge",
        subresource: str = "",
        dry_run: bool = False,
        unknown: Unknown = _ignore,
        manager: str = "",
    ) -> Obj:
        """Patch an object or a subresource; without a resourceVersion in the patch it never conflicts."""
        with self.store.lock:
            old = self.get(kind, namespace, name, subresource=subresource)
            made = apply_patch(SHORT.get(patch_type, patch_type), old, patch)
            for word in ("name", "namespace"):
                if meta.of(made).get(word) != old["metadata"].get(word):
                    raise BadRequest(f"the {word} of the object does not match the {word} on the URL")
            if subresource == "scale":
                return self.scale(kind, namespace, name, made, dry_run=dry_run, manager=manager)
            if (made.get("kind"), made.get("apiVersion")) != (old["kind"], old["apiVersion"]):
                raise BadRequest("a patch cannot change apiVersion or kind")
            return self.update(
                made, subresource=subresource, dry_run=dry_run, unknown=unknown, manager=manager
            )

    def apply(
        self,
        obj: Obj,
        *,
        manager: str,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
        unknown: Unknown = _ignore,
    ) -> tuple[Obj, bool]:
        """Server-side apply of an object or of its ``status``; the object as it is then, and whether it was
        created."""
        wanted, report = decode(obj)
        if report.unknown:
            unknown(wanted, report.unknown)
        metadata = meta.of(wanted)
        if subresource:
            kept = ("apiVersion", "kind", "metadata", "status")
            wanted = {word: wanted[word] for word in kept if word in wanted}
        elif "status" in kind_of(wanted).subresources:
            wanted.pop("status", None)
        if metadata.pop("managedFields", None):
            raise BadRequest("metadata.managedFields must be nil")
        now = timestamp(self.now())
        with self.store.lock:
            old = self.store.get(wanted["kind"], metadata.get("namespace"), metadata["name"])
            if old is None and subresource:
                raise not_found(wanted["kind"], metadata["name"])
            if old is None:
                made = managed.applied(None, wanted, manager, now)
                return self.create(made, dry_run=dry_run, manager=None), True
            if resource_version(wanted) not in (0, resource_version(old)):
                raise conflict(wanted["kind"], metadata["name"])
            made = managed.applied(old, wanted, manager, now, subresource=subresource, force=force)
            return self.update(made, subresource=subresource, dry_run=dry_run, manager=None), False

    # -- delete

    def delete(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        grace: int | None = None,
        propagation: str | None = None,
        uid: str | None = None,
        version: str | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Delete an object: at once, or by marking it when a grace period or a finalizer holds it.

        Answers the object as it was last (removed) or as it is now (marked).
        """
        with self.store.lock:
            old = self.get(kind, namespace, name)
            deletion.allow(old, uid=uid, version=version)
            marked = deletion.mark(copy(old), self.now(), grace=grace, propagation=propagation)
            if dry_run:
                return marked
            if deletion.is_finished(marked):
                return self.store.delete(kind, namespace, name)
            return self.store.update(marked)
