"""Commands in a running lab: ``get``, ``exec``, ``ssh``, ``flows``, ``url``, ``capture``, ``graph`` ...

Each runs itself once more inside the lab's sandbox, where the API's socket, the namespaces and the
switches are at hand. They are users like any other: nothing here reaches into the lab's process.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.api.errors import NotFound, UsageError
from controller.api.objects import Obj
from scenarios import catalogue, inside
from scenarios.cli_labs import require_pod

_Command = Callable[[argparse.Namespace], int]


def _inside(command: _Command) -> _Command:
    """The command, run in the lab's sandbox wherever it was typed."""

    @functools.wraps(command)
    def run(options: argparse.Namespace) -> int:
        if inside.here(options.lab):
            return command(options)
        return inside.send(options.lab, "scenarios", options.argv)

    return run


def client() -> Any:
    """The API of the lab around us."""
    from controller.api.client import Client
    from topo import sandbox

    return Client(sandbox.run_dir() / "api.sock", user_agent="podwire-cli")


@_inside
def _get(options: argparse.Namespace) -> int:
    from scenarios import cli_get
    from topo import sandbox

    return cli_get.get(sandbox.run_dir() / "api.sock", options)


@_inside
def _exec(options: argparse.Namespace) -> int:
    from topo import sandbox
    from topo.lab_state import RUNTIME, LabState
    from topo.netns import Netns
    from topo.runtime_client import RuntimeClient

    pods = {obj["metadata"]["name"]: obj for obj in client().list("Pod", options.namespace)[0]}
    known = LabState.load(sandbox.run_dir()).hosts
    hosts = {name for name, host in known.items() if host["kind"] != "pod"}
    target = _target(options.target, options.namespace, pods)
    tty = sys.stdin.isatty()
    if target in pods:
        command = options.command or ["sh"]
        runtime = RuntimeClient(sandbox.run_dir() / RUNTIME)
        return runtime.attach(target, command, namespace=options.namespace, tty=tty)
    require_pod(target, dict.fromkeys(hosts | set(pods)))
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    os.environ["PYTHONPATH"] = str(inside.CHECKOUT)
    os.environ["PS1"] = f"{target} \\w \\$ "
    command = options.command or ["bash", "--norc"]
    with Netns.open(target).enter():
        try:
            os.execvp(command[0], command)
        except OSError as error:
            raise UsageError(f"{target}: cannot run `{command[0]}`: {error.strerror}") from None


def _target(word: str, namespace: str, pods: dict[str, Obj]) -> str:
    """``pod/NAME``, ``deploy/NAME`` (its first pod), ``node/NAME`` or a plain name."""
    kind, slash, name = word.rpartition("/")
    if kind in ("deploy", "deployment", "deployments"):
        try:
            deployment = client().get("Deployment", name, namespace)
        except NotFound as error:
            raise UsageError(str(error)) from None
        labels = deployment["spec"]["selector"].get("matchLabels") or {}
        mine = [
            p for p, obj in pods.items() if labels.items() <= (obj["metadata"].get("labels") or {}).items()
        ]
        if not mine:
            raise UsageError(f"deployment `{name}` has no pods")
        return min(mine)
    return name if slash else word


@_inside
def _ssh(options: argparse.Namespace) -> int:
    nodes = {node["metadata"]["name"] for node in client().list("Node")[0]}
    if options.target not in nodes:
        hint = catalogue.nearest(options.target, nodes)
        raise UsageError(f"there is no node `{options.target}`.{hint} Known are {', '.join(sorted(nodes))}.")
    return _exec(options)


@_inside
def _url(options: argparse.Namespace) -> int:
    from scenarios import url

    namespace, _, name = options.service.rpartition("/")
    service = client().get("Service", name, namespace or "default")
    addresses = url.node_urls(service, client().list("Node")[0])
    if not options.local:
        print("\n".join(addresses))
        return 0
    return url.serve(addresses, options.netns)


def _url_outside(options: argparse.Namespace) -> int:
    """A loopback listener is the caller's: its namespace goes along as a descriptor."""
    if options.local and options.netns is None:
        fd = os.open("/proc/self/ns/net", os.O_RDONLY)
        os.set_inheritable(fd, True)
        options.argv = [*options.argv, "--netns", str(fd)]
    return _url(options)


@_inside
def _flows(options: argparse.Namespace) -> int:
    from scenarios import flows

    return flows.show(client(), options.node, service=options.service, raw=options.raw)


@_inside
def _capture(options: argparse.Namespace) -> int:
    from scenarios import cli_capture

    return cli_capture.run(client(), options)


def _capture_outside(options: argparse.Namespace) -> int:
    """The output file is opened where the user is, and goes along as a descriptor."""
    from scenarios import cli_capture

    if options.out and options.fd is None:
        options.fd = cli_capture.open_output(options.out)
        options.argv = [*options.argv, "--fd", str(options.fd)]
    return _capture(options)


@_inside
def _graph(options: argparse.Namespace) -> int:
    from scenarios import cli_graph

    return cli_graph.of_lab(client(), options)


def _graph_outside(options: argparse.Namespace) -> int:
    """Of files it needs no lab; of a lab the output file is opened here, where the user is."""
    from scenarios import cli_graph

    cli_graph.check(options)
    if options.files:
        return cli_graph.of_files(options)
    if options.out and options.fd is None and not inside.here(options.lab):
        options.fd = cli_graph.open_output(options.out)
        options.argv = [*options.argv, "--fd", str(options.fd)]
    return _graph(options)


@_inside
def _tunnel(options: argparse.Namespace) -> int:
    from scenarios import cli_tunnel
    from topo import sandbox

    return cli_tunnel.run(client(), sandbox.name())


COMMANDS: dict[str, _Command] = {
    "get": _get,
    "exec": _exec,
    "ssh": _ssh,
    "url": _url_outside,
    "flows": _flows,
    "capture": _capture_outside,
    "graph": _graph_outside,
    "tunnel": _tunnel,
}
