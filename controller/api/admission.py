"""Whether and under which name something new may be stored beside what is there already.

Asks the store, changes nothing. What an object of its own must be is ``validate``'s.
"""

from __future__ import annotations

import random

from controller.api import names
from controller.api.kinds import Kind
from controller.api.status import conflict, forbidden, not_found
from controller.api.store import Store

UNDELETABLE_NAMESPACES = ("default", "kube-system", "kube-public")
SYSTEM_NAMESPACES = (*UNDELETABLE_NAMESPACES, "kube-node-lease")


def to_namespace(store: Store, row: Kind, namespace: str, name: str) -> None:
    """Return when the namespace is there and stays."""
    space = store.get("Namespace", "", namespace)
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


def free_name(store: Store, row: Kind, namespace: str | None, prefix: str, rng: random.Random) -> str:
    """A name for ``generateName``."""
    for _ in range(8):
        name = names.generate(prefix, rng)
        if store.get(row.kind, namespace, name) is None:
            return name
    raise conflict(row.kind, prefix, "no free name was found for generateName; try again")
