"""Which endpoints get a packet: those nearby (trafficDistribution), and those that end. Objects and rows for
both tiers, each row a sentence. Beside ``tests.packets``' scene; node1 and node2 are in one zone, node3 in another.
"""

# ruff: noqa: E501 - a row of a table is a line

from __future__ import annotations

from typing import Any

from tests.packets import Row, pod, rows, service

Obj = dict[str, Any]
ZONES = ("east", "east", "west")
LINGER = 300
"""Seconds that a pod goes on serving when it is told to end; the scene's end comes before."""


def ending(name: str, node: str, app: str, *, ready: bool = True) -> Obj:
    """A pod to be deleted at once, which takes its time."""
    made = pod(name, node, app, ready=ready)
    made["spec"]["terminationGracePeriodSeconds"] = LINGER
    made["spec"]["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": LINGER}}}
    return made


NEARNESS_PODS = [
    *(pod(f"spread-{n}", f"node{n}", "spread") for n in (1, 2, 3)),
    pod("split-1", "node1", "split"),
    pod("split-3", "node3", "split"),
]
ENDING_PODS = [
    ending("late-1", "node1", "late"),
    ending("late-2", "node2", "late"),
    ending("half-1", "node1", "half"),
    ending("ill-1", "node1", "ill", ready=False),
]
"""To be deleted once they run."""
NEARNESS_SCENE: list[Obj] = [
    *NEARNESS_PODS,
    *ENDING_PODS,
    pod("half-2", "node2", "half"),
    service("zonal", "10.96.0.100", 30100, app="spread", trafficDistribution="PreferSameZone"),
    service("close", "10.96.0.101", app="spread", trafficDistribution="PreferClose"),
    service("nodal", "10.96.0.102", 30102, app="spread", trafficDistribution="PreferSameNode"),
    service("parted", "10.96.0.103", 30103, app="split", trafficDistribution="PreferSameNode"),
    service("eastern", "10.96.0.104", app="late", trafficDistribution="PreferSameZone", publishNotReadyAddresses=True),
    service("late", "10.96.0.110", 30110),
    service("half", "10.96.0.111", 30111),
    service("halfkeep", "10.96.0.112", 30112, app="half", externalTrafficPolicy="Local"),
    service("halfnear", "10.96.0.113", app="half", internalTrafficPolicy="Local"),
    service("latekeep", "10.96.0.114", 30114, app="late", externalTrafficPolicy="Local"),
    service("halfall", "10.96.0.115", app="half", publishNotReadyAddresses=True),
    service("ill", "10.96.0.116", 30116),
]  # fmt: skip

ZONE_ROWS = rows("""
PreferSameZone gives a pod the endpoints of its zone | pod/alice | svc/zonal:80/tcp | spread-1 spread-2
PreferSameZone gives a pod of another zone the endpoint there | pod/bob | svc/zonal:80/tcp | spread-3
PreferSameZone by UDP | pod/bob | svc/zonal:80/udp | spread-3
PreferSameZone counts for a node | node2 | svc/zonal:80/tcp | spread-1 spread-2
PreferSameZone counts at a NodePort by the zone of the node that was asked | client1 | node3:30100/tcp | spread-3 | node3
PreferSameZone at a NodePort of a node in the other zone | client1 | node1:30100/udp | spread-1 spread-2 | node1
PreferClose is the old name of PreferSameZone | pod/alice | svc/close:80/tcp | spread-1 spread-2
PreferClose in the other zone | pod/bob | svc/close:80/udp | spread-3
PreferSameNode gives a pod the endpoint of its node | pod/alice | svc/nodal:80/tcp | spread-1
PreferSameNode gives a node its own endpoint | node2 | svc/nodal:80/udp | spread-2
PreferSameNode leads a pod that asks its own Service to itself | pod/spread-3 | svc/nodal:80/tcp | spread-3 | hairpin
PreferSameNode at a NodePort stays on the node that was asked | client1 | node2:30102/tcp | spread-2 | node2
PreferSameNode on a node without an endpoint is content with the zone | pod/far-0 | svc/parted:80/tcp | split-1
PreferSameNode at a NodePort of a node without an endpoint, too | client1 | node2:30103/tcp | split-1 | node2
PreferSameZone in a zone without an endpoint gives all there are | pod/bob | svc/eastern:80/tcp | late-1 late-2
""")

ENDING_ROWS = rows("""
endpoints that all terminate still serve a ClusterIP | pod/bob | svc/late:80/tcp | late-1 late-2
endpoints that all terminate still serve by UDP | pod/alice | svc/late:80/udp | late-1 late-2
endpoints that all terminate still serve a NodePort | client1 | node3:30110/tcp | late-1 late-2 | node3
endpoints that all terminate still serve a node | node2 | svc/late:80/tcp | late-1 late-2
an endpoint that terminates gets nothing new beside a ready one | pod/alice | svc/half:80/tcp | half-2
an endpoint that terminates gets nothing new by a NodePort | client1 | node1:30111/udp | half-2 | node1
policy Local falls back to the node's own endpoint that terminates | client1 | node1:30112/tcp | half-1
policy Local stays with the ready endpoint of another node | client1 | node2:30112/tcp | half-2
policy Local falls back on each node where all terminate | client1 | node2:30114/udp | late-2
policy Local drops where not even one that terminates is | client1 | node3:30114/tcp | dropped
internal policy Local falls back to the node's own endpoint that terminates | pod/alice | svc/halfnear:80/tcp | half-1
internal policy Local falls back for the node itself | node1 | svc/halfnear:80/udp | half-1
publishNotReadyAddresses counts those that terminate as ready | pod/bob | svc/halfall:80/tcp | half-1 half-2
an endpoint that terminates and does not serve is none | pod/alice | svc/ill:80/tcp | refused
such a one is refused at a NodePort | client1 | node2:30116/udp | refused
""")

NEARNESS_ROWS: list[Row] = [*ZONE_ROWS, *ENDING_ROWS]
