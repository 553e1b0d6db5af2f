"""Events do not stay: an hour after it was last seen an Event goes (the apiserver's ``--event-ttl``)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from controller.api import objects
from controller.api.objects import Obj
from controller.managers.times import parse
from controller.managers.view import Change, Ref, View, Wake, delete

COMPONENT = "event-ttl"
TTL = timedelta(hours=1)


def reconcile(view: View, ref: Ref) -> list[Change]:
    """Delete one Event that is old enough, or say when it will be."""
    found = view.get(*ref)
    if found is None:
        return []
    seen = found.get("lastTimestamp") or found.get("eventTime") or found["metadata"].get("creationTimestamp")
    due = parse(seen) + TTL if seen else view.now
    return [delete(found)] if due <= view.now else [Wake(due)]


def refs(view: View, old: Obj | None, new: Obj | None) -> Iterable[Ref]:
    """Only new ones: a look that finds it seen again meanwhile asks for another."""
    if old is None and new is not None:
        yield objects.key(new)
