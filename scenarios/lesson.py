"""What a lesson is written with, and how it is run.

A lesson is a module of this folder with a docstring, ``NODES`` (the fewest it needs) and one function::

    def tell(lesson: Lesson) -> None:
        with lesson.step("A static port on every node"):
            lesson.quote("The NodePort service allows to open a static port on all nodes.")
            with lesson.watch() as seen:
                answer = lesson.run(lesson.client1, "curl -s http://192.168.49.2:30000/")
            lesson.packets(seen.to("192.168.49.2", 30000))
            lesson.flows(seen, "node1", "frontend-node")
            lesson.check_says("the page came", "Frontend", seen=answer.stdout)

Everything shown was captured, counted or answered meanwhile. Nothing here knows what a Service is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from controller.api.errors import ApiError, NotFound, NotSettled, UsageError
from controller.api.objects import Obj
from scenarios.evidence import Connection, Journey
from scenarios.names import Directory
from scenarios.narrate import Narrator
from scenarios.output import Output
from scenarios.result import Check, Command, Event, FlowRow, Flows, Result, Step, Table, Text, story

if TYPE_CHECKING:
    import subprocess

    from scenarios.watch import Seen
    from topo.lab import Lab

MANIFESTS = Path(__file__).parent / "manifests"


class Host(Protocol):
    """Where a command can run: a pod, a node, a client."""

    @property
    def name(self) -> str: ...

    def run(
        self, command: str | Sequence[str], *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]: ...


class Lesson:
    """A lesson while it is told: what it runs, sees and concludes is printed and kept."""

    def __init__(self, lab: Lab, result: Result, narrator: Narrator, out: Output | None = None) -> None:
        self.lab, self.result, self.narrator, self.out = lab, result, narrator, out
        self._names = Directory()
        self._frames = self._bad = self._missed = 0

    # What is said.

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A chapter. Steps follow each other and are never nested. One that looks for packets which no link
        has seen ends there, as a failed check, and the lesson goes on."""
        step = Step(title=title)
        self.result.steps.append(step)
        self.narrator.step(step)
        try:
            yield
        except LookupError as error:
            self._check("what this step looks at was seen", False, "packets there and back", str(error))

    def quote(self, text: str) -> None:
        """A sentence of the book that this step is about."""
        self._add(Text(text=text, quote=True))

    def say(self, text: str) -> None:
        self._add(Text(text=text))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self._add(Table(columns=tuple(columns), rows=tuple(tuple(map(str, row)) for row in rows)))

    # What is done.

    def run(self, host: Host, command: str, *, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """A command in a pod, on a node or a client; it may fail, which is for the checks to judge."""
        done = host.run(shlex.split(command), timeout=timeout)
        self._add(Command(where=host.name, command=command, status=done.returncode, output=_output(done)))
        return done

    def lab_command(self, command: str) -> str:
        """A ``./lab`` command, as from a second terminal; returns what it printed."""
        import subprocess

        argv = [sys.executable, "-m", "scenarios", *shlex.split(command)]
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=root)
        text = (done.stdout + done.stderr).strip()
        self._add(Command(where="host", command=f"./lab {command}", status=done.returncode, output=text))
        return text

    def apply(self, *manifests: str | Obj) -> list[Obj]:
        """Apply manifests of ``scenarios/manifests`` (or objects) and wait until they are in force."""
        wanted = [MANIFESTS / m if isinstance(m, str) else m for m in manifests]
        applied = self.lab.apply(*wanted)
        self.lab.settle()
        words = " ".join(m if isinstance(m, str) else _title(m) for m in manifests)
        said = "\n".join(f"{_title(obj)} is in force" for obj in applied)
        self._add(Command(where="api", command=f"apply {words}", status=0, output=said))
        return applied

    def refused(self, obj: Obj) -> str:
        """Apply an object that the API server should refuse; returns its words, empty when it took it."""
        try:
            self.lab.client.create(obj)
            words = ""
        except ApiError as error:
            words = str(error)
        said = words or f"{_title(obj)} created"
        self._add(Command(where="api", command=f"apply {_title(obj)}", status=int(bool(words)), output=said))
        return words

    def refused_patch(self, kind: str, name: str, patch: Obj) -> str:
        """Change an object in a way that the API server should refuse; its words, or nothing."""
        try:
            self.lab.client.patch(kind, name, patch)
            words = ""
        except ApiError as error:
            words = str(error)
        command = f"patch {kind.lower()}/{name} -p '{json.dumps(patch)}'"
        said = words or f"{kind.lower()}/{name} patched"
        self._add(Command(where="api", command=command, status=int(bool(words)), output=said))
        return words

    def scale(self, deployment: str, replicas: int, namespace: str = "default") -> None:
        """Change a Deployment's replicas and wait until that is in force."""
        self.lab.client.patch("Deployment", deployment, {"spec": {"replicas": replicas}}, namespace)
        self.lab.settle()
        command = f"scale deployment/{deployment} --replicas={replicas}"
        self._add(Command(where="api", command=command, status=0, output=f"deployment/{deployment} scaled"))

    def patch(self, kind: str, name: str, patch: Obj) -> Obj:
        """Change an object by a merge patch and wait until that is in force."""
        changed = self.lab.client.patch(kind, name, patch)
        self.lab.settle()
        command = f"patch {kind.lower()}/{name} -p '{json.dumps(patch)}'"
        said = f"{kind.lower()}/{name} patched"
        self._add(Command(where="api", command=command, status=0, output=said))
        return changed

    def delete(self, kind: str, *names: str, grace: int | None = None) -> None:
        """Delete objects (a pod: in its own time unless ``grace`` says otherwise); settled at return."""
        for name in names:
            self.lab.client.delete(kind, name, "default", grace=grace)
        self.lab.settle()
        what = " ".join(f"{kind.lower()}/{name}" for name in names)
        options = "" if grace is None else f" --grace-period={grace}"
        said = "\n".join(f'{kind.lower()} "{name}" deleted' for name in names)
        self._add(Command(where="api", command=f"delete {what}{options}", status=0, output=said))

    def wait_for(self, kind: str, name: str, condition: Callable[[Obj], bool], timeout: int = 30) -> None:
        """Wait until an object is so, by watching it; then until everybody has handled that."""
        field = f"metadata.name={name}"
        stream = self.lab.client.watch(kind, "default", fields=field, timeoutSeconds=str(timeout))
        try:
            if not any(condition(event["object"]) for event in stream):
                raise NotSettled(
                    f"{kind} {name} did not come to the state this lesson waits for in {timeout} s"
                )
        finally:
            stream.close()
        self.lab.settle()

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 15) -> None:
        """Wait for what only a timer brings, by looking; ``what`` names it when it does not come."""
        end, pace = time.monotonic() + timeout, threading.Event()
        while not condition():
            if time.monotonic() > end:
                raise NotSettled(f"after {timeout:g} s still not: {what}")
            pace.wait(0.05)

    def names_resolve(self) -> bool:
        """Wait until the cluster's DNS answers; False in a lab that is to have none (``--dns none``)."""
        if self.lab.config.dns == "none":
            self.say("This lab was started without a cluster DNS, so nothing is asked for by name.")
            return False
        self.lab.wait_dns()
        return True

    def wait_gone(self, kind: str, name: str, timeout: int = 30) -> None:
        """Wait until an object that is being deleted is no more; then until everybody has handled that."""
        try:
            version = self.lab.client.get(kind, name, "default")["metadata"]["resourceVersion"]
        except NotFound:
            self.lab.settle()
        field = f"metadata.name={name}"
        watch = self.lab.client.watch
        stream = watch(kind, "default", fields=field, resource_version=version, timeoutSeconds=str(timeout))
        try:
            if not any(event["type"] == "DELETED" for event in stream):
                raise NotSettled(f"{kind} {name} is still there after {timeout} s")
        finally:
            stream.close()
        self.lab.settle()

    # What is seen.

    @contextmanager
    def watch(self, *links: str) -> Iterator[Seen]:
        """Record packets (on all links unless named) and flow counters while something happens."""
        from scenarios import watch

        self._names = self.names()
        with watch.watch(self.lab, links) as seen:
            yield seen
        self._names = self.names()
        self._frames += len(seen.packets)
        self._bad += len(seen.bad_checksums)
        self._missed += sum(seen.capture.dropped.values())
        if self.out:
            name = f"{self.result.lesson}-{len(self.result.captures) + 1:02}.pcapng"
            watch.write(seen, self.out.path(name), self._names)
            self.result.captures.append(self.out.wrote(name))

    def names(self) -> Directory:
        """Who is behind which address now, and who was."""
        client, plan = self.lab.client, self.lab.plan
        objects = [obj for kind in ("Node", "Pod", "Service") for obj in client.list(kind)[0]]
        hosts = {str(value): host.name for host in plan.outside for value in host.addresses}
        return Directory(objects, hosts | self.lab_addresses()).remember(self._names)

    @staticmethod
    def lab_addresses() -> dict[str, str]:
        from controller.api.wiring import RANGES
        from topo.plan import FABRIC, FABRIC_ADDRESS, in_family

        return {str(in_family(FABRIC_ADDRESS, family)): FABRIC for family in RANGES}

    def packets(
        self, connection: Connection, title: str = "", *, only: Sequence[Journey] | None = None
    ) -> None:
        """Show a connection: its first packet each way, or ``only`` these."""
        self._add(story(connection, self._names, title=title, only=only))

    def flows(self, seen: Seen, node: str, service: str) -> int:
        """Show the flows of a node that chose and translated meanwhile; how many packets they handled.

        ``service`` is a name in default, or NAMESPACE/NAME; flows of others are left out, not the node's own.
        """
        from scenarios import flows

        namespace, _, called = service.rpartition("/")
        rows = tuple(
            FlowRow(
                table=flow.table,
                priority=flow.priority,
                match=flow.match,
                actions=flow.actions,
                packets=flow.packets,
                because=flows.because(flow),
                why=flow.why,
            )
            for flow in seen.flows.get(node, ())
            if flow.table in flows.DECIDE
            and flow.priority
            and (
                flow.concerns(namespace or "default", called)
                or (not flow.users and not flow.cause.startswith("Service"))
            )
        )
        self._add(Flows(node=node, flows=rows))
        return sum(row.packets for row in rows)

    def memory(self, seen: Seen, connection: Connection) -> None:
        """Show what the nodes remember of a connection, so that its later packets need no choice."""
        asked = str(connection.asked.src)
        mine = [entry for entry in seen.remembered if entry.client == asked]
        served = str(connection.served.dst)
        self.table(
            ("node", "zone", "what conntrack remembers"),
            [(entry.node, entry.zone, entry.why) for entry in mine if entry.endpoint == served],
        )

    # What is concluded.

    def check(self, name: str, *, expected: object, seen: object) -> bool:
        """True when both are equal."""
        return self._check(name, expected == seen, str(expected), str(seen))

    def check_says(self, name: str, words: str, *, seen: str) -> bool:
        """True when a text holds these words; only they are shown when it does."""
        return self._check(name, words in seen, words, words if words in seen else seen)

    def check_that(self, name: str, true: bool, *, expected: str, seen: object) -> bool:
        """For what is not an equality: ``expected`` says in words what should have been."""
        return self._check(name, true, expected, str(seen))

    def finish(self) -> None:
        """The last step of every lesson: was the evidence itself in order."""
        if not self._frames:
            return
        with self.step("The evidence itself"):
            links = len(self.lab.links())
            self.say(f"{self._frames} frames were captured on up to {links} links.")
            self.check("every checksum in every captured packet is right", expected=0, seen=self._bad)
            self.check("no packet was missed by the captures", expected=0, seen=self._missed)

    def _check(self, name: str, ok: bool, expected: str, seen: str) -> bool:
        self._add(Check(name=name, ok=ok, expected=_short(expected), seen=_short(seen)))
        return ok

    def _add(self, event: Event) -> None:
        assert self.result.steps, "a lesson speaks within a step"
        self.result.steps[-1].events.append(event)
        self.narrator.event(event)


