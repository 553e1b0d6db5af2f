"""The durable store: every object in SQLite, a copy in memory, one counter of versions.

What is acknowledged survives kill -9 of the process: the journal is a WAL whose pages the kernel
holds once ``commit`` returns. ``synchronous=NORMAL`` flushes them at checkpoints only, so a loss of
power may cost the newest writes (it never corrupts the file); a lab that lost its machine is gone
anyway. No Kubernetes rules here (``registry`` has them): the store knows keys, versions and events.

Objects that go in are copied; objects that come out are shared and must not be changed in place.
"""

from __future__ import annotations

import builtins
import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.api.errors import MachineError
from controller.api.history import ADDED, DELETED, LIMIT, MODIFIED, Event, History, encode
from controller.api.objects import Key, Obj, key, resource_version
from controller.api.status import already_exists, conflict, not_found

_SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY CHECK (one = 1), newest INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 0);
"""


class Store:
    """One writer at a time; any thread may call. Durable at return.

    ``lock`` is reentrant: hold it around a read and the write that depends on it.
    """

    def __init__(self, path: str | Path = ":memory:", *, history: int = LIMIT, patience: float = 2) -> None:
        """``patience``: seconds to wait for a server that is just ending to let go of the file."""
        self.lock = threading.RLock()
        self._subscribers: list[Callable[[Event], None]] = []
        self._kinds: dict[str, dict[tuple[str, str], Obj]] = {}
        self._unsorted: set[str] = set()
        self._database = _open(path, patience)
        newest = 0
        for body, version in self._database.execute("SELECT body, version FROM objects"):
            obj: Obj = _own(json.loads(body))
            found = key(obj)
            self._kinds.setdefault(found.kind, {})[found.namespace, found.name] = obj
            self._unsorted.add(found.kind)
            newest = max(newest, version)
        (counted,) = self._database.execute("SELECT newest FROM counter").fetchone()
        self.newest: int = max(newest, counted)
        self._history = History(self.newest, history)

    def close(self) -> None:
        with self.lock:
            self._database.close()

    # -- reading

    def get(self, kind: str, namespace: str | None, name: str) -> Obj | None:
        return self._kinds.get(kind, {}).get((namespace or "", name))

    def list(self, kind: str, namespace: str | None = None) -> builtins.list[Obj]:
        """All objects of a kind (of one namespace), ordered by namespace and name."""
        with self.lock:
            held = self._kinds.get(kind, {})
            if kind in self._unsorted:
                held = self._kinds[kind] = dict(sorted(held.items()))
                self._unsorted.discard(kind)
            if not namespace:
                return [*held.values()]
            return [obj for (space, _), obj in held.items() if space == namespace]

    def bodies(self, kind: str, namespace: str | None = None) -> builtins.list[bytes]:
        """The same objects as JSON, ready for the wire."""
        query = "SELECT body FROM objects WHERE kind=?"
        with self.lock:
            if namespace:
                rows = self._database.execute(query + " AND namespace=? ORDER BY name", (kind, namespace))
            else:
                rows = self._database.execute(query + " ORDER BY namespace, name", (kind,))
            return [body for (body,) in rows]

    def body(self, obj: Obj) -> bytes:
        """An object as JSON: at no cost for the one that was just written."""
        last = self._history.last
        return last.body if last is not None and last.obj is obj else encode(obj)

    def count(self, kind: str) -> int:
        return len(self._kinds.get(kind, {}))

    def since(self, kind: str, version: int) -> builtins.list[Event]:
        """The events of a kind after a resourceVersion; Expired when they are no longer known."""
        with self.lock:
            return self._history.since(kind, version)

    # -- writing

    def create(self, obj: Obj) -> Obj:
        with self.lock:
            at = key(obj)
            if self.get(*at) is not None:
                raise already_exists(at.kind, at.name)
            return self._write(ADDED, at, obj, None)

    def update(self, obj: Obj, *, expect_rv: bool = True) -> Obj:
        """Replace an object. With ``expect_rv`` a resourceVersion in it must be the stored one
        (an object without one is written unconditionally). Writing what is there changes nothing."""
        with self.lock:
            at = key(obj)
            old = self.get(*at)
            if old is None:
                raise not_found(at.kind, at.name)
            mine = resource_version(obj)
            if expect_rv and mine and mine != resource_version(old):
                raise conflict(at.kind, at.name)
            if _same(obj, old):
                return old
            return self._write(MODIFIED, at, obj, old)

    def delete(self, kind: str, namespace: str | None, name: str) -> Obj:
        """Remove an object at once; returns it with the resourceVersion of its deletion."""
        with self.lock:
            at = Key(kind, namespace or "", name)
            old = self.get(*at)
            if old is None:
                raise not_found(kind, name)
            version = self.newest + 1
            self._database.execute("BEGIN")
            self._database.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", at)
            self._database.execute("UPDATE counter SET newest=?", (version,))
            self._database.execute("COMMIT")
            del self._kinds[kind][at.namespace, at.name]
            last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(version)}}
            self._happened(Event(DELETED, version, kind, last, old, encode(last)))
            return last

    def _write(self, type_: str, at: Key, obj: Obj, old: Obj | None) -> Obj:
        version = self.newest + 1
        stored: Obj = _own(obj)
        stored["metadata"]["resourceVersion"] = str(version)
        body = encode(stored)
        self._database.execute("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", (*at, version, body))
        self._kinds.setdefault(at.kind, {})[at.namespace, at.name] = stored
        if old is None:
            self._unsorted.add(at.kind)
        self._happened(Event(type_, version, at.kind, stored, old, body))
        return stored

    # -- telling

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call back on every change, after it is durable, in order, in the writer's thread and under
        the lock: note it and return. The answer is a function that ends the subscription."""
        with self.lock:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self.lock:
                self._subscribers.remove(callback)

        return unsubscribe

    def _happened(self, event: Event) -> None:
        self.newest = event.resource_version
        self._history.add(event)
        for callback in self._subscribers:
            callback(event)


def _own(value: Any) -> Any:
    """A deep copy of JSON that shares its keys and common words with all others: half the memory."""
    if type(value) is dict:
        return {sys.intern(word): _own(inner) for word, inner in value.items()}
    if type(value) is list:
        return [_own(inner) for inner in value]
    return sys.intern(value) if type(value) is str and value.isalpha() else value


def _same(new: Obj, old: Obj) -> bool:
    """Equal but for the resourceVersion."""
    if any(new.get(word) != old.get(word) for word in new.keys() | old.keys() if word != "metadata"):
        return False
    mine, theirs = dict(new["metadata"]), dict(old["metadata"])
    mine.pop("resourceVersion", None)
    theirs.pop("resourceVersion", None)
    return mine == theirs


def _open(path: str | Path, patience: float) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=patience)
    except sqlite3.Error as error:
        raise MachineError(f"cannot open the store {path}: {error}") from error
    try:
        # Exclusive: a second server on the same file is refused instead of corrupting the counter.
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA):
            raise MachineError(f"the store {path} was written by another version of podwire; remove it")
        database.executescript(_TABLES)
        database.execute(f"PRAGMA user_version={_SCHEMA}")
    except sqlite3.Error as error:
        database.close()
        raise MachineError(f"cannot open the store {path}: {error}") from error
    return database
