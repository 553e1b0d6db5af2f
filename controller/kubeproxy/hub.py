"""Threads for os-ken and Ryu: the module both import as ``lib.hub``, written anew so that nothing is lost.

Why it exists: os-ken 4.2's own thread hub swallows exceptions, cannot end a thread (so a dead switch is
never reported and every reconnect leaks two threads) and hangs on Ctrl-C; Ryu knows only eventlet, which
is deprecated and starves echo replies. ``controller.kubeproxy.backend`` puts this module at
``sys.modules["os_ken.lib.hub"]`` or ``["ryu.lib.hub"]`` before either is imported, so both run alike.

The rules kept here: every thread is a daemon; ``kill`` ends a thread at its next wait in this module
(queue, semaphore, event, sleep, join); ``Timeout`` interrupts the same waits; an exception nobody caught
ends the process with a traceback. A wait in a socket is not interruptible: sockets have timeouts.

Not here: anything about OpenFlow, Kubernetes or either framework.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty as QueueEmpty
from queue import Full as QueueFull
from time import monotonic
from types import TracebackType
from typing import Any, Self

__all__ = [
    "BoundedSemaphore",
    "Event",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "Semaphore",
    "StreamServer",
    "TaskExit",
    "Thread",
    "Timeout",
    "fail",
    "getcurrent",
    "joinall",
    "kill",
    "listen",
    "patch",
    "sleep",
    "spawn",
    "spawn_after",
]


class TaskExit(BaseException):
    """Raised inside a thread that was killed. Not an ``Exception``, so ``except Exception`` lets it pass."""


def fail(error: BaseException) -> None:
    """What no one caught: print it and end the process at once, code 1. Tests may replace ``on_failure``."""
    on_failure(error)


def _die(error: BaseException) -> None:
    traceback.print_exception(error, file=sys.stderr)
    name = threading.current_thread().name
    print(f"kubeproxy ends: {type(error).__name__} in thread {name}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)  # from a thread there is no other way that cannot be swallowed or hang


on_failure: Callable[[BaseException], None] = _die


class _Waiter:
    """What one thread waits for, so that another can wake it."""

    def __init__(self) -> None:
        self.killed = False
        self.condition: threading.Condition | None = None
        self.timeouts: list[Timeout] = []

    def wait(self, condition: threading.Condition, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Hold ``condition`` and wait until ``ready()``: True, or False when ``seconds`` have passed.

        Raises TaskExit when this thread is killed, and a Timeout that is due.
        """
        deadline = None if seconds is None else monotonic() + seconds
        self.condition = condition
        try:
            while True:
                if self.killed:
                    self.killed = False  # delivered once: clean-up code may wait again
                    raise TaskExit
                if ready():
                    return True
                now = monotonic()
                for timeout in self.timeouts:
                    timeout.check(now)
                if deadline is not None and deadline <= now:
                    return False
                ends = [t.deadline for t in self.timeouts if t.deadline is not None]
                ends += [] if deadline is None else [deadline]
                condition.wait(min(ends) - now if ends else None)
        finally:
            self.condition = None


class _Local(threading.local):
    waiter: _Waiter | None = None


_local = _Local()


def _waiter() -> _Waiter:
    if _local.waiter is None:
        _local.waiter = _Waiter()
    return _local.waiter


