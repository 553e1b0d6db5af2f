"""``./lab mirror``: a lab that follows a real cluster.

Starts the reader (``topo.mirror``) as a process of the user's own, then the lab with as many nodes as the
reader has found, then shows what the reader says until the lab ends. Nothing of the source is touched
here, and what stands for what is decided in ``topo.mirror_objects``.
"""

from __future__ import annotations

import argparse
import os
import pwd
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from controller.api import errors
from scenarios import inside, kubeconfig


def run(options: argparse.Namespace) -> int:
    from scenarios.cli_labs import cluster_config
    from topo import sandbox
    from topo.mirror import Line
    from topo.mirror_follow import Wish

    sandbox.need_root()
    wish = Wish(
        kubeconfig=str(Path(options.kubeconfig).expanduser().absolute()),
        context=options.context,
        namespaces=options.namespace or (),
        nodes=options.nodes,
        max_pods=options.max_pods,
        follow=not options.once,
    )
    config = cluster_config(options, cloud=True)
    ours, theirs = socket.socketpair()
    start_reader(theirs, quiet=options.detach)  # it ends when the socket does
    theirs.close()
    line = Line(ours)
    line.tell(**asdict(wish))
    found = _expect(line, "nodes")
    config = replace(config, nodes=found["nodes"], ip_family=options.ip_family or found["ip_family"])
    say(f"{options.kubeconfig}: {found['text']} to play")
    access = kubeconfig.Access()
    sandbox.enter(lambda: _stay(config, access, line), name=options.lab, detach=options.detach)


def start_reader(sock: socket.socket, *, quiet: bool) -> subprocess.Popen[bytes]:
    """``python -m topo.mirror`` as the user behind sudo, who alone may read the files that it is told.

    ``quiet``: it must not hold on to the terminal, or pipe, of a command that ends before it does.
    """
    environment = {**os.environ, "PYTHONPATH": str(inside.CHECKOUT)}
    them = kubeconfig.user()
    identity: dict[str, Any] = {}
    if them is not None:
        account = pwd.getpwuid(them[0])
        environment |= {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
        identity = {
            "user": them[0],
            "group": them[1],
            "extra_groups": os.getgrouplist(account.pw_name, them[1]),
        }
    return subprocess.Popen(
        [sys.executable, "-m", "topo.mirror", str(sock.fileno())],
        pass_fds=[sock.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        env=environment,
        start_new_session=True,  # Ctrl-C is the lab's; the reader ends when the lab has
        **identity,
    )


def _stay(config: Any, access: kubeconfig.Access, line: Any) -> int:
    """In the sandbox: boot, let the reader play, show what it says, and remain until told to end."""
    from topo import sandbox
    from topo.lab import Lab
    from topo.lab_state import PKI

    unstarted = Lab(config, log=say, supervised=True, listener=access.listener.fileno())
    say(f"podwire mirror: {unstarted.facts()}")
    with unstarted as lab:
        path = access.publish(sandbox.name(), sandbox.run_dir() / PKI)
        with suppress(BrokenPipeError):  # then it has said why
            line.tell(lab=path)
        try:
            playing = _expect(line, "playing")["playing"]
            lab.settle()
            say(f"playing:\n{playing}")
            say(_how_to_reach(sandbox.name(), path))
            sandbox.ready()
            _show(line)
        except KeyboardInterrupt:
            say("ending the lab; the cluster that it followed was only read")
    return 0


def _show(line: Any) -> None:
    """What the reader says, for ever: a lab outlives the cluster that it followed."""
    try:
        _expect(line, "end")
    except errors.PodwireError as error:
        say(f"! {error}\n! nothing is followed any more; the lab stays as it is until Ctrl-C or ./lab down")
        threading.Event().wait()


def _expect(line: Any, word: str) -> dict[str, Any]:
    """Show what the reader says until it says ``word``; raise what ended it."""
    while (message := line.hear()) is not None:
        if "error" in message:
            raise getattr(errors, message["error"])(message["text"])
        if "say" in message:
            say(message["say"])
        if word in message:
            found: dict[str, Any] = message
            return found
    raise errors.MachineError("the process that follows the cluster has ended; what it said is above")


def _how_to_reach(name: str, path: str) -> str:
    which = "" if name == "podwire" else f" --lab {name}"
    return (
        f"the lab '{name}' follows it. From another terminal:\n"
        f"  ./lab kubectl{which} get pods,svc -A\n  ./lab flows node1{which}\n  ./lab down{which}\n"
        f"kubectl: export KUBECONFIG={path}\n"
        "from now on each change is a line; Ctrl-C ends the lab"
    )


def say(text: str) -> None:
    print(text, flush=True)
