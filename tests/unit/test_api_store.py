"""The store: versions, conflicts, events, and what is left after the file is opened again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.errors import AlreadyExists, Conflict, Expired, MachineError, NotFound
from controller.api.history import Event
from controller.api.objects import resource_version
from controller.api.store import Store
from tests.unit.api_kit import pod


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.close()


def test_every_write_gets_the_next_resource_version_of_the_whole_store(store: Store) -> None:
    first = store.create(pod("a"))
    second = store.create(pod("b"))
    changed = store.update({**first, "status": {"phase": "Running"}})
    gone = store.delete("Pod", "default", "b")
    versions = [resource_version(obj) for obj in (first, second, changed, gone)]
    assert versions == [1, 2, 3, 4]
    assert store.newest == 4


def test_writing_what_is_there_changes_nothing(store: Store) -> None:
    made = store.create(pod())
    assert store.update({**made, "metadata": {**made["metadata"]}}) is made
    assert store.newest == 1


def test_a_stale_update_conflicts_and_leaves_the_object_alone(store: Store) -> None:
    first = store.create(pod())
    second = store.update({**first, "status": {"phase": "Running"}})
    with pytest.raises(Conflict, match="please apply your changes to the latest version"):
        store.update({**first, "status": {"phase": "Failed"}})
    assert store.get("Pod", "default", "web") == second
    forced = store.update({**first, "status": {"phase": "Failed"}}, expect_rv=False)
    assert forced["status"]["phase"] == "Failed"


def test_what_exists_cannot_be_created_and_what_does_not_cannot_be_changed(store: Store) -> None:
    store.create(pod())
    with pytest.raises(AlreadyExists, match='pods "web" already exists'):
        store.create(pod())
    with pytest.raises(NotFound, match='pods "other" not found'):
        store.update(pod("other"))
    with pytest.raises(NotFound):
        store.delete("Pod", "default", "other")


def test_a_list_is_ordered_by_namespace_and_name_as_are_its_bodies(store: Store) -> None:
    for name in ("c", "a", "b"):
        store.create(pod(name))
    store.create(pod("a", metadata={"namespace": "another"}))
    names = [(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in store.list("Pod")]
    assert names == [("another", "a"), ("default", "a"), ("default", "b"), ("default", "c")]
    assert store.bodies("Pod") == [store.body(obj) for obj in store.list("Pod")]
    assert len(store.list("Pod", "another")) == len(store.bodies("Pod", "another")) == 1


def test_an_object_in_the_store_is_not_the_writer_s_own(store: Store) -> None:
    mine = pod()
    store.create(mine)
    mine["spec"]["containers"].clear()
    found = store.get("Pod", "default", "web")
    assert found is not None
    assert found["spec"]["containers"]


def test_subscribers_hear_every_change_in_order_with_the_object_before_it(store: Store) -> None:
    heard: list[Event] = []
    end = store.subscribe(heard.append)
    made = store.create(pod())
    store.update({**made, "status": {"phase": "Running"}})
    store.delete("Pod", "default", "web")
    end()
    store.create(pod("later"))
    assert [(event.type, event.resource_version) for event in heard] == [
        ("ADDED", 1), ("MODIFIED", 2), ("DELETED", 3)
    ]  # fmt: skip
    assert heard[1].old == made
    assert heard[2].obj["status"] == {"phase": "Running"}


def test_the_history_of_a_kind_is_replayed_until_it_is_too_old() -> None:
    store = Store(history=3)
    for name in "abcde":
        store.create(pod(name))
    assert [event.obj["metadata"]["name"] for event in store.since("Pod", 2)] == ["c", "d", "e"]
    with pytest.raises(Expired, match="too old resource version: 1"):
        store.since("Pod", 1)
    # Another kind's past is not pushed out by pods.
    assert store.since("Service", 0) == []
    store.close()


def test_a_store_opened_again_holds_everything_and_goes_on_counting(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    kept = store.create(pod("kept"))
    store.create(pod("gone"))
    store.delete("Pod", "default", "gone")
    store.close()
    again = Store(tmp_path / "db")
    assert again.list("Pod") == [kept]
    assert again.newest == 3
    assert again.since("Pod", 3) == []
    with pytest.raises(Expired):
        again.since("Pod", 2)
    assert resource_version(again.create(pod("next"))) == 4
    again.close()


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    with pytest.raises(MachineError, match="database is locked"):
        Store(tmp_path / "db", patience=0)
    store.close()
