"""``./lab capture``: record or print packets on links of a running lab."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from controller.api.errors import PodwireError, UsageError
from scenarios.names import Directory
from scenarios.packet import read


def run(client: Any, options: argparse.Namespace) -> int:
    """Inside the lab's sandbox: until a count, a time or Ctrl-C."""
    from topo import sandbox
    from topo.capture import Capture, keep_timestamps
    from topo.lab import choose_links
    from topo.lab_state import LabState

    state = LabState.load(sandbox.run_dir())
    links = choose_links(state.links, options.links)
    if options.list:
        for link in links:
            print(f"{link.label:<40}{link.interface}")
        return 0
    clock = keep_timestamps()
    try:
        if options.fd is not None and not options.count:
            return _record(Capture, links, options)
        capture = Capture(links)
        with suppress(KeyboardInterrupt), capture:
            objects = [obj for kind in ("Node", "Pod", "Service") for obj in client.list(kind)[0]]
            hosts = {
                address: name
                for name, h in state.hosts.items()
                if h["kind"] in ("client", "router")
                for address in (h["address"], h.get("ipv6", ""))
            }
            print(f"listening on {len(links)} links", file=sys.stderr, flush=True)
            _print(capture, Directory(objects, hosts), options)
        if options.fd is not None:
            capture.write(f"/proc/self/fd/{options.fd}")
        return 0
    finally:
        clock.close()


def _record(capture_class: Any, links: Any, options: argparse.Namespace) -> int:
    """Straight to the file, as the packets come: Wireshark may read along."""
    with open(options.fd, "wb") as file, suppress(KeyboardInterrupt), capture_class(links, stream=file):
        print(f"recording {len(links)} links to {options.out}; Ctrl-C ends it", file=sys.stderr, flush=True)
        threading.Event().wait(options.seconds)
    return 0


def open_output(path: str) -> int:
    """The file as an inheritable descriptor, opened where the user is: the lab hides some directories.

    ``-`` is standard output.
    """
    from topo import sandbox

    try:
        fd = os.dup(1) if path == "-" else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}") from None
    if path != "-":
        sandbox.own_by_user(path)
    os.set_inheritable(fd, True)
    return fd


def _print(capture: Any, names: Directory, options: argparse.Namespace) -> None:
    shown = 0
    end = time.monotonic() + (options.seconds or 1e9)
    while not options.count or shown < options.count:
        more = shown + 1
        try:
            seen = capture.wait_for(lambda seen, n=more: len(seen) >= n, max(0.0, end - time.monotonic()))
        except PodwireError:
            return  # the time is over
        fresh = seen[shown : options.count]
        shown += len(fresh)
        if options.fd is None:
            print("".join(_line(frame, names) for frame in fresh), end="", flush=True)


def _line(frame: Any, names: Directory) -> str:
    packet = read(frame.data, time_ns=frame.time_ns, link=frame.link)
    if packet is None:
        return ""
    stamp = time.strftime("%H:%M:%S", time.localtime(frame.time_ns // 10**9))
    what = f"{packet.tuple5} {packet.protocol} {packet.flags}"
    if packet.on_one_link:
        what = f"{packet.protocol} {packet.src} {packet.flags} {packet.dst}"
    when = f"{stamp}.{frame.time_ns // 1000 % 10**6:06}"
    return f"{when} {frame.link:<24} {frame.direction:<3} {what} TTL {packet.ttl}  {names.between(packet)}\n"
