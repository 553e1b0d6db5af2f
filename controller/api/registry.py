"""The rules of writing: what Kubernetes does to an object between a request and the store.

Defaults, validation, admission, generation, the split of status from spec, graceful deletion and
finalizers. In-process writers (managers) and the HTTP server both come through here. Rules about one
kind live in their own modules (``defaults``, ``validate``, ``rules_*``); time and randomness are
arguments of the constructor.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.api import binding, deletion, managed, names
from controller.api.defaults import set_defaults
from controller.api.errors import BadRequest
from controller.api.kinds import KINDS, Kind
from controller.api.objects import Obj, copy, kind_of, resource_version
from controller.api.patch import SHORT, apply_patch
from controller.api.scale import from_scale, to_scale
from controller.api.status import (
    REQUIRED,
    FieldError,
    already_exists,
    conflict,
    forbidden,
    invalid,
    not_found,
)
from controller.api.store import Store
from controller.api.validate import check, decode

Allocate = Callable[[Obj], Obj]
"""Admission of a Service: fills in clusterIP and nodePorts, or raises Invalid."""
Unknown = Callable[[Obj, list[str]], None]
"""Told of the fields of an object that its schema does not know (and that were dropped); may raise."""

UNDELETABLE_NAMESPACES = ("default", "kube-system", "kube-public")
SYSTEM_NAMESPACES = (*UNDELETABLE_NAMESPACES, "kube-node-lease")

_COUNTED = frozenset({
    "Pod", "Deployment", "ReplicaSet", "EndpointSlice", "StatefulSet", "DaemonSet", "Job", "CronJob",
    "Ingress", "NetworkPolicy", "PodDisruptionBudget", "ReplicationController", "PriorityClass",
    "ServiceCIDR",
})  # fmt: skip
"""Kinds whose ``metadata.generation`` counts changes of what is wanted."""

_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
                 "generateName", "selfLink")  # fmt: skip


def timestamp(moment: datetime) -> str:
    """RFC 3339 in seconds, as every metadata time is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
        for name in SYSTEM_NAMESPACES:
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
        metadata = _metadata(made)
        self._place(row, metadata, namespace)
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
                self._admit_to_namespace(row, metadata["namespace"], wanted or prefix)
            if not wanted:
                metadata["name"] = self._generate(row, metadata["namespace"], prefix)
            for word in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
                metadata.pop(word, None)
            metadata["uid"] = self._new_uid()
            metadata["creationTimestamp"] = timestamp(self.now())
            metadata.pop("generation", None)
            if manager is not None:
                metadata.pop("managedFields", None)
            if row.kind in _COUNTED:
                metadata["generation"] = 1
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

    def _place(self, row: Kind, metadata: Obj, namespace: str | None) -> None:
        if not row.namespaced:
            metadata.pop("namespace", None)
            return
        own = metadata.get("namespace")
        if namespace and own and own != namespace:
            raise BadRequest(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata["namespace"] = own or namespace or "default"

    def _admit_to_namespace(self, row: Kind, namespace: str, name: str) -> None:
        space = self.store.get("Namespace", "", namespace)
        if space is None:
            raise not_found("Namespace", namespace)
        if (space.get("status") or {}).get("phase") == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise forbidden(row.kind, name, why, cause)

    def _generate(self, row: Kind, namespace: str | None, prefix: str) -> str:
        for _ in range(8):
            name = names.generate(prefix, self._rng)
            if self.store.get(row.kind, namespace, name) is None:
                return name
        raise conflict(row.kind, prefix, "no free name was found for generateName; try again")

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
            metadata = _metadata(made)
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
        if metadata.get("uid") and metadata["uid"] != before["uid"]:
            raise conflict(
                row.kind, before["name"],
                f"Precondition failed: UID in precondition: {metadata['uid']}, "
                f"UID in object meta: {before['uid']}",
            )  # fmt: skip
        if resource_version(made) not in (0, resource_version(old)):
            raise conflict(row.kind, before["name"])
        for word in _SERVER_OWNED:
            if word in before:
                metadata[word] = before[word]
            else:
                metadata.pop(word, None)
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
        if row.kind in _COUNTED and _wanted(made) != _wanted(old):
            made["metadata"]["generation"] = int(before.get("generation") or 0) + 1
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
            made["metadata"]["resourceVersion"] = _metadata(scale).get("resourceVersion")
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
                if _metadata(made).get(word) != old["metadata"].get(word):
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
        force: bool = False,
        dry_run: bool = False,
        unknown: Unknown = _ignore,
    ) -> tuple[Obj, bool]:
        """Server-side apply; the object as it is then, and whether it was created."""
        wanted, report = decode(obj)
        if report.unknown:
            unknown(wanted, report.unknown)
        metadata = _metadata(wanted)
        if metadata.pop("managedFields", None):
            raise BadRequest("metadata.managedFields must be nil")
        now = timestamp(self.now())
        with self.store.lock:
            old = self.store.get(wanted["kind"], metadata.get("namespace"), metadata["name"])
            if old is None:
                made = managed.applied(None, wanted, manager, now)
                return self.create(made, dry_run=dry_run, manager=None), True
            if resource_version(wanted) not in (0, resource_version(old)):
                raise conflict(wanted["kind"], metadata["name"])
            made = managed.applied(old, wanted, manager, now, force=force)
            return self.update(made, dry_run=dry_run, manager=None), False

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
            metadata = old["metadata"]
            if kind == "Namespace" and name in UNDELETABLE_NAMESPACES:
                raise forbidden(kind, name, "this namespace may not be deleted")
            if uid and uid != metadata["uid"]:
                why = f"the UID in the precondition ({uid}) does not match the UID in record"
                raise conflict(
                    kind,
                    name,
                    f"{why} ({metadata['uid']}). The object might have been deleted and then recreated",
                )
            if version and version != metadata["resourceVersion"]:
                why = f"the ResourceVersion in the precondition ({version}) does not match the"
                raise conflict(kind, name, f"{why} ResourceVersion in record ({metadata['resourceVersion']})")
            marked = deletion.mark(copy(old), self.now(), grace=grace, propagation=propagation)
            if dry_run:
                return marked
            if deletion.is_finished(marked):
                return self.store.delete(kind, namespace, name)
            return self.store.update(marked)


def _metadata(obj: Obj) -> Obj:
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object")
    return metadata


def _wanted(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {word: value for word, value in obj.items() if word not in ("metadata", "status")}


assert set(_COUNTED) <= set(KINDS)
