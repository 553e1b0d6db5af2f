"""kube-proxy: a Service appears, a pod appears, and the rule that each of them causes.

The lesson of section 5.3.2.1 of the book, sentence by sentence. Where the book has IPVS rules, here are flows
of the node's Open vSwitch; every step shows which came and which went, on every node.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.kubeproxy.explain import ExplainedFlow
    from scenarios.lesson import Lesson

NODES = 2
ASKED = 40
"""Connections to see who is chosen: two pods of which one gets none is one chance in 2^39."""
Rules = Mapping[str, frozenset[tuple[str, str, str, str]]]
"""By node: table, match, actions and why of every flow that is there for a Service."""


def tell(lesson: Lesson) -> None:
    """The whole section, in the order of the book."""
    on_every_node(lesson)
    a_service_appears(lesson)
    an_endpoint_appears(lesson)
    intercepted(lesson)
    from_outside(lesson)
    balanced(lesson)
    by_label(lesson)
    healthy_only(lesson)


def on_every_node(lesson: Lesson) -> None:
    from scenarios.objects import pod

    with lesson.step("On every node"):
        lesson.quote(
            "As mentioned earlier, each node has three main components: Kubelet, Container Runtime, and the "
            "Kube-Proxy."
        )
        lesson.apply(pod("asker", "node1"))
        rows = []
        for obj in lesson.lab.client.list("Node")[0]:
            name, info = obj["metadata"]["name"], obj["status"]["nodeInfo"]
            ready = next(c["status"] for c in obj["status"]["conditions"] if c["type"] == "Ready")
            node = lesson.lab.node(name)
            mode = lesson.run(node, "curl -s -m 5 http://127.0.0.1:10249/proxyMode").stdout.strip()
            rows.append((name, f"Ready {ready}", info["containerRuntimeVersion"], mode))
        lesson.table(("node", "its kubelet says", "container runtime", "proxyMode of its kube-proxy"), rows)
        lesson.check(
            "the kubelet of every node has reported it ready",
            expected=["Ready True"] * len(nodes(lesson)),
            seen=[row[1] for row in rows],
        )
        lesson.check_that(
            "and a kube-proxy answers on every node",
            all(row[3] for row in rows),
            expected="a mode from each",
            seen=[row[3] for row in rows],
        )
        lesson.say(
            "kube-proxy writes rules and forwards nothing: packets meet only the switch. In IPVS' place "
            "stand the switch's flows and groups, and conntrack."
        )


def a_service_appears(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import service

    with lesson.step("A Service appears"):
        lesson.quote(
            "It also implements a controller that watches the API server for new services and endpoints. "
            "Whenever there is a new service or endpoint, the kube-proxy creates a local IPVS rule (IP "
            "Virtual Server) that tells the node to intercept traffic destined to the ClusterIP Service."
        )
        came, went = change(lesson, "web", lambda: lesson.apply(service("web")))
        lesson.check_that(
            "a rule on each node, at once",
            all(came[node] for node in nodes(lesson)),
            expected="one or more everywhere",
            seen=counts(came),
        )
        lesson.check("nothing had to go", expected=counts({n: [] for n in nodes(lesson)}), seen=counts(went))
        address = cluster_ip(lesson)
        lesson.check_that(
            "each intercepts the new address",
            all(any(address in rule[1] for rule in came[node]) for node in nodes(lesson)),
            expected=address,
            seen="; ".join(rule[1] for rules in came.values() for rule in rules),
        )
        answer = ask(asker(lesson), address, 80)
        lesson.check("with no pod behind it the rule refuses", expected="refused", seen=answer.fate)


def an_endpoint_appears(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import pod

    with lesson.step("An endpoint appears"):
        lesson.quote("Whenever there is a new service or endpoint, the kube-proxy creates a local IPVS rule.")
        came, went = change(lesson, "web", lambda: lesson.apply(pod("web-1", "node2", "web")))
        own = str(lesson.lab.pod("web-1").ip)
        for node in nodes(lesson):
            translating = [rule for rule in came[node] if rule[0] == "EndpointDNAT"]
            lesson.check_that(
                f"{node} has a rule that translates to web-1",
                any(f"nat(dst={own}" in rule[2] for rule in translating),
                expected=f"to {own}",
                seen=" ".join(rule[2] for rule in translating) or "none",
            )
        lesson.check_that(
            "the rule that refused has gone from every node",
            all(went[node] for node in nodes(lesson)),
            expected="one or more everywhere",
            seen=counts(went),
        )
        answer = ask(asker(lesson), cluster_ip(lesson), 80)
        lesson.check("the pod is reached by the Service's address", expected="web-1", seen=answer.pod)


def intercepted(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("Intercepted on the node where it starts"):
        lesson.quote(
            "This means, kube-proxy is intercepting all the requests and makes sure that when a request to "
            "the ClusterIP service is sent using endpoints, the request is forwarded"
        )
        address = cluster_ip(lesson)
        with lesson.watch() as seen:
            ask(asker(lesson), address, 80, source_port=40001)
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "web")
        first = connection.opening.hops[0]
        lesson.check("it left the pod for the Service", expected=f"{address}:80", seen=str(first.dst))
        on_the_way = next(hop for hop in connection.opening.hops if hop.link == "node1-uplink")
        lesson.check(
            "and node1 for the pod: no other machine ever sees the Service's address",
            expected=f"{lesson.lab.pod('web-1').ip}:8080",
            seen=str(on_the_way.dst),
        )
        choosing = [f for f in seen.flows.get("node2", ()) if f.table == "ServiceLB" and f.priority]
        lesson.check("node2 had nothing to choose", expected=0, seen=len(choosing))


def from_outside(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import node_port

    with lesson.step("Internal as well as external"):
        lesson.quote(
            "Kube-Proxy is a network proxy running on each node and is responsible for internal network "
            "communications as well as external."
        )
        patch = {"spec": {"type": "NodePort"}}
        came, _ = change(lesson, "web", lambda: lesson.patch("Service", "web", patch))
        port = node_port(lesson.lab.client.get("Service", "web"))
        lesson.check_that(
            "its node port is one rule more, on every node",
            all(any(f"tp_dst={port}" in rule[1] for rule in came[node]) for node in nodes(lesson)),
            expected=f"a rule for {port}",
            seen="; ".join(rule[1] for rules in came.values() for rule in rules),
        )
        client, node = lesson.lab.outside(), lesson.lab.node(1)
        with lesson.watch() as seen:
            answer = ask(client, str(node.ip), port, source_port=40002)
        lesson.packets(seen.by(40002))
        lesson.check("from outside the same pod answers", expected="web-1", seen=answer.pod)


def balanced(lesson: Lesson) -> None:
    from scenarios.asking import request
    from scenarios.objects import pod

    with lesson.step("Load balancing at the transport layer"):
        lesson.quote(
            "IPVS is built on top of the network filter and implements a transport-layer load balancing. "
            "This gives the ability to load balance to real service"
        )
        before = chosen_from(lesson)
        change(lesson, "web", lambda: lesson.apply(pod("web-2", "node1", "web")))
        lesson.check(
            "the rule chooses among two now, where it was one",
            expected="1, 2",
            seen=f"{before}, {chosen_from(lesson)}",
        )
        found = answers(lesson, "web", 41000)
        lesson.table(("pod", f"of {ASKED} connections"), sorted(found.items()))
        lesson.check("both are chosen", expected=["web-1", "web-2"], seen=sorted(found))
        with closing(asker(lesson).socket()) as sock:
            sock.settimeout(5)
            sock.connect((cluster_ip(lesson), 80))
            served = [request(sock).pod for _ in range(6)]
        lesson.check(
            "what is balanced are connections: six requests on one all reach one pod",
            expected=1,
            seen=len(set(served)),
        )


def by_label(lesson: Lesson) -> None:
    with lesson.step("Pods that match the labels"):
        lesson.quote("as well as redirecting traffic to pods that match service label selectors.")
        own = str(lesson.lab.pod("web-2").ip)
        other = {"metadata": {"labels": {"app": "something-else"}}}
        _, went = change(lesson, "web", lambda: lesson.patch("Pod", "web-2", other))
        lesson.check_that(
            "without the label its rule is gone from every node",
            all(any(own in rule[2] for rule in went[node]) for node in nodes(lesson)),
            expected=f"a rule to {own}",
            seen="; ".join(rule[2] for rules in went.values() for rule in rules),
        )
        found = answers(lesson, "web", 41100)
        lesson.check("and no connection comes to it", expected=f"web-1: {ASKED}", seen=told(found))
        back = {"metadata": {"labels": {"app": "web"}}}
        came, _ = change(lesson, "web", lambda: lesson.patch("Pod", "web-2", back))
        lesson.check_that(
            "labelled again, it has its rule again",
            all(any(own in rule[2] for rule in came[node]) for node in nodes(lesson)),
            expected=f"a rule to {own}",
            seen="; ".join(rule[2] for rules in came.values() for rule in rules),
        )


def healthy_only(lesson: Lesson) -> None:
    from controller.api.objects import is_ready

    with lesson.step("Healthy pods only"):
        lesson.quote("the request is forwarded to the healthy pods behind the endpoint.")
        lesson.apply("health.yaml")
        pods = {pod.name: pod for pod in lesson.lab.pods("app=health")}
        for name in pods:
            lesson.wait_for("Pod", name, is_ready)
        sick, well = (pods[name] for name in sorted(pods))
        lesson.check(
            "healthy, both answer", expected=sorted(pods), seen=sorted(answers(lesson, "health", 41200))
        )

        def fall_ill() -> None:
            lesson.run(sick, "touch /tmp/sick")
            lesson.wait_for("Pod", sick.name, lambda pod: not is_ready(pod))

        def heal() -> None:
            lesson.run(sick, "rm /tmp/sick")
            lesson.wait_for("Pod", sick.name, is_ready)

        before = chosen_from(lesson, "health")
        change(lesson, "health", fall_ill)
        lesson.check(
            "fallen ill, it is no longer one to choose",
            expected="2, 1",
            seen=f"{before}, {chosen_from(lesson, 'health')}",
        )
        found = answers(lesson, "health", 41300)
        lesson.check("no connection comes to it", expected=f"{well.name}: {ASKED}", seen=told(found))
        change(lesson, "health", heal)
        lesson.check(
            "healed, both answer again",
            expected=sorted(pods),
            seen=sorted(answers(lesson, "health", 41400)),
        )


def change(
    lesson: Lesson, service: str, act: Callable[[], object]
) -> tuple[dict[str, list[tuple[str, str, str, str]]], dict[str, list[tuple[str, str, str, str]]]]:
    """Do it, and show which rules came and went on every node because of it; both, by node."""
    before = rules(lesson, service)
    start = time.monotonic()
    act()
    took = (time.monotonic() - start) * 1000
    after = rules(lesson, service)
    came = {node: sorted(after[node] - before[node]) for node in after}
    went = {node: sorted(before[node] - after[node]) for node in after}
    rows = [
        (node, sign, rule[0], rule[1] or "any", rule[3])
        for node in after
        for sign, found in (("+", came[node]), ("-", went[node]))
        for rule in found
    ]
    lesson.table(("node", "", "table", "match", f"in force after {took:.0f} ms, because"), rows)
    return came, went


def rules(lesson: Lesson, service: str) -> Rules:
    """What the switches hold for a Service now."""
    from scenarios import flows

    found = flows.read(lesson.lab.client, nodes(lesson))
    return {node: frozenset(_rule(flow) for flow in mine(found[node], service)) for node in found}


def mine(found: list[ExplainedFlow], service: str) -> list[ExplainedFlow]:
    return [flow for flow in found if flow.concerns("default", service)]


def _rule(flow: ExplainedFlow) -> tuple[str, str, str, str]:
    return flow.table, flow.match, flow.actions, flow.why


def chosen_from(lesson: Lesson, service: str = "web") -> int:
    """Among how many endpoints node1's group for a Service's address chooses."""
    address = cluster_ip(lesson, service)
    for table, match, actions, _ in rules(lesson, service)["node1"]:
        group = re.search(r"group:(\d+)", actions)
        if table == "ServiceLB" and address in match and group:
            text = lesson.lab.ovs.ofctl("dump-groups", "br-node1", group.group(1))
            buckets = re.findall(r"bucket=.*?actions=(.*?)(?=,bucket=|\n|$)", text)
            return len(set(buckets))
    return 0


def answers(lesson: Lesson, service: str, first_port: int) -> Counter[str]:
    """Who answers each of many connections to a Service's address."""
    from scenarios.asking import ask

    host, address = asker(lesson), cluster_ip(lesson, service)
    return Counter(
        (answer := ask(host, address, 80, source_port=first_port + n)).pod or answer.fate
        for n in range(ASKED)
    )


def told(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in sorted(found.items()))


def counts(found: Mapping[str, list[Any]]) -> str:
    return ", ".join(f"{node} {len(rules)}" for node, rules in found.items())


def nodes(lesson: Lesson) -> list[str]:
    return [node.name for node in lesson.lab.plan.nodes]


def asker(lesson: Lesson) -> Any:
    return lesson.lab.pod("asker")


def cluster_ip(lesson: Lesson, service: str = "web") -> str:
    return str(lesson.lab.client.get("Service", service)["spec"]["clusterIP"])


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
