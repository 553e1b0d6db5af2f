"""Watches: the store's events as chunks of JSON lines, for as many readers as there are.

A watch holds a position, no queue: it wakes, reads what the store has after its position and writes
that in one piece, so a slow reader costs nothing but its own time (and in the end gets 410).
asyncio only; the server writes the chunks. A bookmark follows a moment later whenever the
store moves on without this watch, so that readers of several kinds know how far they are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.api import selectors
from controller.api.errors import ApiError, BadRequest, Timeout
from controller.api.history import ADDED, DELETED, MODIFIED, Event, encode
from controller.api.kinds import Kind
from controller.api.objects import Obj, resource_version
from controller.api.routes import flag, number
from controller.api.status import status_for, status_of
from controller.api.store import Store
from controller.api.tables import table
from controller.api.views import PLAIN, TABLE, View, asked, one

BOOKMARK_DELAY = 0.002
"""Seconds without a write after which bookmarks are sent: many writes in a row make one."""
BOOKMARK_LIMIT = 0.05
"""Seconds after which they are sent though the writes go on."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, kw_only=True)
class WatchRequest:
    """One watch. ``since`` None: begin with everything there is, as ADDED."""

    kind: Kind
    namespace: str = ""
    since: int | None = None
    labels: str = ""
    fields: str = ""
    bookmarks: bool = False
    initial_events: bool = False
    timeout: float | None = None
    view: View = PLAIN


def watch_request(
    kind: Kind, namespace: str, name: str, query: Mapping[str, str], accept: str = ""
) -> WatchRequest:
    """The watch a query asks for."""
    version = query.get("resourceVersion", "")
    if version and not version.isdigit():
        raise BadRequest(f'invalid resource version "{version}"')
    initial = flag(query, "sendInitialEvents")
    if initial and query.get("resourceVersionMatch") != "NotOlderThan":
        raise BadRequest("sendInitialEvents requires resourceVersionMatch=NotOlderThan")
    fields = query.get("fieldSelector", "")
    if name:
        fields = f"metadata.name={name}" + (f",{fields}" if fields else "")
    return WatchRequest(
        kind=kind,
        namespace=namespace,
        since=None if initial or version in ("", "0") else int(version),
        labels=query.get("labelSelector", ""),
        fields=fields,
        bookmarks=flag(query, "allowWatchBookmarks"),
        initial_events=initial,
        timeout=number(query, "timeoutSeconds"),
        view=asked(accept, query),
    )


