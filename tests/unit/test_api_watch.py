"""Watches, read as lines from the hub itself: order, selectors, bookmarks, resuming, 410."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.errors import ApiError, BadRequest, Expired, Timeout
from controller.api.kinds import KINDS
from controller.api.objects import Obj
from controller.api.store import Store
from controller.api.watch import Hub, WatchRequest, lines, predicate, watch_request
from tests.unit.api_kit import pod, service

PODS = WatchRequest(kind=KINDS["Pod"])
Line = tuple[str, str, int]


class Watch:
    """The lines of one watch as (type, name, resourceVersion)."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        self._stream = stream
        self._lines: list[Obj] = []

    async def next(self) -> Line:
        return short(await self.line())

    async def line(self) -> Obj:
        async with asyncio.timeout(5):
            while not self._lines:
                self._lines += [json.loads(line) for line in (await anext(self._stream)).splitlines()]
        return self._lines.pop(0)

    async def take(self, count: int) -> list[Line]:
        return [await self.next() for _ in range(count)]


def short(line: Obj) -> Line:
    metadata = line["object"]["metadata"]
    return line["type"], metadata.get("name", ""), int(metadata["resourceVersion"])


@asynccontextmanager
async def watching(store: Store, request: WatchRequest = PODS) -> AsyncIterator[Watch]:
    hub = Hub(store)
    stream = hub.stream(request)
    try:
        yield Watch(stream)
    finally:
        await stream.aclose()
        hub.close()


def run(test: Callable[[Store], Coroutine[Any, Any, None]], history: int = 100) -> None:
    store = Store(history=history)
    try:
        asyncio.run(test(store))
    finally:
        store.close()


def test_a_watch_without_a_version_begins_with_everything_there_is() -> None:
    async def test(store: Store) -> None:
        store.create(pod("a"))
        store.create(service("s"))
        store.create(pod("b"))
        async with watching(store) as watch:
            assert await watch.take(2) == [("ADDED", "a", 1), ("ADDED", "b", 3)]
            store.delete("Pod", "default", "a")
            assert await watch.next() == ("DELETED", "a", 4)

    run(test)


def test_a_watch_from_a_version_gets_what_came_after_it_and_goes_on() -> None:
    async def test(store: Store) -> None:
        first = store.create(pod("a"))
        store.update({**first, "status": {"phase": "Running"}})
        store.create(pod("b"))
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=1)) as watch:
            assert await watch.take(2) == [("MODIFIED", "a", 2), ("ADDED", "b", 3)]
            store.create(pod("c"))
            assert await watch.next() == ("ADDED", "c", 4)

    run(test)


def test_a_watch_from_a_version_that_is_gone_is_refused() -> None:
    async def test(store: Store) -> None:
        for name in "abcd":
            store.create(pod(name))
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=1)) as watch:
            with pytest.raises(Expired, match="too old resource version: 1"):
                await watch.next()

    run(test, history=2)


def test_a_reader_that_falls_behind_the_history_is_told_with_410() -> None:
    async def test(store: Store) -> None:
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=0)) as watch:
            store.create(pod("a"))
            assert await watch.next() == ("ADDED", "a", 1)
            for name in "bcdef":
                store.create(pod(name))
            line = await watch.line()
            assert (line["type"], line["object"]["code"], line["object"]["reason"]) == (
                "ERROR",
                410,
                "Expired",
            )
            with pytest.raises(StopAsyncIteration):
                await watch.line()

    run(test, history=2)


def test_a_version_of_the_future_is_refused_so_that_the_client_lists_again() -> None:
    async def test(store: Store) -> None:
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=9)) as watch:
            with pytest.raises(Timeout, match="Too large resource version: 9, current: 0"):
                await watch.next()

    run(test)


def test_an_object_that_starts_or_stops_to_match_is_added_or_deleted() -> None:
    async def test(store: Store) -> None:
        request = WatchRequest(kind=KINDS["Pod"], since=0, labels="app=web")
        async with watching(store, request) as watch:
            store.create(pod("a", metadata={"labels": {"app": "db"}}))
            web = store.update(pod("a", metadata={"labels": {"app": "web"}}))
            more = store.update({**web, "status": {"phase": "Running"}})
            db = {**more["metadata"], "labels": {"app": "db"}}
            store.update({**more, "metadata": db})
            store.update({**more, "metadata": {**db, "resourceVersion": None}, "status": {"phase": "Failed"}})
            store.delete("Pod", "default", "a")
            store.create(pod("b"))
            assert await watch.next() == ("ADDED", "a", 2)
            assert await watch.next() == ("MODIFIED", "a", 3)
            left = await watch.line()
            assert short(left) == ("DELETED", "a", 4)
            assert left["object"]["metadata"]["labels"] == {"app": "web"}  # as it last matched
            assert await watch.next() == ("ADDED", "b", 7)

    run(test)


def test_a_field_selector_and_a_namespace_narrow_a_watch() -> None:
    async def test(store: Store) -> None:
        request = WatchRequest(kind=KINDS["Pod"], namespace="default", since=0, fields="spec.nodeName=node1")
        async with watching(store, request) as watch:
            store.create(pod("other", metadata={"namespace": "team"}, spec={"nodeName": "node1"}))
            made = store.create(pod("a"))
            store.update({**made, "spec": {**made["spec"], "nodeName": "node1"}})
            assert await watch.next() == ("ADDED", "a", 3)

    run(test)


