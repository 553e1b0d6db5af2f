"""Bench (d): new TCP connections a second by ClusterIP, beside the pod's own address.

Both pass conntrack, and are counted within one round of client ports: each run has a client pod of its
own, because a port used again while conntrack remembers it measures something else. Beside the rate
stands what the switch paid for it: the programs at both ends share the processors with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import listening
from tests.bench.boxed import boxed, say
from tests.bench.figures import Aim, Figure, number
from tests.bench.objects import pod, service
from tests.bench.processes import cpu_seconds
from topo.links import set_sysctls

RATIO = 0.85
PORT = 8080
MOST = 30_000
"""Connections of one run: connect() takes ports of one parity first: half of 1024-65535."""
CONNECTOR = Path(__file__).with_name("connector.py")


def measure(*, quick: bool) -> list[Figure]:
    rounds, seconds = (1, 0.3) if quick else (9, 1.5)
    found = boxed(
        "tests.bench.connections:alternate",
        rounds=rounds, seconds=seconds, timeout=90 + 2 * rounds * (seconds + 3),
    )  # fmt: skip
    return [
        Figure(
            bench="d",
            name="new connections by ClusterIP",
            unit="/s",
            samples=found["vip"],
            beside="by the pod's address",
            against=found["pod"],
            aims=[Aim(of="ratio", bound=RATIO, at_least=True)],
            parts={key: found[key] for key in ("failed", "ceiling", "switch", "switchRatio")},
        )
    ]


def alternate(*, rounds: int, seconds: float) -> dict[str, Any]:
    """In a sandbox: connections a second of each run, by VIP and by pod address in turn.

    ``ceiling`` is the same pair of programs over the loopback of one pod, without any switch between;
    ``switch`` is connections for each processor second of ovs-vswitchd.
    """
    from topo.lab import ClusterConfig, Lab

    python = "/usr/bin/python3"
    with Lab(ClusterConfig(nodes=1)) as lab:
        clients = [f"client-{number}" for number in range(2 * rounds)]
        program = CONNECTOR.read_text(encoding="utf-8")
        serve = [python, "-c", program, "serve", str(PORT)]
        lab.apply(
            service("server", PORT), pod("server", "node1", serve), *(pod(name, "node1") for name in clients)
        )
        lab.settle()
        server = lab.pod("server")
        listening.wait(server.netns, PORT)
        vip = lab.client.get("Service", "server", "default")["spec"]["clusterIP"]
        targets = {"vip": vip, "pod": str(server.ip)}
        ways = [way for turn in range(rounds) for way in sorted(targets, reverse=bool(turn % 2))]
        found: dict[str, Any] = {
            "vip": [],
            "pod": [],
            "failed": {"vip": 0, "pod": 0},
            "switch": {"vip": [], "pod": []},
        }

        def run(client: Any, address: str) -> dict[str, Any]:
            words = [python, "-c", program, "connect", address, str(PORT), str(seconds), str(MOST)]
            done = client.run(words, timeout=seconds + 20)
            assert done.returncode == 0, done.stderr
            return dict(json.loads(done.stdout))

        for name, way in zip(clients, ways, strict=True):
            client = lab.pod(name)
            client.netns.call(lambda: set_sysctls({"net/ipv4/ip_local_port_range": "1024 65535"}))
            before = cpu_seconds()["ovs-vswitchd"]
            got = run(client, targets[way])
            paid = cpu_seconds()["ovs-vswitchd"] - before
            found["switch"][way].append(got["opened"] / paid)
            lab.ovs.appctl("dpctl/flush-conntrack")
            found[way].append(got["opened"] / got["seconds"])
            found["failed"][way] += got["failed"]
            say(f"by {way}: {number(found[way][-1], '/s')}")
        pairs = zip(found["switch"]["vip"], found["switch"]["pod"], strict=True)
        found["switchRatio"] = median(vip / pod for vip, pod in pairs)
        say(f"for the switch's processor time {found['switchRatio']:.2f}")
        loop = run(server, "127.0.0.1")
        found["ceiling"] = loop["opened"] / loop["seconds"]
        return found
