"""The ConfigMap as a file, beside a CoreDNS that is not ours: what a kubelet's volume is in a real cluster.

``python -m controller.dns.mounted FILE PROGRAM ARGUMENT...`` in a pod writes the Corefile of ConfigMap
kube-system/coredns to FILE, starts the program, writes the file anew whenever the ConfigMap changes (the
program's own ``reload`` plugin sees to the rest) and ends as the program ends. Nothing here reads a Corefile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from controller.api.client import Batch, Client, Informer
from controller.api.errors import PodwireError, UserError
from controller.api.incluster import InCluster

CONFIG = ("kube-system", "coredns")
KEY = "Corefile"


class Mounted:
    """Keeps ``file`` as the ConfigMap has it; as it was when the ConfigMap or its key is gone.
    ``written`` is called after each write."""

    def __init__(self, client: Client, file: Path, written: Callable[[], None]) -> None:
        self._file, self._written = file, written
        namespace, name = CONFIG
        self._informer = Informer(
            client,
            ["ConfigMap"],
            self._on_batch,
            namespaces={"ConfigMap": namespace},
            fields={"ConfigMap": f"metadata.name={name}"},
        )

    def start(self) -> Mounted:
        self._informer.start()
        return self

    def stop(self) -> None:
        self._informer.stop()

    def _on_batch(self, batch: Batch) -> None:
        texts = [
            event.obj["data"][KEY]
            for event in batch.events
            if event.type != "DELETED" and KEY in (event.obj.get("data") or {})
        ]
        if texts:
            beside = self._file.with_name(f".{self._file.name}")
            beside.write_text(texts[-1], encoding="utf-8")
            beside.replace(self._file)  # who reads sees one or the other
            self._written()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m controller.dns.mounted", description=__doc__)
    parser.add_argument("--api", help="the API server's Unix socket (default: as a pod, over TLS)")
    parser.add_argument("file", type=Path)
    parser.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    client = Client(arguments.api, "podwire-mounted") if arguments.api else InCluster("podwire-mounted")
    there = threading.Event()
    mounted = Mounted(client, arguments.file, there.set).start()
    try:
        return _run(arguments.program, there)
    finally:
        mounted.stop()


def _run(program: Sequence[str], there: threading.Event) -> int:
    """Start the program once its file is there, pass signals on; its exit status, as a shell has it."""
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def stop(number: int, _: object) -> None:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        if not started:
            early.append(number)
            there.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    there.wait()  # as a container waits for its volume
    if early:
        return 128 + early[0]
    with subprocess.Popen(program) as process:
        started.append(process)
        for missed in early:  # while it was being started
            process.send_signal(missed)
        code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        code = main()
    except (OSError, PodwireError, UserError) as error:
        print(f"mounted: {error}", file=sys.stderr)
        code = 2
    sys.stdout.flush()
    os._exit(code)  # the informer's threads may sit in a read
