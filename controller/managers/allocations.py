"""What the Services of a store hold, kept as they change: admission of one costs no look at all.

Subscribed to the store, so it is exact inside the store's lock, where the registry admits. The rules
are ``allocator``'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import objects
from controller.api.history import DELETED, Event
from controller.api.objects import Key, Obj
from controller.api.store import Store
from controller.managers.allocator import RANGES, InUse, Ranges, allocate_service


class Allocator:
    """The registry's ``Allocate``: fills in a Service that is created or updated, or raises Invalid."""

    def __init__(self, store: Store, *, ranges: Ranges = RANGES) -> None:
        self._ranges = ranges
        self._services: dict[Key, Obj] = {}
        self._in_use = InUse()
        with store.lock:
            for service in store.list("Service"):
                self._put(service)
            store.subscribe(self._hear)

    def __call__(self, service: Obj, services: Iterable[Obj] = ()) -> Obj:
        old = self._services.get(objects.key(service))
        return allocate_service(service, self._in_use, old=old, ranges=self._ranges)

    def _hear(self, event: Event) -> None:
        if event.kind == "Service":
            if event.type == DELETED:
                self._in_use.remove(self._services.pop(objects.key(event.obj)))
            else:
                self._put(event.obj)

    def _put(self, service: Obj) -> None:
        old = self._services.get(objects.key(service))
        if old is not None:
            self._in_use.remove(old)
        self._services[objects.key(service)] = service
        self._in_use.add(service)