class Thread(threading.Thread):
    """A daemon thread that can be killed and whose failure is heard. ``spawn`` makes them."""

    def __init__(self, func: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(name=getattr(func, "__qualname__", type(func).__name__), daemon=True)
        self._call = (func, args, kwargs)
        self._hub_waiter = _Waiter()
        self._done = Event()

    def run(self) -> None:
        _local.waiter = self._hub_waiter
        func, args, kwargs = self._call
        try:
            if not self._hub_waiter.killed:
                func(*args, **kwargs)
        except TaskExit:
            pass
        except BaseException as error:  # SystemExit in a thread is a mistake too
            fail(error)
        finally:
            del self._call, func, args, kwargs
            self._hub_waiter.killed = False
            self._done.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until the thread has ended; True when it has."""
        return self._done.wait(timeout)

    def kill(self) -> None:
        """End it at its next wait in this module, or before it starts."""
        waiter = self._hub_waiter
        waiter.killed = True
        condition = waiter.condition
        if condition is not None:
            with condition:
                condition.notify_all()

    cancel = kill


def spawn(func: Callable[..., object], *args: Any, raise_error: bool = False, **kwargs: Any) -> Thread:
    """Run ``func`` in a thread. ``raise_error`` is the frameworks' flag: here every error is raised."""
    thread = Thread(func, args, kwargs)
    thread.start()
    return thread


def spawn_after(seconds: float, func: Callable[..., object], *args: Any, **kwargs: Any) -> Thread:
    """Run ``func`` in a thread ``seconds`` from now, unless ``cancel`` comes first."""

    def later() -> None:
        sleep(seconds)
        func(*args, **kwargs)

    return spawn(later)


def kill(thread: Thread) -> None:
    thread.kill()


def joinall(threads: Iterable[Thread]) -> None:
    for thread in threads:
        thread.wait()


def sleep(seconds: float = 0) -> None:
    condition = threading.Condition()
    with condition:
        _waiter().wait(condition, lambda: False, seconds)


def patch(thread: bool = True) -> None:
    """Nothing to patch: these are threads."""


getcurrent = threading.current_thread


class Timeout(BaseException):
    """``with Timeout(1):`` interrupts a wait of this thread after a second, by raising itself.

    ``exception`` is raised instead; ``False`` leaves the block silently (eventlet's rules).
    """

    def __init__(self, seconds: float | None = None, exception: BaseException | bool | None = None) -> None:
        super().__init__(seconds)
        self.seconds, self.exception = seconds, exception
        self.deadline: float | None = None

    def start(self) -> Self:
        if self.seconds is not None:
            self.deadline = monotonic() + self.seconds
            _waiter().timeouts.append(self)
        return self

    def cancel(self) -> None:
        self.deadline = None
        if self in (timeouts := _waiter().timeouts):
            timeouts.remove(self)

    def check(self, now: float) -> None:
        """Raise when due, once."""
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            raise self.exception if isinstance(self.exception, BaseException) else self

    def __enter__(self) -> Self:
        return self if self.deadline is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.cancel()
        return value is self and self.exception is False


class Event:
    """A flag to wait for; ``wait`` returns whether it is set."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._condition:
            self._set = True
            self._condition.notify_all()

    def clear(self) -> None:
        with self._condition:
            self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._condition:
            return _waiter().wait(self._condition, self.is_set, timeout)


class Semaphore:
    """Counts free places; ``acquire`` waits for one."""

    def __init__(self, value: int = 1) -> None:
        self._condition = threading.Condition()
        self._free = value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        with self._condition:
            if not _waiter().wait(self._condition, lambda: self._free > 0, timeout if blocking else 0):
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        with self._condition:
            self._free += 1
            self._condition.notify()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class BoundedSemaphore(Semaphore):
    """A semaphore that refuses to be released more often than it was acquired."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._places = value

    def release(self) -> None:
        with self._condition:
            if self._free >= self._places:
                raise ValueError("semaphore released too often")
            super().release()


class Queue:
    """First in, first out; ``maxsize`` 0 or None is unbounded."""

    def __init__(self, maxsize: int | None = None) -> None:
        self.maxsize = maxsize or 0
        self._condition = threading.Condition(threading.RLock())
        self._items: deque[Any] = deque()

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items

    def full(self) -> bool:
        return 0 < self.maxsize <= len(self._items)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        with self._condition:
            if not self._condition_wait(lambda: not self.full(), block, timeout):
                raise QueueFull
            self._items.append(item)
            self._condition.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self._condition:
            if not self._condition_wait(lambda: bool(self._items), block, timeout):
                raise QueueEmpty
            item = self._items.popleft()
            if self.maxsize:
                self._condition.notify_all()
            return item

    def put_nowait(self, item: Any) -> None:
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def _condition_wait(self, ready: Callable[[], bool], block: bool, timeout: float | None) -> bool:
        return ready() or (block and _waiter().wait(self._condition, ready, timeout))


def listen(address: tuple[str, int] | str, family: int = socket.AF_INET, backlog: int = 50) -> socket.socket:
    """A listening stream socket; raises OSError when the address is taken."""
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(backlog)
    except OSError:
        server.close()
        raise
    return server


class StreamServer:
    """Accepts connections, each handled in a thread of its own. No TLS: the channel is loopback only."""

    def __init__(self, listen_info: tuple[str, int], handle: Callable[[socket.socket, Any], object]) -> None:
        family = socket.AF_INET6 if ":" in listen_info[0] else socket.AF_INET
        self.server = listen(listen_info, family)
        self.handle = handle
        self._closed = False

    def serve_forever(self) -> None:
        """Returns after ``close``."""
        while True:
            try:
                connection, address = self.server.accept()
            except OSError:
                if self._closed:
                    return
                raise
            spawn(self.handle, connection, address)

    def close(self) -> None:
        """Stop accepting. The shutdown wakes ``accept``, which a mere close does not."""
        self._closed = True
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.server.close()
