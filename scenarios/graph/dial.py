"""Runs inside a pod: resolves names and connects, and prints what came of it. Sent there as text.

Only the standard library, and nothing of podwire: the pod has the machine's Python and no more. The one
argument is a JSON list of [host, port, protocol]; the answer is a JSON list of objects in the same order.
"""

import json
import os
import socket
import sys
import threading
import time

SECONDS = 12.0
"""After that the rest is given up: a resolver asks twice, for five seconds each time."""

CONNECT_SECONDS = 3.0
_NO_NAME = {socket.EAI_NONAME: "NXDOMAIN", -5: "NXDOMAIN", socket.EAI_AGAIN: "no answer from DNS"}


def dial(host: str, port: int, protocol: str) -> dict[str, object]:
    """Outcome, address and milliseconds: of the name alone, and of both."""
    udp = protocol == "UDP"
    began = time.monotonic()
    try:
        found = socket.getaddrinfo(host, port or 1, type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {"outcome": _NO_NAME.get(error.errno or 0, str(error.strerror)), "name_ms": _since(began)}
    name_ms, address = _since(began), found[0][4][0]
    told: dict[str, object] = {"address": address, "name_ms": name_ms}
    if not port:
        return {**told, "outcome": "resolves"}
    if protocol not in ("TCP", "UDP"):
        return {**told, "outcome": "resolves; podwire tries no " + protocol}
    began = time.monotonic()
    with socket.socket(found[0][0], found[0][1]) as sock:
        sock.settimeout(1.0 if udp else CONNECT_SECONDS)
        try:
            sock.connect(found[0][4])
            if udp:
                sock.send(b"podwire\n")
                sock.recv(1500)
            outcome = "ok"
        except ConnectionRefusedError:
            outcome = "refused"
        except TimeoutError:
            outcome = "sent; UDP, no answer" if udp else "no answer"
        except OSError as error:
            outcome = os.strerror(error.errno).lower() if error.errno else str(error)
    return {**told, "outcome": outcome, "ms": _since(began)}


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 2)


def main(targets: list[list[object]]) -> None:
    """At most eight at a time; what is not done in time is told as such."""
    answers: list[dict[str, object]] = [{"outcome": "no answer from DNS"} for _ in targets]
    waiting = list(enumerate(targets))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                at, (host, port, protocol) = waiting.pop(0)
            answers[at] = dial(str(host), int(str(port)), str(protocol))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(8, len(targets)))]
    end = time.monotonic() + SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    print(json.dumps(answers), flush=True)
    os._exit(0)  # a resolver that still waits keeps nobody


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
