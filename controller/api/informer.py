"""Following kinds over time: list, watch, and tell a handler what changed, batch by batch.

One reader thread a kind, one worker thread that calls the handler. It lists again when its past is
gone (410), reconnects with back-off while the server is down, and turns what it missed meanwhile
into the events it would have seen. An exception of the handler ends the informer, loudly.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from controller.api.errors import Expired, Timeout, Unreachable
from controller.api.objects import Key, Obj, key
from controller.api.status import error_of

if TYPE_CHECKING:
    from controller.api.client import Client
    from controller.api.transport import Stream

_BACK_OFF = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Event(NamedTuple):
    """``type`` is ADDED, MODIFIED or DELETED; ``old`` the object as the handler last saw it."""

    type: str
    obj: Obj
    old: Obj | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All events waiting, in each kind's order. Every event of every kind up to ``resource_version``
    has now been delivered. ``synced`` is True once the initial lists are in (always, in practice: the
    first batch is all of them)."""

    events: list[Event]
    resource_version: int
    synced: bool


class Informer:
    """Calls ``handler`` with batches from one thread until ``stop``.

    ``fields`` and ``labels`` are selectors by kind, ``namespaces`` the one namespace of a kind that is
    looked at. ``on_error`` gets the exception that ended the
    informer (by default: traceback on stderr). ``store`` holds the objects as delivered, by key;
    read it in the handler only.
    """

    def __init__(
        self,
        client: Client,
        kinds: Sequence[str],
        handler: Callable[[Batch], None],
        *,
        fields: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        namespaces: Mapping[str, str] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._client = client
        self._handler = handler
        self._on_error = on_error or _complain
        self._condition = threading.Condition()
        self._readers = [
            _Reader(
                self,
                kind,
                (labels or {}).get(kind, ""),
                (fields or {}).get(kind, ""),
                (namespaces or {}).get(kind),
            )
            for kind in kinds
        ]
        self._waiting: list[Event] = []
        self._delivered = 0
        self._again = False
        self._stopped = False
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._work, name="informer", daemon=True)
        self._synced = threading.Event()
        self.store: dict[Key, Obj] = {}

    def start(self) -> Informer:
        for reader in self._readers:
            reader.thread.start()
        self._worker.start()
        return self

    def stop(self) -> None:
        """End all threads; afterwards the handler is not called again."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
        for reader in self._readers:
            reader.close()
        for thread in (*(reader.thread for reader in self._readers), self._worker):
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=5)

    def wait_synced(self, timeout: float = 30) -> None:
        """Until the first batch has been handled. Raises what ended the informer, or Timeout."""
        if not self._synced.wait(timeout):
            kinds = ", ".join(reader.kind for reader in self._readers if not reader.listed)
            raise Timeout(f"no initial list of {kinds or 'every kind'} was handled within {timeout} s")
        if self._error is not None:
            raise self._error

    # -- the worker

    def _work(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(self._has_work)
                    if self._stopped:
                        return
                    events, self._waiting = self._waiting, []
                    version = self._version()
                    self._delivered, self._again = version, False
                for event in events:
                    if event.type == "DELETED":
                        self.store.pop(key(event.obj), None)
                    else:
                        self.store[key(event.obj)] = event.obj
                self._handler(Batch(events=events, resource_version=version, synced=True))
                self._synced.set()
        except BaseException as error:
            self._fail(error)

    def _has_work(self) -> bool:
        if self._stopped:
            return True
        if not all(reader.listed for reader in self._readers):
            return False
        return bool(self._waiting) or self._again or self._version() > self._delivered

    def _version(self) -> int:
        return min(reader.version for reader in self._readers)

    def _fail(self, error: BaseException) -> None:
        with self._condition:
            self._error = error
            self._stopped = True
            self._condition.notify_all()
        for reader in self._readers:
            reader.close()
        self._synced.set()
        self._on_error(error)

    # -- for the readers

    def _took(self, reader: _Reader, events: Sequence[Event], version: int, *, again: bool = False) -> None:
        with self._condition:
            self._waiting += events
            reader.version = max(version, 0 if again else reader.version)
            self._again = self._again or again
            if self._has_work():
                self._condition.notify_all()


class _Reader:
    """Lists and watches one kind."""

    def __init__(
        self, informer: Informer, kind: str, labels: str, fields: str, namespace: str | None
    ) -> None:
        self.kind = kind
        self.version = 0
        self.listed = False
        self.thread = threading.Thread(target=self._run, name=f"informer {kind}", daemon=True)
        self._informer = informer
        self._labels, self._fields, self._namespace = labels, fields, namespace
        self._held: dict[Key, Obj] = {}
        self._stream: Stream | None = None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        failures, stopped = 0, self._informer._condition
        try:
            while not self._informer._stopped:
                try:
                    if not self.listed:
                        self._list()
                    self._watch()
                    failures = 0
                except (Expired, Timeout):
                    self.listed, failures = False, 0
                except Unreachable:
                    with stopped:
                        wait = _BACK_OFF[min(failures, len(_BACK_OFF) - 1)]
                        stopped.wait_for(lambda: self._informer._stopped, wait)
                    failures += 1
        except BaseException as error:
            if not self._informer._stopped:
                self._informer._fail(error)

    def _list(self) -> None:
        items, version = self._client_list()
        now = {key(item): item for item in items}
        events = []
        for at, obj in now.items():
            old = self._held.get(at)
            if old is None:
                events.append(Event("ADDED", obj, None))
            elif old["metadata"].get("uid") != obj["metadata"].get("uid"):
                events += [Event("DELETED", old, old), Event("ADDED", obj, None)]
            elif old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                events.append(Event("MODIFIED", obj, old))
        events += [Event("DELETED", old, old) for at, old in self._held.items() if at not in now]
        self._held = now
        self.listed = True
        self._informer._took(self, events, int(version), again=True)

    def _client_list(self) -> tuple[list[Obj], str]:
        return self._informer._client.list(
            self.kind, self._namespace, labels=self._labels, fields=self._fields
        )

    def _watch(self) -> None:
        stream = self._informer._client.watch(
            self.kind, self._namespace, resource_version=str(self.version), labels=self._labels,
            fields=self._fields, bookmarks=True,
        )  # fmt: skip
        self._stream = stream
        if self._informer._stopped:
            stream.close()
        fresh = True
        for line in stream:
            obj: dict[str, Any] = line["object"]
            if line["type"] == "ERROR":
                raise error_of(int(obj.get("code") or 500), obj)
            # After a reconnect the first line tells the worker, so that components report anew to a
            # server that has forgotten their progress.
            self._informer._took(
                self, self._events(line["type"], obj), int(obj["metadata"]["resourceVersion"]), again=fresh
            )
            fresh = False

    def _events(self, type_: str, obj: Obj) -> list[Event]:
        if type_ == "BOOKMARK":
            return []
        at = key(obj)
        old = self._held.get(at)
        if type_ == "DELETED":
            self._held.pop(at, None)
            return [Event("DELETED", obj, old)]
        self._held[at] = obj
        return [Event("ADDED" if old is None else "MODIFIED", obj, old)]


def _complain(error: BaseException) -> None:
    print("an informer ended by an error:", file=sys.stderr)
    traceback.print_exception(error)
