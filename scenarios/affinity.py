"""Session affinity: the same client meets the same pod again, for a while.

sessionAffinity: ClientIP. The switch writes down by itself whom a client met; when that is forgotten, who
counts as one client, and what happens when the pod dies.
"""

from __future__ import annotations

import re
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.kubeproxy.explain import ExplainedFlow
    from scenarios.lesson import Lesson

NODES = 2
CLIENTS = 2
MANY = 10
"""Connections without affinity: that all meet one of three pods is a chance of 1 in 19,683."""
SECONDS = 2
FABRIC = "192.168.49.1"
"""The router's own address, behind which it hides the clients for one step."""


def tell(lesson: Lesson) -> None:
    """Without, with, for each client, behind a NAT, after a death, after a while."""
    without(lesson)
    written_down(lesson)
    each_client(lesson)
    behind_a_nat(lesson)
    the_pod_dies(lesson)
    after_a_while(lesson)
    how_long(lesson)


def without(lesson: Lesson) -> None:
    from scenarios.objects import pod, service

    with lesson.step("Without affinity every connection is a new choice"):
        lesson.say("Three pods; `plain` and `sticky` both lead to them. The asking pods are on node1.")
        lesson.apply(
            pod("web-1", "node1", "web"),
            pod("web-2", "node2", "web"),
            pod("web-3", "node2", "web"),
            pod("ann", "node1"),
            pod("ben", "node1"),
            service("plain", "web"),
            service("sticky", "web", type="NodePort", sessionAffinity="ClientIP"),
        )
        met = meets(lesson, "ann", vip(lesson, "plain"), 80, 41001)
        lesson.say(f"{MANY} connections of ann's, to plain: {' '.join(met)}")
        lesson.check_that(
            "ann meets more than one pod", len(set(met)) > 1, expected="more than one", seen=len(set(met))
        )


