"""The one import of aiohttp, made quick: ``from controller.api.aiohttp_web import web``.

aiohttp reads the machine's certificates when it is imported, a quarter of the API server's start; a
server on a Unix socket that is nobody's TLS client needs none. Whatever else runs in this process
finds the environment as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["web"]


@contextmanager
def _without_certificates() -> Iterator[None]:
    words = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    before = {word: os.environ.get(word) for word in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for word, value in before.items():
            if value is None:
                del os.environ[word]
            else:
                os.environ[word] = value


with _without_certificates():
    from aiohttp import web