def test_a_bookmark_tells_a_watch_of_one_kind_that_another_kind_moved_on() -> None:
    async def test(store: Store) -> None:
        request = WatchRequest(kind=KINDS["Pod"], since=0, bookmarks=True)
        async with watching(store, request) as watch:
            assert await watch.next() == ("BOOKMARK", "", 0)
            for name in "abc":
                store.create(service(name))
            assert await watch.next() == ("BOOKMARK", "", 3)  # one for all three
            store.create(pod("a"))
            store.create(service("d"))
            assert await watch.take(2) == [("ADDED", "a", 4), ("BOOKMARK", "", 5)]

    run(test)


def test_a_watch_that_reads_late_gets_its_events_and_the_bookmark_after_them() -> None:
    async def test(store: Store) -> None:
        hub = Hub(store)
        request = WatchRequest(kind=KINDS["Pod"], since=0, bookmarks=True)
        streams = [hub.stream(request), hub.stream(request)]
        early, late = map(Watch, streams)
        assert await early.next() == await late.next() == ("BOOKMARK", "", 0)
        store.create(pod("a"))
        store.create(service("s"))
        both = [("ADDED", "a", 1), ("BOOKMARK", "", 2)]
        assert await early.take(2) == both  # so the moment of bookmarks is over
        assert await late.take(2) == both
        for stream in streams:
            await stream.aclose()
        hub.close()

    run(test)


def test_writes_that_never_pause_do_not_keep_bookmarks_back() -> None:
    async def test(store: Store) -> None:
        async def write() -> None:
            for number in itertools.count():
                store.create(service(f"s{number}"))
                await asyncio.sleep(0)

        request = WatchRequest(kind=KINDS["Pod"], since=0, bookmarks=True)
        async with watching(store, request) as watch:
            assert await watch.next() == ("BOOKMARK", "", 0)
            writer = asyncio.create_task(write())
            type_, _, version = await watch.next()
            writer.cancel()
            assert type_ == "BOOKMARK"
            assert 0 < version <= store.newest

    run(test)


def test_initial_events_end_with_an_annotated_bookmark() -> None:
    async def test(store: Store) -> None:
        store.create(pod("a"))
        query = {
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "1",
        }
        async with watching(store, watch_request(KINDS["Pod"], "", "", query)) as watch:
            assert await watch.next() == ("ADDED", "a", 1)
            end = (await watch.line())["object"]
            assert end["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            store.create(pod("b"))
            assert await watch.next() == ("ADDED", "b", 2)

    run(test)


def test_a_watch_with_a_timeout_ends_by_itself() -> None:
    async def test(store: Store) -> None:
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=0, timeout=0.01)) as watch:
            with pytest.raises(StopAsyncIteration):
                await watch.next()

    run(test)


def test_a_write_in_another_thread_wakes_a_watch() -> None:
    async def test(store: Store) -> None:
        async with watching(store, WatchRequest(kind=KINDS["Pod"], since=0)) as watch:
            writer = threading.Thread(target=store.create, args=(pod("a"),))
            asyncio.get_running_loop().call_soon(writer.start)
            assert await watch.next() == ("ADDED", "a", 1)
            writer.join()

    run(test)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "delete"]),
        st.sampled_from("abc"),
        st.sampled_from(["web", "db"]),
        st.sampled_from(["default", "team"]),
    ),
    max_size=30,
)


@given(operations=OPERATIONS, start=st.integers(0, 30))
def test_following_a_watch_from_any_version_ends_with_what_a_list_shows(
    operations: list[tuple[str, str, str, str]], start: int
) -> None:
    store = Store()
    request = WatchRequest(kind=KINDS["Pod"], namespace="default", labels="app=web")
    seen: dict[str, Obj] = {}
    for verb, name, label, space in operations:
        if store.newest == start:  # a client lists here, and watches on
            seen = {obj["metadata"]["name"]: obj for obj in listed(store)}
        wanted = pod(name, metadata={"namespace": space, "labels": {"app": label}})
        with contextlib.suppress(ApiError):
            if verb == "create":
                store.create(wanted)
            elif verb == "update":
                store.update(wanted, expect_rv=False)
            else:
                store.delete("Pod", space, name)
    if store.newest >= start:
        for text in lines(store.since("Pod", start), predicate(request)):
            line = json.loads(text)
            name = line["object"]["metadata"]["name"]
            assert (line["type"] == "ADDED") is (name not in seen)
            if line["type"] == "DELETED":
                del seen[name]
            else:
                seen[name] = line["object"]
        if start or operations:
            assert seen == {obj["metadata"]["name"]: obj for obj in listed(store)}
    store.close()


def listed(store: Store) -> list[Obj]:
    return [obj for obj in store.list("Pod", "default") if obj["metadata"]["labels"] == {"app": "web"}]


@pytest.mark.parametrize(
    "query",
    [{"resourceVersion": "x"}, {"sendInitialEvents": "true"}, {"timeoutSeconds": "soon"}],
)
def test_a_watch_query_that_means_nothing_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        watch_request(KINDS["Pod"], "", "", query)
