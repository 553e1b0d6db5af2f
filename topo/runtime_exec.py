"""Commands in containers that run: ``exec`` on the caller's descriptors, ``exec_sync`` as a probe needs it.

Which containers there are is ``runtime_containers``; what a command may do is its box's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from topo.runtime_box import Process
from topo.runtime_containers import Containers
from topo.runtime_running import Running
from topo.runtime_wire import Channel, Message, RuntimeFault

_OUTPUT_LIMIT = 16 * 1024


class Execs:
    """The commands that run, each with the client that asked for it: they end together."""

    def __init__(self, containers: Containers) -> None:
        self._loop = asyncio.get_running_loop()
        self._containers = containers
        self._execs: dict[int, Channel] = {}

    async def exec(self, channel: Channel, message: Message, fds: list[int]) -> dict[str, int]:
        """Run a command on the caller's descriptors; answers when it ended. Killed if the caller leaves."""
        if len(fds) != 3:
            raise RuntimeFault("BadRequest", "exec needs three descriptors")
        running = self._containers.find(message)
        process = self._containers.process(
            running,
            message["argv"],
            (fds[0], fds[1], fds[2]),
            env=message.get("env"),
            tty=bool(message.get("tty")),
        )
        pid, ended = self._exec(running, process)
        for fd in fds:
            os.close(fd)
        fds.clear()
        self._execs[pid] = channel
        try:
            return {"exitCode": await ended}
        finally:
            self._execs.pop(pid, None)

    def _exec(self, running: Running, process: Process) -> tuple[int, asyncio.Future[int]]:
        try:
            pid = self._containers.spawn(running, process)
        except OSError as error:
            raise RuntimeFault("ExecFailed", str(error.strerror)) from None
        ended: asyncio.Future[int] = self._loop.create_future()
        self._containers.children[pid] = lambda code: None if ended.done() else ended.set_result(code)
        return pid, ended

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout: float) -> Message:
        """``{"exitCode", "output"}``, as a probe needs it; DeadlineExceeded after ``timeout``."""
        running = self._containers.running(container_id)
        if running is None:
            raise RuntimeFault("NotFound", f"container {container_id} is not running")
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        output = bytearray()

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                data = os.read(reader, 65536)
                if not data:
                    self._loop.remove_reader(reader)
                del output[_OUTPUT_LIMIT:]
                output.extend(data)

        try:
            with open(os.devnull, "rb") as null:
                pid, ended = self._exec(
                    running, self._containers.process(running, argv, (null.fileno(), writer, writer))
                )
        except RuntimeFault:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._loop.add_reader(reader, readable)
        try:
            async with asyncio.timeout(timeout):
                code = await ended
            readable()
        except TimeoutError:
            _kill_session(pid)
            raise RuntimeFault(
                "DeadlineExceeded", f"command {list(argv)} timed out after {timeout:g}s"
            ) from None
        finally:
            self._loop.remove_reader(reader)
            os.close(reader)
        return {"exitCode": code, "output": bytes(output[:_OUTPUT_LIMIT]).decode(errors="replace")}

    def client_left(self, channel: Channel) -> None:
        for pid, owner in list(self._execs.items()):
            if owner is channel:
                _kill_session(pid)


def _kill_session(pid: int) -> None:
    for number in (signal.SIGHUP, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
