"""One HTTP GET from inside a light pod: its resolver, its namespace, a connection of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from topo.images.resolver import ResolvConf, ResolveError, resolve

if TYPE_CHECKING:
    from topo.images.light import Host

_LIMIT = 1 << 20


class FetchError(Exception):
    """No answer; ``str`` is fit to be shown on a page."""


async def fetch(host: Host, url: str, *, timeout: float = 15) -> tuple[int, bytes]:
    """``(status, body)``; FetchError when the name, the connection or the answer fails."""
    parts = urlsplit(url)
    files = host.container.files
    try:
        name, port = parts.hostname or "", parts.port or 80
    except ValueError:
        raise FetchError(f"{url} is not a URL") from None
    conf = ResolvConf.parse(files.get("/etc/resolv.conf", ""))
    try:
        async with asyncio.timeout(timeout):
            address = await resolve(
                name, hosts=files.get("/etc/hosts", ""), conf=conf, make_socket=host.new_socket
            )
            return await _get(host, address, port, parts.netloc, parts.path or "/")
    except ResolveError as error:
        raise FetchError(f"Failed to resolve '{name}' ({error})") from None
    except TimeoutError:
        raise FetchError(f"{parts.netloc}: no answer within {timeout:g} s") from None
    except OSError as error:
        number = error.errno or 0
        raise FetchError(
            f"Failed to connect to {parts.netloc} ([Errno {number}] {os.strerror(number)})"
        ) from None
    except ValueError as error:
        raise FetchError(f"{parts.netloc}: {error}") from None


async def _get(host: Host, address: str, port: int, netloc: str, path: str) -> tuple[int, bytes]:
    sock = host.new_socket(socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=_LIMIT)
    except BaseException:
        sock.close()
        raise
    try:
        # HTTP/1.0: the answer ends where the connection does, no chunks
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {netloc}\r\nAccept: */*\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    return int(words[1]), body
