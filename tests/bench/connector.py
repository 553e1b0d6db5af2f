"""The programs of bench (d): a client that opens connections as fast as they are answered, and a server.

    connector.py serve PORT
        accepts and closes, for ever
    connector.py connect ADDRESS PORT SECONDS MOST
        prints opened connections (MOST of them end it too), seconds and failures as JSON

Standard library only, and run inside pods by file: nothing of ours is imported. Each connection is a
handshake and an orderly end; the server closes first, so the client's ports are free again at once.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

AT_ONCE = 32
GIVE_UP = 1.0
RESET = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    """Backlog and accept queue are long enough that the server is never what refuses."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(4096)
        while True:
            connection, _ = listener.accept()
            connection.close()


def connect(address: str, port: int, seconds: float, most: int) -> dict[str, float]:
    """AT_ONCE connections under way at any time; one that hangs is counted as failed."""
    poll = select.epoll()
    under_way: dict[int, tuple[socket.socket, float]] = {}
    opened = failed = 0
    target = (address, port)

    def begin(now: float) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex(target)
        # readable: the server's end has come, or an error
        poll.register(sock.fileno(), select.EPOLLIN)
        under_way[sock.fileno()] = (sock, now)

    began = now = time.monotonic()
    end = began + seconds
    for _ in range(AT_ONCE):
        begin(now)
    while now < end and opened + failed < most:
        ready = poll.poll(GIVE_UP)
        now = time.monotonic()
        for descriptor, _events in ready:
            sock, _since = under_way.pop(descriptor)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                failed += 1
            else:
                opened += 1
            sock.close()
            begin(now)
        if not ready:
            for descriptor, (sock, since) in list(under_way.items()):
                if now - since >= GIVE_UP:
                    del under_way[descriptor]
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    sock.close()
                    failed += 1
                    begin(now)
    for sock, _since in under_way.values():
        sock.close()
    return {"opened": opened, "seconds": now - began, "failed": failed}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        address, port, seconds, most = sys.argv[2:]
        print(json.dumps(connect(address, int(port), float(seconds), int(most))))
