"""A command in a container, with the client's streams as its input and output.

The API server asks the container runtime, as a kubelet does for it in a real cluster, on the Unix socket
beside its own, and hands it the ends of pipes or of a terminal. The runtime starts the process inside the
pod and tells how it ended; when this connection goes, the process goes. No HTTP here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import json
import os
import pty
import socket
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from controller.api.errors import ApiError
from controller.api.history import encode
from controller.api.objects import Obj
from controller.api.proxy import unavailable
from controller.api.status import status_of
from controller.api.streams import (
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    ExecRequest,
    Stream,
    Tasks,
)

Streams = Mapping[int, Stream]
_CHUNK = 1 << 17
"""Bytes of one piece, and of a pipe: larger ones cost fewer turns of the loop."""
_NOBODY = 65534
"""Who most pods' processes are: they may open /dev/stdout again."""
_MOST_ANSWER = 1 << 20


async def ask_runtime(
    path: Path, message: Obj, fds: Sequence[int] = ()
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send one request; its answers come as lines. 503 when no runtime is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
        data = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(sock, [data], list(fds)) if fds else sock.send(data)
        sock.sendall(data[sent:])
        return await asyncio.open_unix_connection(sock=sock, limit=_MOST_ANSWER)
    except OSError as error:
        sock.close()
        raise unavailable(f"no container runtime answers: {error.strerror}") from None


async def answer_of(reader: asyncio.StreamReader) -> Obj:
    """The answer (``{"result"}`` or ``{"error"}``), past events of others."""
    while line := await reader.readline():
        message: Obj = json.loads(line)
        if "result" in message or "error" in message:
            return message
    return {"error": {"reason": "RuntimeGone", "message": "the container runtime went away"}}


async def run(request: ExecRequest, streams: Streams, runtime: Path) -> None:
    """Run the command to its end and tell the client how it ended."""
    try:
        status = await _run(request, streams, runtime)
    except ApiError as error:
        status = _internal(str(error))
    await tell(streams, status)


async def tell(streams: Streams, status: Obj) -> None:
    """End every output, then say how it went."""
    for channel in (STDOUT, STDERR):
        if channel in streams:
            await streams[channel].finish()
    await streams[ERROR].write(encode(status))
    await streams[ERROR].finish()


SUCCESS: Obj = {"metadata": {}, "status": "Success"}


async def _run(request: ExecRequest, streams: Streams, runtime: Path) -> Obj:
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        ends, given = _terminal(ours, theirs) if request.tty else _pipes(request, ours, theirs)
        message = {
            "id": 1, "method": "exec", "namespace": request.namespace, "pod": request.pod,
            "container": request.container, "argv": list(request.argv), "tty": request.tty,
            "env": {"TERM": "xterm"} if request.tty else {},
        }  # fmt: skip
        reader, writer = await ask_runtime(runtime, message, given)
        theirs.close()
        try:
            async with Tasks() as tasks:
                outputs = [
                    _Output(ends[channel].fileno(), streams[channel])
                    for channel in (STDOUT, STDERR)
                    if channel in streams
                ]
                pouring = [tasks.start(output.pour()) for output in outputs]
                if STDIN in streams:
                    tasks.start(_feed(ends[STDIN], streams[STDIN], tty=request.tty))
                if RESIZE in streams:
                    tasks.start(_resize(ends[STDOUT].fileno(), streams[RESIZE]))
                answer = await answer_of(reader)
                for output in outputs:
                    output.end()
                if pouring:
                    await asyncio.wait(pouring)
        finally:
            writer.close()
    return _status(answer)


def _status(answer: Obj) -> Obj:
    if "error" in answer:
        return _internal(answer["error"]["message"])
    code = answer["result"]["exitCode"]
    if code == 0:
        return SUCCESS
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _internal(text: str) -> Obj:
    message = f"Internal error occurred: error executing command in container: {text}"
    return status_of(500, "InternalError", message)


Ends = tuple[dict[int, io.FileIO], list[int]]
"""Ours by channel, and the three descriptors for the process."""


def _terminal(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> Ends:
    master, slave = pty.openpty()
    theirs.callback(os.close, slave)
    file = ours.enter_context(io.FileIO(master, "r+"))
    os.set_blocking(master, False)
    os.fchown(slave, _NOBODY, _NOBODY)
    return {STDIN: file, STDOUT: file}, [slave] * 3


def _pipes(request: ExecRequest, ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> Ends:
    """A pipe for each stream that the client has, /dev/null for the others."""
    found: dict[int, io.FileIO] = {}
    given = []
    for channel in (STDIN, STDOUT, STDERR):
        if channel not in request.channels:
            given.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            theirs.callback(os.close, given[-1])
            continue
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # its user's pipes are too many already: a shorter one will do
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _CHUNK)
        mine, its = (writer, reader) if channel == STDIN else (reader, writer)
        found[channel] = ours.enter_context(io.FileIO(mine, "w" if channel == STDIN else "r"))
        os.set_blocking(mine, False)
        os.fchown(its, _NOBODY, _NOBODY)
        given.append(its)
        theirs.callback(os.close, its)
    return found, given


class _Output:
    """From a descriptor to a stream, until its end or, once ``end`` was called, until it is empty: a
    process that was left behind may hold it open."""

    def __init__(self, fd: int, stream: Stream) -> None:
        self._fd, self._stream, self._over = fd, stream, False
        self._loop, self._readable = asyncio.get_running_loop(), asyncio.Event()

    def end(self) -> None:
        self._over = True
        self._readable.set()

    async def pour(self) -> None:
        while True:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                if self._over:
                    return
                await self._wait()
                continue
            except OSError:  # EIO: nobody has the terminal open
                return
            if not data:
                return
            await self._stream.write(data)
            await asyncio.sleep(0)  # others live here too

    async def _wait(self) -> None:
        self._loop.add_reader(self._fd, self._readable.set)
        try:
            await self._readable.wait()
        finally:
            self._loop.remove_reader(self._fd)
        if not self._over:
            self._readable.clear()


async def _feed(file: io.FileIO, stream: Stream, *, tty: bool) -> None:
    """From a stream to a descriptor; at its end a pipe is closed, a terminal gets ^D."""
    fd = file.fileno()
    try:
        while data := await stream.read():
            left = memoryview(data)
            while left:
                try:
                    left = left[os.write(fd, left) :]
                except BlockingIOError:
                    await _writable(fd)
                except OSError:  # it reads no more
                    await stream.drop()
                    return
        if tty:
            with contextlib.suppress(OSError):
                os.write(fd, b"\x04")
    finally:
        if not tty:
            file.close()


async def _writable(fd: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(fd)


async def _resize(terminal: int, stream: Stream) -> None:
    async for size in sizes(stream):
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(terminal, size)


async def sizes(stream: Stream) -> AsyncIterator[tuple[int, int]]:
    """Rows and columns of ``{"Width":80,"Height":24}``, one by one; what is no size is passed over."""
    text = ""
    while data := await stream.read():
        text = (text + data.decode(errors="replace")).lstrip()[-4096:]
        while text:
            try:
                size, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            with contextlib.suppress(TypeError, KeyError, ValueError):
                rows, columns = int(size["Height"]), int(size["Width"])
                if 0 <= rows < 1 << 16 and 0 <= columns < 1 << 16:
                    yield rows, columns
