"""Informers against a real server process, which is killed under them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.client import Batch, Client, Informer
from controller.api.errors import NotSettled, Timeout, Unreachable
from controller.api.objects import Key, Obj
from tests.unit.api_kit import ApiServer, api_server, pod, service

PATIENCE = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as made:
        yield made


class Log:
    """What an informer delivered; ``until`` waits for a condition on it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._changed = threading.Condition()

    def __call__(self, batch: Batch) -> None:
        with self._changed:
            self.batches.append(batch)
            self._changed.notify_all()

    @property
    def events(self) -> list[tuple[str, str]]:
        return [
            (event.type, event.obj["metadata"]["name"]) for batch in self.batches for event in batch.events
        ]

    def until_version(self, version: int) -> None:
        with self._changed:
            reached = self._changed.wait_for(
                lambda: bool(self.batches) and self.batches[-1].resource_version >= version, PATIENCE
            )
        assert reached, f"stands at {self.batches[-1:]} instead of {version}"

    def until_more_than(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) > count, PATIENCE)


def version(obj: Obj) -> int:
    return int(obj["metadata"]["resourceVersion"])


def test_the_first_batch_is_everything_there_is(server: ApiServer) -> None:
    server.client.create(pod("a"))
    made = server.client.create(service("s"))
    log = Log()
    informer = Informer(server.client, ["Pod", "Service"], log).start()
    informer.wait_synced(PATIENCE)
    assert sorted(log.events) == [("ADDED", "a"), ("ADDED", "s")]
    assert log.batches[0].synced
    assert log.batches[0].resource_version >= version(made)
    assert set(informer.store) == {Key("Pod", "default", "a"), Key("Service", "default", "s")}
    informer.stop()


def test_a_batch_says_that_every_kind_is_delivered_up_to_its_version(server: ApiServer) -> None:
    log = Log()
    informer = Informer(server.client, ["Pod", "Service"], log).start()
    informer.wait_synced(PATIENCE)
    made = server.client.create(pod("a"))
    log.until_version(version(made))  # the watch of Services tells by a bookmark
    other = server.client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    log.until_version(version(other))  # of a kind nobody here watches
    assert log.events == [("ADDED", "a")]
    informer.stop()


def test_an_event_carries_the_object_as_it_was(server: ApiServer) -> None:
    first = server.client.create(pod("a"))
    log = Log()
    informer = Informer(server.client, ["Pod"], log, labels={"Pod": "app=web"}).start()
    informer.wait_synced(PATIENCE)
    changed = server.client.patch("Pod", "a", {"metadata": {"annotations": {"a": "b"}}})
    log.until_version(version(changed))
    (event,) = log.batches[-1].events
    assert (event.type, event.obj, event.old) == ("MODIFIED", changed, first)
    informer.stop()


def test_an_informer_lives_through_a_killed_server_and_misses_nothing(server: ApiServer) -> None:
    for name in ("kept", "gone", "changed"):
        server.client.create(pod(name))
    log = Log()
    informer = Informer(server.client, ["Pod"], log).start()
    informer.wait_synced(PATIENCE)
    before = len(log.batches)
    server.kill()
    server.start()
    server.client.delete("Pod", "gone")
    server.client.patch("Pod", "changed", {"metadata": {"labels": {"a": "b"}}})
    last = server.client.create(pod("new"))
    log.until_version(version(last))
    later = [
        (event.type, event.obj["metadata"]["name"])
        for batch in log.batches[before:]
        for event in batch.events
    ]
    assert sorted(later) == [("ADDED", "new"), ("DELETED", "gone"), ("MODIFIED", "changed")]
    informer.stop()


def test_a_version_the_server_has_forgotten_makes_the_informer_list_again(server: ApiServer) -> None:
    client = _Stuck(server.socket)
    server.client.create(pod("gone"))
    log = Log()
    informer = Informer(client, ["Pod"], log).start()
    informer.wait_synced(PATIENCE)
    server.client.delete("Pod", "gone")
    last = server.client.create(pod("new"))
    server.kill()  # the history goes with the process: version 5 cannot be resumed
    server.start()
    client.let_go.set()
    log.until_version(version(last))
    assert log.events == [("ADDED", "gone"), ("ADDED", "new"), ("DELETED", "gone")]
    informer.stop()


