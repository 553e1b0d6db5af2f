"""The container runtime: what containerd is to a real kubelet, a process with a Unix socket.

``python -m topo.runtime serve --socket S --dir D [--log-dir L]`` prints ``ready`` when it answers.
``python -m topo.runtime exec [-t] [-n NS] [-c CONTAINER] POD -- CMD ...`` runs a command in a pod.

Single-threaded on purpose: it forks. Light images run in its child (``runtime_light``); process
images and every exec run in boxes (``runtime_box``), made when first needed. What a pod is, when it
restarts and what its status says is the kubelet's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from topo import linux
from topo.images.image import Container
from topo.runtime_containers import Containers
from topo.runtime_exec import Execs
from topo.runtime_volumes import release
from topo.runtime_wire import Channel, Message, RuntimeFault, listen

log = logging.getLogger("runtime")


class Server:
    """Answers ``start``, ``stop``, ``exec``, ``exec_sync``, ``input``, ``release`` and ``list``; tells
    everyone of exits."""

    def __init__(self, sock: socket.socket, directory: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._channels: set[Channel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.containers = Containers(directory, on_exit=self._tell)
        self.execs = Execs(self.containers)
        self._sock = sock
        self._loop.add_reader(sock, self._accept)
        self._loop.add_signal_handler(signal.SIGCHLD, self.containers.reap)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._sock.accept()
            self._channels.add(Channel(sock, on_message=self._on_message, on_close=self._on_close))

    def _on_close(self, channel: Channel) -> None:
        self._channels.discard(channel)
        self.execs.client_left(channel)

    def _tell(self, event: Message) -> None:
        for channel in list(self._channels):
            channel.send(event)

    def _on_message(self, channel: Channel, message: Message, fds: list[int]) -> None:
        task = asyncio.ensure_future(self._answer(channel, message, fds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, channel: Channel, message: Message, fds: list[int]) -> None:
        answer: Message = {"id": message.get("id")}
        try:
            answer["result"] = await self._do(channel, message, fds)
        except RuntimeFault as fault:
            answer["error"] = {"reason": fault.reason, "message": fault.message}
        except Exception as error:
            log.exception("%s failed", message.get("method"))
            answer["error"] = {"reason": "RuntimeError", "message": f"{type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        channel.send(answer)

    async def _do(self, channel: Channel, message: Message, fds: list[int]) -> object:
        match message["method"]:
            case "start":
                return await self.containers.start([Container.from_json(c) for c in message["containers"]])
            case "stop":
                return await self.containers.stop(message["ids"], message["grace"])
            case "exec":
                return await self.execs.exec(channel, message, fds)
            case "exec_sync":
                return await self.execs.exec_sync(message["container"], message["argv"], message["timeout"])
            case "input":
                await self.containers.input(message)
                return None
            case "release":
                release(self.containers.volumes, message["uid"])
                return None
            case "list":
                return self.containers.describe()
        raise RuntimeFault("Unimplemented", f"no method {message['method']}")


async def _serve(path: str, directory: Path) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = Server(listen(path), directory)
    await server.containers.start_light()
    print("ready", flush=True)
    await stopped.wait()
    loop.remove_signal_handler(signal.SIGCHLD)  # our children end now, and nobody wants to know
    server.containers.kill_all()


def serve(arguments: argparse.Namespace) -> int:
    linux.die_with_parent(signal.SIGKILL)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for fd in (int(path.name) for path in Path("/proc/self/fd").iterdir()):
        if fd > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)
    directory = Path(arguments.dir)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(_serve(arguments.socket, directory))
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m topo.runtime", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    server = verbs.add_parser("serve", help="be the container runtime")
    server.add_argument("--socket", required=True)
    server.add_argument("--dir", required=True, help="working directory (box roots, logs)")
    server.set_defaults(run=serve)
    runner = verbs.add_parser("exec", help="run a command in a pod")
    runner.add_argument("--socket", required=True)
    runner.add_argument("-t", "--tty", action="store_true")
    runner.add_argument("-n", "--namespace", default="default")
    runner.add_argument("-c", "--container", default="")
    runner.add_argument("pod")
    runner.add_argument("command", nargs=argparse.REMAINDER)
    runner.set_defaults(run=_exec)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def _exec(arguments: argparse.Namespace) -> int:
    from topo.runtime_client import RuntimeClient

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("exec: give a command after --", file=sys.stderr)
        return 2
    client = RuntimeClient(arguments.socket)
    return client.attach(
        arguments.pod,
        command,
        namespace=arguments.namespace,
        container=arguments.container,
        tty=arguments.tty,
    )


if __name__ == "__main__":
    sys.exit(main())