def written_down(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("With affinity the first choice is written down, by the switch itself"):
        service = lesson.lab.client.get("Service", "sticky")
        lesson.check(
            "kept for three hours unless one says otherwise",
            expected=10800,
            seen=service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        )
        ann, to = lesson.lab.pod("ann"), vip(lesson, "sticky")
        with lesson.watch() as seen:
            first = ask(ann, to, 80, source_port=42001)
        lesson.packets(seen.by(42001))
        lesson.flows(seen, "node1", "sticky")
        lesson.say(
            "SessionLearn is a flow that writes a flow. What the switch has learned, without any controller:"
        )
        entry = the_only(show_learned(lesson))
        lesson.check("it is about ann", expected=str(ann.ip), seen=client_of(entry))
        with lesson.watch() as seen:
            second = ask(ann, to, 80, source_port=42002)
        lesson.say("Her second connection meets that flow first, and no group chooses any more:")
        lesson.flows(seen, "node1", "sticky")
        lesson.check("she meets the same pod", expected=first.pod, seen=second.pod)
        groups = groups_of(seen.flows["node1"])
        lesson.check("no group was asked", expected=0, seen=len(groups))
        met = meets(lesson, "ann", to, 80, 42011)
        lesson.check(f"{MANY} more, the same", expected=first.pod, seen=" ".join(sorted(set(met))))


def each_client(lesson: Lesson) -> None:
    with lesson.step("Each client for itself"):
        to, rows = vip(lesson, "sticky"), []
        for number, name in enumerate(("ann", "ben", "node1", "node2")):
            met = meets(lesson, name, to, 80, 43001 + 20 * number)
            rows.append((name, " ".join(sorted(set(met)))))
        lesson.table(("client", f"in {MANY} connections meets"), rows)
        for name, pods in rows:
            lesson.check_that(f"{name} meets one pod only", " " not in pods, expected="one pod", seen=pods)
        entries = show_learned(lesson)
        expected = sorted(str(lesson.lab.host(name).ip) for name, _ in rows)
        lesson.check(
            "one entry for each client, on the node where it asks",
            expected=" ".join(expected),
            seen=" ".join(sorted(map(client_of, entries))),
        )


def behind_a_nat(lesson: Lesson) -> None:
    from scenarios.objects import node_port
    from topo.hosts import HostHandle

    with lesson.step("Behind a NAT everybody is one client"):
        number = node_port(lesson.lab.client.get("Service", "sticky"))
        to = str(lesson.lab.node(1).ip)
        own = {name: meets(lesson, name, to, number, 44001)[0] for name in ("client1", "client2")}
        lesson.say(f"By node1's node port client1 meets {own['client1']}, client2 meets {own['client2']}.")
        clients = sorted(str(lesson.lab.outside(name).ip) for name in own)
        known = {client_of(entry) for entry in learned(lesson)}
        lesson.check(
            "the switch knows both of them",
            expected=" ".join(clients),
            seen=" ".join(sorted(known & set(clients))),
        )
        lesson.say("Now the router hides both behind its own address, as a company's or a phone net's does:")
        router = HostHandle(lesson.lab.network, "fabric")
        for command in (
            "nft add table ip company",
            "nft add chain ip company out '{ type nat hook postrouting priority srcnat; }'",
            f"nft add rule ip company out ip saddr 198.51.100.0/24 ip daddr {to} snat to {FABRIC}",
        ):
            lesson.run(router, command)
        with lesson.watch() as seen:
            hidden = {name: meets(lesson, name, to, number, 44101 + 100 * i) for i, name in enumerate(own)}
        lesson.packets(seen.by(44101))
        lesson.run(router, "nft delete table ip company")
        met = {pod for pods in hidden.values() for pod in pods}
        lesson.check("both meet one and the same pod", expected=1, seen=len(met))
        mine = [entry for entry in learned(lesson) if client_of(entry) == FABRIC]
        lesson.check("for the switch they are one client, the router", expected=1, seen=len(mine))
        lesson.say("So affinity by address can put a whole company on one pod. For people there are cookies.")


def the_pod_dies(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("When the pod dies, affinity dies with it"):
        ann, to = lesson.lab.pod("ann"), vip(lesson, "sticky")
        before = ask(ann, to, 80, source_port=45001).pod
        lesson.delete("Pod", before, grace=0)
        left = [entry for entry in learned(lesson) if client_of(entry) == str(ann.ip)]
        lesson.check("what was learned about it is gone in the same moment", expected=0, seen=len(left))
        with lesson.watch() as seen:
            after = ask(ann, to, 80, source_port=45002)
        lesson.packets(seen.by(45002))
        lesson.check_that(
            "ann meets another pod at once",
            after.pod not in ("", before),
            expected=f"not {before}",
            seen=after.pod or after.fate,
        )
        met = meets(lesson, "ann", to, 80, 45011)
        lesson.check("and stays with it", expected=after.pod, seen=" ".join(sorted(set(met))))


def after_a_while(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("After a while it is forgotten"):
        config = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": SECONDS}}}
        lesson.patch("Service", "sticky", {"spec": config})
        ann, to = lesson.lab.pod("ann"), vip(lesson, "sticky")
        ask(ann, to, 80, source_port=46001)
        began = time.monotonic()
        entry = the_only(show_learned(lesson))
        lesson.check("what is learned now", expected=str(ann.ip), seen=client_of(entry))
        lesson.until(lambda: not learned(lesson), f"the switch forgets after {SECONDS} s", timeout=30)
        took = time.monotonic() - began
        lesson.check_that(
            f"it was forgotten after {SECONDS} s without a new connection",
            took >= SECONDS - 1,
            expected=f"{SECONDS} s, with the switch's whole seconds",
            seen=f"{took:.1f} s",
        )
        with lesson.watch() as seen:
            ask(ann, to, 80, source_port=46002)
        lesson.flows(seen, "node1", "sticky")
        groups = groups_of(seen.flows["node1"])
        lesson.check("the next connection is a new choice", expected=1, seen=len(groups))
        lesson.say("Each new connection starts the time again, so who comes often stays.")


def groups_of(flows: list[ExplainedFlow]) -> list[ExplainedFlow]:
    """The flows that let a group choose for sticky; other connections in the cluster are none of its."""
    return [flow for flow in flows if "group:" in flow.actions and flow.concerns("default", "sticky")]


def how_long(lesson: Lesson) -> None:
    from scenarios.objects import service

    with lesson.step("How long one may ask for"):
        for seconds in (0, 86401):
            config = {"clientIP": {"timeoutSeconds": seconds}}
            wrong = service("long", "web", sessionAffinity="ClientIP", sessionAffinityConfig=config)
            lesson.check_says(
                f"{seconds} s is refused",
                "must be greater than 0 and less than 86400",
                seen=lesson.refused(wrong),
            )


def meets(lesson: Lesson, name: str, address: str, port: int, first: int) -> list[str]:
    """Who answers each of MANY new connections of a client."""
    from scenarios.asking import ask

    host = lesson.lab.host(name)
    answers = [ask(host, address, port, source_port=first + number) for number in range(MANY)]
    return [answer.pod or answer.fate for answer in answers]


def learned(lesson: Lesson) -> list[ExplainedFlow]:
    """What the switches have learned about clients of sticky, on every node."""
    from scenarios import flows

    nodes = [node.name for node in lesson.lab.plan.nodes]
    found: dict[str, Any] = flows.read(lesson.lab.client, nodes)
    return [
        flow
        for node in nodes
        for flow in found[node]
        if flow.table == "SessionAffinity" and flow.concerns("default", "sticky")
    ]


def show_learned(lesson: Lesson) -> list[ExplainedFlow]:
    entries, names = learned(lesson), lesson.names()
    rows = [(names.host(client_of(entry)), _word("nw_dst", entry), endpoint_of(entry)) for entry in entries]
    lesson.table(("learned: when this client", "asks for", "it is given"), rows)
    return entries


def the_only(entries: list[ExplainedFlow]) -> ExplainedFlow:
    if len(entries) != 1:
        raise LookupError(f"the switches have learned {len(entries)} flows, not one")
    return entries[0]


def client_of(entry: ExplainedFlow) -> str:
    return _word("nw_src", entry)


def endpoint_of(entry: ExplainedFlow) -> str:
    """The address that a learned flow writes into register 3, the port into register 4."""
    address, port = (
        int(re.findall(rf"set_field:(0x[0-9a-f]+)[^,]*->{register}", entry.actions)[0], 16)
        for register in ("reg3", "reg4")
    )
    return f"{IPv4Address(address)}:{port & 0xFFFF}"


def _word(field: str, entry: ExplainedFlow) -> str:
    found = re.search(rf"{field}=([0-9.]+)", entry.match)
    return found[1] if found else ""


def vip(lesson: Lesson, name: str) -> str:
    return str(lesson.lab.client.get("Service", name)["spec"]["clusterIP"])


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