class _Stuck(Client):
    """Opens no watch until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.let_go = threading.Event()

    def watch(self, *arguments: object, **more: object):  # type: ignore[no-untyped-def]
        self.let_go.wait(PATIENCE)
        return super().watch(*arguments, **more)  # type: ignore[arg-type]


def test_a_reconnected_informer_delivers_a_batch_so_that_progress_is_told_anew(server: ApiServer) -> None:
    """A restarted server has forgotten all progress, and nothing else may ever change again."""
    client, settled = server.client, threading.Event()

    def handle(batch: Batch) -> None:
        client.progress("test", batch.resource_version)
        settled.set()

    informer = Informer(client, ["Pod"], handle).start()
    informer.wait_synced(PATIENCE)
    newest = client.settle(["test"], timeout=PATIENCE)
    server.kill()
    server.start()
    assert client.settle(["test"], timeout=PATIENCE) == newest
    informer.stop()


def test_an_exception_of_the_handler_ends_the_informer_loudly(server: ApiServer) -> None:
    heard: list[BaseException] = []
    told = threading.Event()

    def broken(batch: Batch) -> None:
        raise ZeroDivisionError("in the handler")

    def on_error(error: BaseException) -> None:
        heard.append(error)
        told.set()

    informer = Informer(server.client, ["Pod"], broken, on_error=on_error).start()
    assert told.wait(PATIENCE)
    assert [type(error) for error in heard] == [ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):
        informer.wait_synced(PATIENCE)
    informer.stop()


def test_a_kind_that_cannot_be_watched_ends_the_informer_loudly(server: ApiServer) -> None:
    heard: list[BaseException] = []
    informer = Informer(server.client, ["Pod"], Log(), fields={"Pod": "spec.nosuch=1"}, on_error=heard.append)
    informer.start()
    with pytest.raises(Exception, match="field label not supported"):
        informer.wait_synced(PATIENCE)
    assert len(heard) == 1
    informer.stop()


def test_a_stopped_informer_calls_nobody(server: ApiServer) -> None:
    log = Log()
    informer = Informer(server.client, ["Pod"], log).start()
    informer.wait_synced(PATIENCE)
    informer.stop()
    count = len(log.batches)
    server.client.create(pod("a"))
    assert len(log.batches) == count
    assert not any(thread.name.startswith("informer") for thread in threading.enumerate())


def test_without_a_server_the_informer_waits_and_says_for_what(tmp_path: Path) -> None:
    client = Client(tmp_path / "none.sock")
    with pytest.raises(Unreachable, match="does not answer at"):
        client.list("Pod")
    informer = Informer(client, ["Pod"], Log()).start()
    with pytest.raises(Timeout, match="no initial list of Pod"):
        informer.wait_synced(0.05)
    informer.stop()


def test_settling_waits_for_every_component_and_names_who_is_behind(server: ApiServer) -> None:
    client = server.client
    newest = version(client.create(pod("a")))
    client.progress("kubelet", newest)
    client.progress("managers", newest - 2)
    with pytest.raises(NotSettled) as raised:
        client.settle(["kubelet", "managers", "kubeproxy/node1"], timeout=0.05)
    assert str(raised.value) == (
        f"not settled at resourceVersion {newest}: kubeproxy/node1 has not reported, "
        f"managers is 2 behind (at {newest - 2})"
    )
    reporter = threading.Thread(target=client.progress, args=("managers", newest))
    waiter: list[int] = []
    settling = threading.Thread(
        target=lambda: waiter.append(client.settle(["kubelet", "managers"], timeout=PATIENCE))
    )
    settling.start()
    reporter.start()
    settling.join()
    reporter.join()
    assert waiter == [newest]
    assert client.settle([]) == newest
