"""The thread hub under os-ken and Ryu: waits that can be ended, failures that are heard."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from controller.kubeproxy import hub

LONG = 30.0  # a wait that only ends early when the hub works


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    heard: list[BaseException] = []
    monkeypatch.setattr(hub, "on_failure", heard.append)
    return heard


@pytest.fixture
def started() -> Iterator[float]:
    begin = time.monotonic()
    yield begin
    assert time.monotonic() - begin < LONG / 3, "something waited to its end"


@pytest.mark.parametrize(
    "wait",
    [
        lambda: hub.sleep(LONG),
        lambda: hub.Queue().get(),
        lambda: hub.Event().wait(),
        lambda: hub.Event().wait(LONG),
        lambda: hub.Semaphore(0).acquire(),
        lambda: hub.joinall([hub.spawn(hub.sleep, LONG)]),
    ],
    ids=["sleep", "queue", "event", "event with timeout", "semaphore", "join"],
)
def test_a_killed_thread_leaves_its_wait_and_runs_its_clean_up(wait, started, failures):
    waiting, cleaned = hub.Event(), hub.Event()

    def body() -> None:
        waiting.set()
        try:
            wait()
        finally:
            cleaned.set()

    thread = hub.spawn(body)
    waiting.wait()
    hub.kill(thread)
    hub.joinall([thread])
    assert cleaned.is_set()
    assert failures == []


def test_a_thread_killed_before_it_starts_never_runs():
    ran = hub.Event()
    thread = hub.Thread(ran.set, (), {})
    thread.kill()
    thread.start()
    thread.join()
    assert not ran.is_set()


def test_clean_up_after_a_kill_may_wait_again(started, failures):
    waiting, emptied = hub.Event(), hub.Event()

    def body() -> None:
        waiting.set()
        try:
            hub.sleep(LONG)
        finally:
            with pytest.raises(hub.QueueEmpty):
                hub.Queue().get(timeout=0.01)
            emptied.set()

    thread = hub.spawn(body)
    waiting.wait()
    thread.kill()
    thread.wait()
    assert emptied.is_set()
    assert failures == []


def test_task_exit_passes_through_except_exception():
    assert not issubclass(hub.TaskExit, Exception)


def test_an_exception_nobody_caught_is_heard(failures):
    def body() -> None:
        raise LookupError("lost")

    hub.joinall([hub.spawn(body)])
    assert [str(error) for error in failures] == ["lost"]


def test_an_exception_in_a_spawned_thread_ends_the_process_with_a_traceback():
    program = "from controller.kubeproxy import hub\nhub.spawn(lambda: 1 / 0)\nhub.sleep(30)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_event_wait_with_a_timeout_returns_whether_it_is_set(started):
    event = hub.Event()
    assert event.wait(timeout=0.01) is False
    event.set()
    assert event.wait(timeout=LONG) is True
    event.clear()
    assert not event.is_set()


def test_timeout_interrupts_a_wait(started):
    timeout = hub.Timeout(0.01)
    with pytest.raises(hub.Timeout) as caught, timeout:
        hub.sleep(LONG)
    assert caught.value is timeout


def test_timeout_raises_the_exception_it_was_given(started):
    with pytest.raises(LookupError), hub.Timeout(0.01, LookupError("late")):
        hub.Queue().get()


def test_timeout_with_false_leaves_silently(started):
    with hub.Timeout(0.01, False):
        hub.sleep(LONG)


def test_the_outer_of_two_timeouts_may_come_first(started):
    with pytest.raises(LookupError), hub.Timeout(0.01, LookupError()), hub.Timeout(LONG):
        hub.sleep(LONG)


def test_a_timeout_that_was_not_needed_leaves_no_trace(started):
    with hub.Timeout(0.01):
        pass
    hub.sleep(0.03)


def test_a_queue_keeps_order_and_holds_back_at_its_size(started):
    queue = hub.Queue(2)
    thread = hub.spawn(lambda: [queue.put(number) for number in range(100)])
    assert [queue.get() for _ in range(100)] == list(range(100))
    thread.wait()
    assert queue.empty()
    queue.put(1)
    queue.put(2)
    assert queue.full()
    with pytest.raises(hub.QueueFull):
        queue.put(3, block=False)


def test_many_producers_and_consumers_lose_nothing(started):
    queue, taken = hub.Queue(3), hub.Queue()
    consumers = [hub.spawn(lambda: [taken.put(queue.get()) for _ in range(250)]) for _ in range(4)]
    producers = [hub.spawn(lambda n=n: [queue.put((n, i)) for i in range(200)]) for n in range(5)]
    hub.joinall(producers + consumers)
    assert len({taken.get() for _ in range(1000)}) == 1000


def test_a_bounded_semaphore_refuses_to_be_released_too_often():
    semaphore = hub.BoundedSemaphore(1)
    assert semaphore.acquire()
    assert not semaphore.acquire(blocking=False)
    semaphore.release()
    with pytest.raises(ValueError, match="too often"):
        semaphore.release()


def test_spawn_after_runs_later_unless_cancelled(started):
    ran = hub.Event()
    assert hub.spawn_after(0.01, ran.set).wait(LONG)
    assert ran.is_set()
    never = hub.Event()
    thread = hub.spawn_after(LONG, never.set)
    thread.cancel()
    thread.wait()
    assert not never.is_set()


def test_a_server_hands_over_connections_and_stops_when_closed(started):
    seen = hub.Queue()
    server = hub.StreamServer(("127.0.0.1", 0), lambda connection, _: seen.put(connection))
    thread = hub.spawn(server.serve_forever)
    with socket.create_connection(server.server.getsockname()) as client:
        connection = seen.get()
        connection.sendall(b"hello")
        assert client.recv(5) == b"hello"
        connection.close()
    server.close()
    assert thread.wait(LONG)


def test_every_thread_is_a_daemon_so_that_nothing_keeps_the_process():
    thread = hub.spawn(hub.sleep, LONG)
    assert isinstance(thread, threading.Thread)
    assert thread.daemon
    thread.kill()
    thread.wait()
