"""``./lab tunnel``: what ``minikube tunnel`` is, in a running lab, until Ctrl-C.

Runs inside the lab's sandbox as a process of its own; what it does is ``topo.tunnel``'s. Here it is only
said, in minikube's words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

from controller.api.wiring import RANGES


def run(client: Any, lab: str) -> int:
    """Open the tunnel and tell its state whenever that changes; closed again at Ctrl-C or SIGTERM."""
    from topo import sandbox
    from topo.config import ClusterConfig
    from topo.lab_state import LabState
    from topo.plan import Plan
    from topo.tunnel import Tunnel

    plan = Plan(ClusterConfig.from_mapping(LabState.load(sandbox.run_dir()).config))
    news = threading.Event()
    ended = threading.Event()

    def end(*_: object) -> None:
        ended.set()
        news.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with Tunnel(client, plan, changed=news.set) as tunnel:
        # by the API: an address of a node may have changed
        status = client.get("Node", tunnel.node.name)["status"]
        internal = [row["address"] for row in status["addresses"] if row["type"] == "InternalIP"]
        while not ended.is_set():
            news.clear()
            print(describe(lab, internal, tunnel.services), flush=True)
            if not ended.is_set():  # a signal just before the clearing
                news.wait()
    with contextlib.suppress(BrokenPipeError):
        print("the tunnel is closed: its route and its external addresses are gone", flush=True)
    return 0


def describe(lab: str, node: list[str], services: dict[tuple[str, str], tuple[str, ...]]) -> str:
    """What ``minikube tunnel`` prints, and the addresses of each Service; ``node``: its addresses."""
    names = " ".join(name for _, name in sorted(services))
    lines = [
        "Status:",
        f"\tmachine: {lab}",
        f"\tpid: {os.getpid()}",
        *(
            f"\troute: {RANGES['IPv6' if ':' in address else 'IPv4'].services} -> {address}"
            for address in node
        ),
        f"\tservices: [{names}]",
    ]
    lines += [f"\t  {space}/{name}: {', '.join(given)}" for (space, name), given in sorted(services.items())]
    return "\n".join(lines)
