"""The kubeproxy process: parse the command line, build the parts, run until told to stop.

``python -m controller.kubeproxy.app --api SOCK [--listen tcp:127.0.0.1:6653] [--backend os-ken|ryu]``
prints ``ready`` when it listens for switches and knows the objects. Nothing but wiring belongs here:
what a switch should hold is the ``proxier``'s business, how it comes to hold it the ``switch``'s.

Imports of the framework and of the API client happen inside ``run``, so that a wrong flag costs nothing.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from controller.api.errors import PodwireError, UsageError
from controller.kubeproxy import ryu_venv

LOG = logging.getLogger("kubeproxy")
KINDS = ("Service", "EndpointSlice", "Pod", "Node")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line."""

    api: Path
    listen: tuple[str, int]
    backend: str
    nodes: frozenset[str]
    read_every: float
    timing: Path | None
    netns_dir: Path | None
    verbose: bool


def parse(arguments: Sequence[str]) -> Options:
    """Raises UsageError; argparse itself exits with 2."""
    parser = argparse.ArgumentParser(prog="kubeproxy", description="kube-proxy by OpenFlow")
    parser.add_argument("--api", type=Path, required=True, help="the API server's Unix socket")
    parser.add_argument("--listen", default="tcp:127.0.0.1:6653", help="tcp:ADDRESS:PORT for the switches")
    parser.add_argument("--backend", choices=("os-ken", "ryu"), default="os-ken")
    parser.add_argument("--nodes", default="", help="only these, with commas; default: every Node")
    parser.add_argument("--read-every", type=float, default=3.0, help="seconds between looks at each switch")
    parser.add_argument("--timing", type=Path, help="append a line of JSON for each change to this file")
    parser.add_argument(
        "--netns-dir", type=Path, help="each node's network namespace by name: health servers stand there"
    )
    parser.add_argument("--verbose", action="store_true", help="print each flow that is sent")
    got = parser.parse_args(arguments)
    return Options(
        api=got.api,
        listen=_address(got.listen),
        backend=got.backend,
        nodes=frozenset(name for name in got.nodes.split(",") if name),
        read_every=got.read_every,
        timing=got.timing,
        netns_dir=got.netns_dir,
        verbose=got.verbose,
    )


def _address(text: str) -> tuple[str, int]:
    scheme, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--listen {text}: write tcp:ADDRESS:PORT, for example tcp:127.0.0.1:6653")
    return host.strip("[]"), int(port)


def run(options: Options) -> int:
    """Until SIGTERM or SIGINT; returns the exit code."""
    from controller.api.client import Client, Informer
    from controller.kubeproxy import backend, hub
    from controller.kubeproxy.health import Health
    from controller.kubeproxy.health_servers import HealthServers, listen_in
    from controller.kubeproxy.metrics import Metrics
    from controller.kubeproxy.notices import Notices
    from controller.kubeproxy.progress import Reporter
    from controller.kubeproxy.settings import Settings
    from controller.kubeproxy.worker import Objects, Worker

    gc.set_threshold(100_000, 50, 1000)  # what is held is long-lived: looking through it all costs pauses
    threading.excepthook = _loud_thread
    timing = options.timing.open("a", buffering=1) if options.timing else None
    client = Client(options.api, user_agent="kubeproxy")
    reporter = Reporter(client)
    settings = Settings(read_every=options.read_every)
    metrics = Metrics()
    health = Health(metrics=metrics)
    names = options.netns_dir
    servers = HealthServers(health, lambda node, port: listen_in(names / node, port)) if names else None

    def report(node: str, version: int) -> None:
        health.updated(node, version, datetime.now(UTC))
        reporter.report(node, version)

    worker = Worker(report, nodes=options.nodes, settings=settings, timing=timing, metrics=metrics)

    notices = Notices(client)

    def objects(batch: Any) -> None:
        for event in batch.events:
            notices.apply(event.type, event.obj)
        if servers is not None:
            for event in batch.events:
                health.apply(event.type, event.obj)
                metrics.heard(event.obj["kind"], time())
            health.queued(batch.resource_version, datetime.now(UTC))
            servers.sync()
        worker.deliver(
            Objects(events=batch.events, resource_version=batch.resource_version, at=monotonic()),
        )

    informer = Informer(client, KINDS, objects, on_error=hub.fail)
    informer.start()  # its first list is under way while the framework is imported
    framework = backend.load(options.backend)
    backend.listen(framework, options.listen, worker.deliver)
    where = f"{options.listen[0]}:{options.listen[1]}"
    LOG.info("kubeproxy runs on %s %s, listens at %s", framework.name, framework.version, where)
    hub.spawn(worker.run)
    hub.spawn(reporter.run)
    hub.spawn(notices.run)
    hub.spawn(_say_ready, worker, options.api)
    if servers is not None:
        hub.spawn(servers.run)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    return 0


def _say_ready(worker: Any, api: Path) -> None:
    while not worker.synced.wait(5):
        LOG.info("waiting for the API server at %s", api)
    print("ready", flush=True)


def _loud_thread(args: threading.ExceptHookArgs) -> None:
    """A thread that is not the hub's (the informer's) failed: the process must not go on without it."""
    from controller.kubeproxy import hub

    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        hub.fail(args.exc_value)


def die_with_parent() -> None:
    """The lab may be killed in any way; then nobody would stop us.

    Not by PR_SET_PDEATHSIG: that fires when the parent's *thread* that started us ends, and the lab
    starts its components from short-lived threads.
    """
    parent = os.getppid()
    if parent:  # 0: the parent is outside our PID namespace, and we end with the namespace
        threading.Thread(target=_end_with, args=(os.pidfd_open(parent),), daemon=True).start()


def _end_with(process: int) -> None:
    select.select([process], [], [])
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """One clear sentence and code 2 for what the user or the machine can mend."""
    die_with_parent()
    # the sandbox' unshare(1) leaves both blocked in all its children
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        options = parse(arguments)
        if options.backend == "ryu":
            ryu_venv.enter("controller.kubeproxy.app", arguments)
        level = logging.DEBUG if options.verbose else logging.INFO
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
        logging.getLogger("kubeproxy").setLevel(level)
        return run(options)
    except PodwireError as error:
        print(f"kubeproxy: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # daemon threads hold locks; an orderly shutdown of the interpreter could wait for them
