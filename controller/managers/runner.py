"""Runs the control loops beside the store, in the API server's process, to a fixed point.

The only part of the managers with a thread, a clock or a lock. Changes of the store come in by
subscription; what the loops answer goes back through the registry, with all of Kubernetes' rules.
Progress is told only when every change up to a resourceVersion, our own included, is handled.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from controller.api import objects
from controller.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from controller.api.history import DELETED, Event
from controller.api.kinds import KINDS
from controller.api.registry import Registry
from controller.managers.events import Correlator
from controller.managers.view import Bind, Change, Create, Delete, Record, Update, View, Wake
from controller.managers.work import Task, Work

COMPONENT = "managers"
_MAKERS_OF_PODS = ("ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet")
_SOMEBODY_WAS_FASTER = (Conflict, NotFound, AlreadyExists)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _end_process(error: BaseException) -> None:
    """A bug in a loop ends the API server: the lab says so and starts it again."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(70)


class Runner:
    """``progress`` is called in the runner's thread with the resourceVersion that is wholly handled."""

    def __init__(
        self,
        registry: Registry,
        progress: Callable[[int], None] = lambda version: None,
        *,
        now: Callable[[], datetime] = _utc_now,
        clock: Callable[[], float] = time.monotonic,
        fatal: Callable[[BaseException], None] = _end_process,
        families: Sequence[str] = ("IPv4",),
    ) -> None:
        self._registry, self._store = registry, registry.store
        self._progress, self._now, self._clock, self._fatal = progress, now, clock, fatal
        self.view = View(families=families)
        self.work = Work()
        self._correlator = Correlator()
        self._events: deque[Event] = deque()
        self._news = threading.Condition()
        self._stopped = False
        self._handled = self._reported = -1
        self._unsubscribe: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=COMPONENT, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the pass it is in; the store stays usable."""
        with self._news:
            self._stopped = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def settle(self) -> None:
        """Run to the fixed point in the caller's thread, without a thread of our own and without
        resting; what waits for a time is left waiting unless its time has come."""
        self._connect()
        while True:
            self._drain()
            task = self.work.take(self._clock())
            if task is not None:
                self._handle(task, rest=False)
            elif not self._events:
                return

    # -- the thread

    def _run(self) -> None:
        try:
            self._connect()
            while not self._stopped:
                self._drain()
                task = self.work.take(self._clock())
                if task is not None:
                    self._handle(task)
                elif not self._events:
                    self._rest()
        except BaseException as error:
            self._fatal(error)

    def _connect(self) -> None:
        if self._unsubscribe is not None:
            return
        with self._store.lock:
            self._unsubscribe = self._store.subscribe(self._hear)
            everything = [obj for kind in KINDS for obj in self._store.list(kind)]
            self._handled = self._store.newest
        self.view.now = self._now()
        for obj in everything:
            self.view.put(obj)
        for obj in everything:
            self.work.changed(self.view, None, obj)

    def _hear(self, event: Event) -> None:
        """Called in the writer's thread, under the store's lock."""
        with self._news:
            self._events.append(event)
            self._news.notify()

    def _rest(self) -> None:
        if self.work.idle and self._handled > self._reported:
            self._reported = self._handled
            self._progress(self._handled)
        due = self.work.next_time()
        with self._news:
            if not self._events and not self._stopped:
                self._news.wait(None if due is None else max(due - self._clock(), 0.0))

    def _drain(self) -> None:
        while self._events:
            event = self._events.popleft()
            self._handled = event.resource_version
            if event.type == DELETED:
                old = self.view.drop(objects.key(event.obj))
                if old is not None:
                    self._correlator.forget(objects.uid(old))
                self.work.changed(self.view, old, None)
            else:
                self.work.changed(self.view, self.view.put(event.obj), event.obj)

    # -- one task

    def _handle(self, task: Task, *, rest: bool = True) -> None:
        began = self._clock()
        self.view.now = self._now()
        changes = task.loop.reconcile(self.view, task.ref)
        took = self._clock() - began
        try:
            for change in changes:
                self._apply(task, change)
                self._drain()
        except _SOMEBODY_WAS_FASTER:
            self._drain()
            self.work.again(task)
            return
        except ApiError as error:
            self._drain()
            self._tell(task, error)
            self.work.failed(task, self._clock())
            return
        self.work.done(task, self._clock(), took if rest else 0.0)

    def _apply(self, task: Task, change: Change) -> None:
        if isinstance(change, Create):
            self._registry.create(change.obj)
        elif isinstance(change, Update):
            self._registry.update(change.obj, subresource=change.subresource)
        elif isinstance(change, Bind):
            pod = {**change.pod, "spec": {**change.pod["spec"], "nodeName": change.node}}
            self._registry.update(pod, subresource="binding")
        elif isinstance(change, Delete):
            self._delete(change)
        elif isinstance(change, Record):
            self._record(change)
        elif isinstance(change, Wake):
            delay = (change.at - self.view.now).total_seconds()
            self.work.wake(task, self._clock() + max(delay, 0.0))

    def _delete(self, change: Delete) -> None:
        options: dict[str, Any] = {"grace": change.grace, "propagation": change.propagation}
        try:
            self._registry.delete(
                change.kind, change.namespace, change.name, uid=change.uid or None, **options
            )
        except NotFound:
            pass  # gone is what was wanted

    def _record(self, record: Record) -> None:
        """An Event that cannot be written (its namespace is going) is no reason to stop."""
        write = self._correlator.write(self.view, record)
        try:
            if isinstance(write, Create):
                self._registry.create(write.obj)
            elif isinstance(write, Update):
                self._registry.update(write.obj)
        except ApiError:
            pass

    def _tell(self, task: Task, error: ApiError) -> None:
        """What was refused shows where people look: in the Events of the object."""
        found = self.view.get(*task.ref)
        if found is not None:
            reason = "FailedCreate" if task.ref.kind in _MAKERS_OF_PODS else "FailedSync"
            message = f"Error creating: {error}" if reason == "FailedCreate" else str(error)
            self._record(
                Record(
                    involved=found, reason=reason, message=message, component=task.loop.name, type="Warning"
                )
            )
            self._drain()


def start(
    registry: Registry, report: Callable[[str, int], None], families: Sequence[str] = ("IPv4",)
) -> Runner:
    """The managers of an API server, running; ``report(component, resourceVersion)`` tells progress."""
    runner = Runner(registry, lambda version: report(COMPONENT, version), families=families)
    runner.start()
    return runner
