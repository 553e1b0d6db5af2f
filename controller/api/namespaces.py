"""Sockets in another network namespace, given by its path. For the TLS port, which is a node's.

``topo.netns`` makes namespaces; the API server stands below ``topo`` and only borrows one.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


def call_in(netns: str, function: Callable[[], _T]) -> _T:
    """Call a short function in a namespace, in a thread that ends with it. OSError when there is none."""

    def inside() -> _T:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(fd, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), netns)
        finally:
            os.close(fd)
        return function()

    with ThreadPoolExecutor(1, "netns") as threads:
        return threads.submit(inside).result()


def listener(netns: str, port: int) -> socket.socket:
    """A TCP listener on every address of a namespace, those it gets later included."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("0.0.0.0", port))
            made.listen(128)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
        return made

    return call_in(netns, listen)
