"""Commands about whole labs: ``list``, ``up``, ``ps``, ``down``, ``shell``, ``kubectl``.

What a lab is made of is ``topo.lab``'s matter; here it is started, kept and ended.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controller.api.errors import MachineError, UsageError
from scenarios import catalogue, cli_graph, kubeconfig


def cluster_config(options: argparse.Namespace, **defaults: Any) -> Any:
    """The ClusterConfig that the options ask for: a file's, then ``defaults``, then each option given."""
    from dataclasses import replace

    from topo.config import ClusterConfig

    config = ClusterConfig(**defaults)
    if getattr(options, "config", None):
        config = ClusterConfig.from_yaml(options.config)
    words = ("nodes", "clients", "datapath", "controller", "dns", "ip_family", "cloud")
    given = {word: getattr(options, word) for word in words if getattr(options, word, None) is not None}
    config = replace(config, **given)
    if config.controller == "ryu":
        from controller.kubeproxy import ryu_venv

        ryu_venv.install()  # out here: a sandbox reaches no registry
    return config


def _list(options: argparse.Namespace) -> int:
    for entry in catalogue.lessons():
        print(f"{entry.name:<18}{entry.summary}")
    return 0


def _up(options: argparse.Namespace) -> int:
    from controller.api import manifests
    from topo import sandbox
    from topo.images import demo

    if options.real_programs:
        if not demo.present():
            raise MachineError("Flask and Streamlit are not installed: `./lab setup microservices`")
        demo.ask()
    config = cluster_config(options)
    manifests.read(options.manifests, ip_family=config.ip_family)  # before anything is started
    access = kubeconfig.Access()
    sandbox.enter(lambda: _stay(config, options.manifests, access), name=options.lab, detach=options.detach)


def _mirror(options: argparse.Namespace) -> int:
    from scenarios import cli_mirror

    return cli_mirror.run(options)


def _stay(config: Any, files: list[str], access: kubeconfig.Access) -> int:
    """In the sandbox: boot, apply, say how to reach it, and remain until told to end."""
    from scenarios.url import some_url
    from topo import sandbox
    from topo.lab import Lab
    from topo.lab_state import PKI

    unstarted = Lab(config, log=_say, supervised=True, listener=access.listener.fileno())
    _say(f"podwire up: {unstarted.facts()}")
    with unstarted as lab:
        applied = lab.apply(*files) if files else []
        for obj in applied:
            _say(f"{obj['kind'].lower()}/{obj['metadata']['name']} applied")
        lab.settle()
        for line in cli_graph.told_of(applied, sandbox.name()):
            _say(line)
        path = access.publish(sandbox.name(), sandbox.run_dir() / PKI)
        services, nodes = (lab.client.list(kind)[0] for kind in ("Service", "Node"))
        _say(how_to_reach(sandbox.name(), config, path, some_url(services, nodes)))
        sandbox.ready()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            _say("ending the lab")
    return 0


def how_to_reach(name: str, config: Any, path: str, url: str) -> str:
    """What to type next. ``url``: where something answers the first client; empty if nothing does."""
    which = "" if name == "podwire" else f" --lab {name}"
    clients = f", {config.clients} client{'s' if config.clients > 1 else ''}" if config.clients else ""
    nodes = f"{config.nodes} node{'s' if config.nodes > 1 else ''}"
    ask = f"./lab exec client1{which} -- curl -s {url}/" if url and config.clients else ""
    first = ask or f"./lab kubectl{which} apply -f my-app.yaml"
    return (
        f"the lab '{name}' is up: {nodes}{clients}. From another terminal:\n"
        f"  ./lab get pods{' -A' if not url else ''}{which}\n  {first}\n"
        f"  ./lab flows node1{which}\n  ./lab down{which}\n"
        f"kubectl: ./lab kubectl{which} get pods, or\n  export KUBECONFIG={path}"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _ps(options: argparse.Namespace) -> int:
    from topo import sandbox

    labs = sandbox.labs()
    if not labs:
        print("no lab runs; start one by ./lab up")
        return 0
    print(f"{'NAME':<20}{'STATE':<10}{'AGE':<8}PID")
    for lab in labs:
        state = "ready" if lab.ready else "starting"
        print(f"{lab.name:<20}{state:<10}{age(time.time() - lab.started):<8}{lab.pid}")
    return 0


def age(seconds: float) -> str:
    """As kubectl writes it: 42s, 5m, 3h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _down(options: argparse.Namespace) -> int:
    from topo import sandbox

    sandbox.need_root()
    print(f"the lab '{sandbox.stop(options.lab).name}' is gone")
    return 0


def _shell(options: argparse.Namespace) -> int:
    from topo import sandbox

    sandbox.need_root()
    if not options.inside:
        from topo.sandbox_join import find

        name = find(options.lab).name
        shell = [os.environ.get("SHELL") or "sh"]
        if sys.stdin.isatty():
            print(f"your own shell, with KUBECONFIG of the lab '{name}'; exit leaves it")
        return kubeconfig.run(name, shell)
    running = sandbox.labs()
    name = options.lab or (running[0].name if len(running) == 1 else "")
    os.environ["PS1"] = f"podwire {name} \\w \\$ "
    shell = ["bash", "--norc"] if Path("/bin/bash").exists() else ["sh"]
    if sys.stdin.isatty() and running:
        print("inside the lab: ip netns list, ip netns exec node1 ..., ovs-vsctl show; exit leaves it")
    return sandbox.join(options.lab, shell)


def _kubectl(options: argparse.Namespace) -> int:
    from topo import sandbox
    from topo.sandbox_join import find

    sandbox.need_root()
    return kubeconfig.run(find(options.lab).name, [kubeconfig.kubectl(), *options.words])


def require_pod(word: str, known: Mapping[str, Any]) -> None:
    """Raise unless the word names something that a command can run in."""
    if word not in known:
        hint = catalogue.nearest(word, known)
        raise UsageError(
            f"there is no pod, node or client `{word}`.{hint} Known are {', '.join(sorted(known))}."
        )


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "up": _up,
    "mirror": _mirror,
    "ps": _ps,
    "status": _ps,
    "down": _down,
    "shell": _shell,
    "kubectl": _kubectl,
}
