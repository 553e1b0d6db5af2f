"""A manifest with images podwire does not have comes up whole: pods, Services, names, edges.

The shop of scenarios/manifests: fourteen workloads, probes of every kind, init containers, volumes,
and stand-ins for all of its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.objects import Obj, is_ready
from scenarios.graph.attempt import attempt
from scenarios.graph.build import READ, build
from scenarios.graph.model import Edge, Graph
from tests.net.leaks import until
from topo.lab import Lab

SHOP = Path(__file__).resolve().parents[2] / "scenarios" / "manifests" / "shop.yaml"
PODS = 17


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.apply(str(SHOP))
        lab.wait_dns()
        until("every pod of the shop is ready", lambda: len(ready(lab)) == PODS)
        lab.settle()
        yield lab


def pods(lab: Lab) -> list[Obj]:
    found: list[Obj] = lab.client.list("Pod", "shop")[0]
    return found


def ready(lab: Lab) -> list[Obj]:
    return [pod for pod in pods(lab) if is_ready(pod)]


def shop(lab: Lab) -> Graph:
    return build(obj for kind in READ for obj in lab.client.list(kind, "shop")[0])


def outcomes(lab: Lab, graph: Graph) -> dict[str, str]:
    owners = lab.client.list("ReplicaSet", "shop")[0]
    results = attempt(graph, pods(lab), owners, lab.runtime)
    name = {edge: f"{edge.source.rpartition('/')[2]} → {edge.target.rpartition('/')[2]}" for edge in results}
    return {f"{name[edge]}:{edge.port}": tried.outcome for edge, tried in results.items()}


def test_every_pod_is_ready_with_stand_ins_that_never_restart(lab: Lab) -> None:
    assert len(pods(lab)) == PODS
    states = [state for pod in pods(lab) for state in pod["status"]["containerStatuses"]]
    assert {state["restartCount"] for state in states} == {0}
    assert {state["imageID"] for state in states} == {"podwire://echo"}


def test_what_stand_ins_lack_is_told_in_events(lab: Lab) -> None:
    told = {
        (event["involvedObject"]["name"].split("-")[0], event["reason"])
        for event in lab.client.list("Event", "shop")[0]
    }
    assert {
        ("cart", "ProbeIgnored"),
        ("catalog", "ProbeIgnored"),
        ("currency", "ProbeIgnored"),
        ("checkout", "PrivilegesIgnored"),
        ("storefront", "CommandIgnored"),
        ("storefront", "InitContainerIgnored"),
        ("search", "InitContainerIgnored"),
    } <= told


def test_every_edge_of_the_graph_leads_to_somebody(lab: Lab) -> None:
    found = outcomes(lab, shop(lab))
    assert found.pop("report → orders-db:5432") == "not tried: the lab runs no pod of this CronJob"
    assert found.pop("shop → edge:80") == "not tried: the lab runs no pod of this Ingress"
    assert found.pop("storefront → outside pay.example.com:443") == "not tried: outside of the lab"
    assert len(found) == 20
    assert set(found.values()) == {"ok"}, found


def test_every_service_answers_on_each_of_its_ports(lab: Lab) -> None:
    graph = shop(lab)
    edges = tuple(
        Edge(
            source="DaemonSet shop/metrics",
            target=service.id,
            hosts=(f"{service.name}.shop.svc.cluster.local",),
            port=port.number,
            protocol=port.protocol,
        )
        for service in graph.services
        for port in service.ports
    )
    asked = Graph(workloads=graph.workloads, services=graph.services, edges=edges)
    found = outcomes(lab, asked)
    assert len(found) == 14
    assert set(found.values()) == {"ok"}, found


def test_an_edge_that_leads_nowhere_says_how(lab: Lab) -> None:
    graph = shop(lab)

    def edge(host: str, port: int, target: str = "Service shop/cart") -> Edge:
        return Edge(source="DaemonSet shop/metrics", target=target, hosts=(host,), port=port)

    wrong = (edge("cart", 7071), edge("nobody", 80, "Service shop/nobody"))
    found = outcomes(lab, Graph(workloads=graph.workloads, services=graph.services, edges=wrong))
    assert found == {"metrics → cart:7071": "refused", "metrics → nobody:80": "NXDOMAIN"}
