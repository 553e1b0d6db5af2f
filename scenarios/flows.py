"""Which flows a node's bridge holds, how often each was used, and which object it is there for.

Asks the switch and the API; ``controller.kubeproxy.explain`` says what a flow is for. Runs inside a
sandbox, where ``ovs-ofctl`` can only mean the lab's own switch.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.api.errors import PodwireError, UserError
from controller.kubeproxy.explain import ExplainedFlow, explain_flows
from controller.kubeproxy.proxier import Proxier
from scenarios import catalogue

_PORT = re.compile(r"^ (\d+)\(([^)]+)\): addr:", re.MULTILINE)
_Key = tuple[str, int, str, str, str]
DECIDE = (
    *("NodePortMark", "SessionAffinity", "ServiceLB", "Scheduler"),
    *("SessionLearn", "EndpointDNAT", "SNATMark", "SNAT"),
)
"""The tables in which something is chosen or translated; the others only lead there and away."""


def read(client: Any, nodes: Sequence[str]) -> dict[str, list[ExplainedFlow]]:
    """Every flow of every node named, explained."""
    objects = [obj for kind in Proxier.KINDS for obj in client.list(kind)[0]]
    return {
        node: explain_flows(_ofctl("dump-flows", f"br-{node}"), _proxier(node, objects)) for node in nodes
    }


def used(
    before: Mapping[str, Sequence[ExplainedFlow]], after: Mapping[str, Sequence[ExplainedFlow]]
) -> dict[str, list[ExplainedFlow]]:
    """The flows that packets went through between two readings, counting only those packets."""
    found = {}
    for node, flows in after.items():
        counted = {_key(flow): flow.packets for flow in before.get(node, ())}
        found[node] = [
            replace(flow, packets=flow.packets - counted.get(_key(flow), 0))
            for flow in flows
            if flow.packets > counted.get(_key(flow), 0)
        ]
    return found


def because(flow: ExplainedFlow) -> str:
    """The object behind a flow, and whose endpoint it is."""
    users = [user.rstrip(":") for user in flow.users]
    return flow.cause + (f" of Service {', '.join(users)}" if users else "")


def show(client: Any, node: str, *, service: str | None, raw: bool) -> int:
    """``./lab flows``."""
    nodes = [obj["metadata"]["name"] for obj in client.list("Node")[0]]
    if node not in nodes:
        hint = catalogue.nearest(node, nodes)
        raise UserError(f"there is no node `{node}`.{hint} Known are {', '.join(sorted(nodes))}.")
    if raw:
        sys.stdout.write(_ofctl("--names", "dump-flows", f"br-{node}"))
        return 0
    flows = read(client, [node])[node]
    if service is not None:
        namespace, _, name = service.rpartition("/")
        client.get("Service", name, namespace or "default")  # NotFound, in Kubernetes' words
        flows = [flow for flow in flows if flow.concerns(namespace or "default", name)]
    table = ""
    for flow in flows:
        if flow.table != table:
            table = flow.table
            print(f"\n{table}" if flow is not flows[0] else table)
        print(f"  {flow.packets:>8} packets  priority {flow.priority}  because {because(flow)}")
        print(f"           {flow.match or 'any'} ⇒ {flow.actions}")
        print(f"           {flow.why}")
    return 0


def _proxier(node: str, objects: Sequence[Any]) -> Proxier:
    """What the node's kubeproxy wants, computed anew from the objects and the bridge's ports."""
    proxier = Proxier(node)
    for obj in objects:
        proxier.apply("ADDED", obj)
    proxier.set_ports(
        {name: int(number) for number, name in _PORT.findall(_ofctl("dump-ports-desc", f"br-{node}"))}
    )
    return proxier


def _key(flow: ExplainedFlow) -> _Key:
    return flow.table, flow.priority, flow.match, flow.actions, flow.cause


def _ofctl(*args: str) -> str:
    argv = ["ovs-ofctl", "-O", "OpenFlow15", *args]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise PodwireError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