class Hub:
    """Wakes the watches of a kind when the store changes, and all of them a moment later."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._watches: dict[str, set[asyncio.Event]] = {}
        self._ticking = False
        self._ticks = 0
        self._began = self._wrote = 0.0
        self._unsubscribe = store.subscribe(self._changed)

    def close(self) -> None:
        self._unsubscribe()

    def _changed(self, event: Event) -> None:
        if threading.get_ident() == self._thread:
            self._wake(event.kind)
        else:
            self._loop.call_soon_threadsafe(self._wake, event.kind)

    def _wake(self, kind: str) -> None:
        for watch in self._watches.get(kind, ()):
            watch.set()
        self._wrote = self._loop.time()
        if not self._ticking:
            self._ticking = True
            self._began = self._wrote
            self._loop.call_later(BOOKMARK_DELAY, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if now < self._wrote + BOOKMARK_DELAY and now < self._began + BOOKMARK_LIMIT:
            self._loop.call_at(self._wrote + BOOKMARK_DELAY, self._tick)
            return
        self._ticking = False
        self._ticks += 1
        for watches in self._watches.values():
            for watch in watches:
                watch.set()

    async def stream(self, request: WatchRequest) -> AsyncGenerator[bytes, None]:
        """Chunks of whole lines, for ever or until the timeout. Errors before the first chunk raise;
        later ones are an ERROR line."""
        matches = predicate(request)
        woken = asyncio.Event()
        watches = self._watches.setdefault(request.kind.kind, set())
        watches.add(woken)
        try:
            position, chunk = self._begin(request, matches)
            yield chunk
            deadline = None if request.timeout is None else self._loop.time() + request.timeout
            marked, ticks = position, self._ticks
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        await woken.wait()
                except TimeoutError:
                    return
                woken.clear()
                try:
                    with self.store.lock:
                        newest = self.store.newest
                        events = self.store.since(request.kind.kind, position)
                except ApiError as error:
                    yield _line(b"ERROR", encode(status_for(error)))
                    return
                position = newest
                chunk = b"".join(lines(events, matches, request.view))
                if chunk:
                    marked = events[-1].resource_version
                # After events as well: the last tick may be over when a late watch reads them. And not
                # only while no tick is due: under writes that never pause one always is.
                ticked = self._ticks > ticks or not self._ticking
                ticks = self._ticks
                if request.bookmarks and newest > marked and ticked:
                    chunk, marked = chunk + _bookmark(request.kind, newest, view=request.view), newest
                if chunk:
                    yield chunk
        finally:
            watches.discard(woken)

    def _begin(self, request: WatchRequest, matches: Callable[[Obj], bool] | None) -> tuple[int, bytes]:
        """The position to go on from and the first chunk (never empty of meaning: it may be b"")."""
        store, kind = self.store, request.kind
        with store.lock:
            newest = store.newest
            if request.since is None:
                objects = store.list(kind.kind, request.namespace or None)
                wanted = [obj for obj in objects if not matches or matches(obj)]
                found = [
                    _line(b"ADDED", encode(one(request.view, obj, head=not at)))
                    for at, obj in enumerate(wanted)
                ]
            else:
                if request.since > newest:
                    raise _too_new(request.since, newest)
                found = [*lines(store.since(kind.kind, request.since), matches, request.view)]
        if request.bookmarks or request.initial_events:
            found.append(_bookmark(kind, newest, end=request.initial_events, view=request.view))
        return newest, b"".join(found)


def predicate(request: WatchRequest) -> Callable[[Obj], bool] | None:
    select = selectors.predicate(request.kind.kind, request.labels, request.fields)
    space = request.namespace
    if not space:
        return select
    if select is None:
        return lambda obj: bool(obj["metadata"]["namespace"] == space)
    inner = select
    return lambda obj: obj["metadata"]["namespace"] == space and inner(obj)


def lines(
    events: Iterable[Event],
    matches: Callable[[Obj], bool] | None,
    view: View = PLAIN,
) -> Iterable[bytes]:
    """Events as lines; an object that starts or stops to match is ADDED or DELETED."""

    def body(event: Event) -> bytes:
        return encode(one(view, event.obj)) if view.shape else event.body

    for event in events:
        if matches is None:
            yield _line(event.type.encode(), body(event))
            continue
        before = event.old is not None and matches(event.old)
        after = event.type != DELETED and matches(event.obj)
        if before and after:
            yield _line(MODIFIED.encode(), body(event))
        elif after:
            yield _line(ADDED.encode(), body(event))
        elif before:
            assert event.old is not None
            gone = _at(event.old, event.resource_version)
            yield _line(DELETED.encode(), encode(one(view, gone)))


def _at(obj: Obj, version: int) -> Obj:
    assert resource_version(obj) < version
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def _line(type_: bytes, body: bytes) -> bytes:
    return b'{"type":"' + type_ + b'","object":' + body + b"}\n"


def _bookmark(kind: Kind, version: int, *, end: bool = False, view: View = PLAIN) -> bytes:
    metadata: Obj = {"resourceVersion": str(version)}
    if end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    if view.shape == TABLE:
        body = table(kind.kind, [], metadata, datetime.now(UTC), head=False)
    return _line(b"BOOKMARK", encode(body))


def _too_new(asked: int, newest: int) -> Timeout:
    message = f"Too large resource version: {asked}, current: {newest}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": message, "field": "resourceVersion"}]
    return Timeout(message, status_of(504, "Timeout", message, {"causes": causes}))