def main(name: str, options: argparse.Namespace) -> int:
    """Run one lesson by the command line's options: builds the sandbox, tells, ends everything."""
    from scenarios.cli_labs import cluster_config
    from topo import sandbox

    module = importlib.import_module(f"scenarios.{name}")
    family = getattr(module, "IP_FAMILY", "ipv4")
    config = cluster_config(options, clients=getattr(module, "CLIENTS", 1), ip_family=family)
    needed = getattr(module, "NODES", 1)
    if config.nodes < needed:
        raise UsageError(f"--nodes {config.nodes}: this lesson needs at least {needed} nodes")
    if family == "dual" != config.ip_family:
        raise UsageError(f"--ip-family {config.ip_family}: this lesson needs both families")
    getattr(module, "prepare", lambda: None)()  # what has to be so before there is a lab
    out = Output(options.out) if options.out else None
    sandbox.enter(lambda: _tell(module, config, options, out), name=options.name)


def _tell(module: Any, config: Any, options: argparse.Namespace, out: Output | None) -> int:
    from topo.lab import Lab

    name = module.__name__.rpartition(".")[2]
    narrator = Narrator(sys.stderr if options.json else sys.stdout, quiet=options.quiet)
    result = Result(lesson=name)
    start = time.monotonic()
    unstarted = Lab(config, log=narrator.line)
    narrator.title(name, unstarted.facts(), (module.__doc__ or "").splitlines()[0])
    with unstarted as lab:
        result.lab = {
            "nodes": config.nodes,
            "clients": config.clients,
            "datapath": lab.ovs.datapath,
            "controller": config.controller,
            "ipFamily": config.ip_family,
            "seconds": round(time.monotonic() - start, 3),
        }
        lesson = Lesson(lab, result, narrator, out)
        module.tell(lesson)
        lesson.finish()
        result.seconds = time.monotonic() - start
        if out:
            result.captures.append(out.name("result.json"))
            out.path("result.json").write_text(
                json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8"
            )
            out.wrote("result.json")
        narrator.summary(result)
        if options.json:
            print(json.dumps(result.as_json(), indent=2))
        if options.cli:
            from topo import cli

            cli.run(lab.network)
    return 0 if result.ok else 1


def _title(obj: Obj) -> str:
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def _output(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout or "") + (done.stderr or "")


def _short(text: str, most: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
