"""The light child of the container runtime: one process that serves every light container.

A process apart from the runtime, so that a crash here ends the light containers (they are reported
and started again) and not the spawner. Started as ``python -m topo.runtime_light FD`` with one end of
a socket pair. What an image answers is in ``topo.images``; processes are not started here.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import signal
import socket
import sys
from typing import Any

from topo import linux
from topo.images.image import Container
from topo.images.light import Exit, Host, PortInUse, Program
from topo.images.table import find
from topo.runtime_log import Budget
from topo.runtime_wire import Channel, Message

log = logging.getLogger("runtime.light")


class LightServer:
    """Starts and ends light containers on request; tells when one ends by itself."""

    def __init__(self, sock: socket.socket) -> None:
        self._hosts: dict[str, Host] = {}
        self._logs = Budget()
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel = Channel(sock, on_message=self._on_message, on_close=lambda _: self.over.set())

    def _on_message(self, channel: Channel, message: Message, fds: list[int]) -> None:
        if message["method"] == "start":
            task = asyncio.ensure_future(self._start_all(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif message["method"] == "stop":
            for container_id in message["ids"]:
                host = self._hosts.pop(container_id, None)
                if host is not None:
                    host.close()
            channel.send({"id": message["id"], "result": None})

    async def _start_all(self, message: Message) -> None:
        results = [await self._start(Container.from_json(data)) for data in message["containers"]]
        self._channel.send({"id": message["id"], "result": results})
        gc.freeze()

    async def _start(self, container: Container) -> Message | None:
        """None when its sockets are bound, else why not."""
        host = Host(container, on_exit=lambda end: self._exited(container.id, end), logs=self._logs)
        self._hosts[container.id] = host
        try:
            module: Any = importlib.import_module(find(container.image).module)
            program: Program = module.program(container)
            await program.serve(host)
        except PortInUse as error:
            host.exit(1, str(error))
        except Exception as error:
            self._hosts.pop(container.id, None)
            host.close()
            log.exception("container %s of %s/%s", container.name, container.namespace, container.pod)
            return {"reason": "RunContainerError", "message": f"{type(error).__name__}: {error}"}
        return None

    def _exited(self, container_id: str, end: Exit) -> None:
        # A container that dies at once is told of before "start" is answered, so nobody takes it for ready.
        self._hosts.pop(container_id, None)
        self._channel.send(
            {"event": "exited", "container": container_id, "exitCode": end.code, "message": end.message}
        )


async def _serve(fd: int) -> None:
    await LightServer(socket.socket(fileno=fd)).over.wait()


def main() -> None:
    linux.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    import topo.images.agnhost
    import topo.images.backend_flask
    import topo.images.echo
    import topo.images.frontend_streamlit  # noqa: F401

    gc.collect()
    gc.freeze()
    asyncio.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
