"""Which links a lab has, and which of them somebody means."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Protocol

from controller.api.errors import UserError
from topo.capture import LinkEnd
from topo.plan import FABRIC, Plan


class Plugged(Protocol):
    """A pod with its wires, as ``topo.network`` has it."""

    name: str
    node: str
    interface: str


def link_ends(plan: Plan, pods: Sequence[Plugged]) -> list[LinkEnd]:
    """``node1-host``, ``node1-uplink``, ``client1``, and ``<node>-<pod>`` for every pod that is plugged."""
    ends = []
    for node in plan.nodes:
        for what, interface in (("host", node.host_interface), ("uplink", node.uplink_interface)):
            ends.append(LinkEnd(label=f"{node.name}-{what}", host=node.name, netns="", interface=interface))
    for client in plan.outside:
        interface = client.fabric_interface
        ends.append(LinkEnd(label=client.name, host=client.name, netns=FABRIC, interface=interface))
    for pod in pods:
        label = f"{pod.node}-{pod.name}"
        ends.append(LinkEnd(label=label, host=pod.name, netns="", interface=pod.interface))
    return ends


def choose_links(links: Sequence[LinkEnd], labels: Sequence[str]) -> list[LinkEnd]:
    """Links by label or shell pattern, each once, in the lab's order; no label: all of them."""
    for label in labels:
        if not any(fnmatch.fnmatchcase(link.label, label) for link in links):
            raise UserError(f"there is no link {label}; there are {', '.join(link.label for link in links)}")
    return [
        link
        for link in links
        if not labels or any(fnmatch.fnmatchcase(link.label, label) for label in labels)
    ]
