"""[sig-network] Services: session affinity, and labels by which the proxy keeps its hands off."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj

GROUP = "Services"
STICKY = 15
"""Upstream's number of equal answers that count as affinity."""
SECONDS = 2
"""Upstream waits for 20; the API takes any number from 1."""


def with_affinity(kit: Kit, type: str, **spec: Any) -> tuple[str, str, Obj]:
    """(sender, address, Service) with three pods behind."""
    service = kit.service("sticky", type=type, **spec)
    kit.pods("sticky", (1, 2, 3))
    if type == "ClusterIP":
        return kit.client(2), f"{service['spec']['clusterIP']}:80", service
    return "client1", kit.node_port(service, 2), service


def stays(kit: Kit, sender: str, to: str) -> str:
    """Every connection meets the same pod; which."""
    seen = [kit.ask(sender, to) for _ in range(STICKY)]
    names = {answer.who or answer.fate for answer in seen}
    assert len(names) == 1, f"{sender} to {to} met {sorted(names)}"
    assert seen[0].who, f"{sender} to {to} was {seen[0].fate}"
    return seen[0].who


def moves(kit: Kit, sender: str, to: str) -> None:
    """Connections meet more than one pod."""
    names = {kit.ask(sender, to).who for _ in range(STICKY * 2)}
    assert len(names - {""}) > 1, f"{sender} to {to} met only {sorted(names)}"


@case(
    GROUP, "should have session affinity work for service with type clusterIP [LinuxOnly]", type="ClusterIP"
)
@case(GROUP, "should have session affinity work for NodePort service [LinuxOnly]", type="NodePort")
def affinity(kit: Kit, type: str) -> None:
    sender, to, _ = with_affinity(kit, type, sessionAffinity="ClientIP")
    stays(kit, sender, to)


@case(
    GROUP,
    "should have session affinity timeout work for service with type clusterIP [LinuxOnly]",
    type="ClusterIP",
)
@case(GROUP, "should have session affinity timeout work for NodePort service [LinuxOnly]", type="NodePort")
def affinity_timeout(kit: Kit, type: str) -> None:
    config = {"clientIP": {"timeoutSeconds": SECONDS}}
    sender, to, _ = with_affinity(kit, type, sessionAffinity="ClientIP", sessionAffinityConfig=config)
    first = stays(kit, sender, to)
    for _ in range(6):
        kit.lapse(SECONDS + 1)
        if kit.ask(sender, to).who not in ("", first):
            return
    raise AssertionError(f"{sender} to {to} still met {first} after six times {SECONDS} s of silence")


@case(
    GROUP,
    "should be able to switch session affinity for service with type clusterIP [LinuxOnly]",
    type="ClusterIP",
)
@case(GROUP, "should be able to switch session affinity for NodePort service [LinuxOnly]", type="NodePort")
def affinity_switched(kit: Kit, type: str) -> None:
    sender, to, _ = with_affinity(kit, type, sessionAffinity="ClientIP")
    stays(kit, sender, to)
    kit.patch("Service", "sticky", {"spec": {"sessionAffinity": "None", "sessionAffinityConfig": None}})
    moves(kit, sender, to)
    kit.patch("Service", "sticky", {"spec": {"sessionAffinity": "ClientIP"}})
    stays(kit, sender, to)


@case(
    GROUP,
    "should implement service.kubernetes.io/service-proxy-name",
    label="service.kubernetes.io/service-proxy-name",
)
@case(GROUP, "should implement service.kubernetes.io/headless", label="service.kubernetes.io/headless")
def left_alone(kit: Kit, label: str) -> None:
    other = kit.service("other", labels={label: "foo-bar"})
    service, pods = kit.service("web"), kit.pods("web", (1, 2, 3))
    kit.pods("other", (1,))
    client = kit.client(2)

    def unserved(one: Obj) -> None:
        assert kit.ask(client, one, timeout=1).fate in ("dropped", "refused", "unreachable")
        assert kit.ask("node1", one, timeout=1).fate in ("dropped", "refused", "unreachable")

    for sender in (client, "node1"):
        kit.reach(sender, service, pods)
    unserved(other)
    kit.patch("Service", "web", {"metadata": {"labels": {label: "foo-bar"}}})
    unserved(service)
    kit.patch("Service", "web", {"metadata": {"labels": {label: None}}})
    kit.reach(client, service, pods)
    unserved(other)
