"""Hairpin: who asks a Service and is sent back to where the question came from.

A pod that reaches itself, by ClusterIP, node port and balancer's address; a node that reaches what listens
on itself. Why such a packet needs another source address, and when it already has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen

NODES = 3
HAIRPIN = "169.254.0.253"
MANY = 12
"""Connections to a Service of two pods: that all go to one of them is a chance of 1 in 2,048."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """``sender`` asks ``service`` by an address; ``sees`` is whom the endpoint sees."""

    sender: str
    service: str
    by: str
    sees: str


WAYS = (
    Way(sender="solo", service="self", by="ClusterIP", sees="hairpin"),
    Way(sender="solo", service="self", by="node1", sees="node1"),
    Way(sender="solo", service="self", by="node3", sees="node3"),
    Way(sender="solo", service="self", by="balancer", sees="node1"),
    Way(sender="solo", service="self-local", by="node1", sees="hairpin"),
    Way(sender="solo", service="self-local", by="balancer", sees="hairpin"),
    Way(sender="node2", service="host", by="ClusterIP", sees="hairpin"),
    Way(sender="node2", service="host", by="node2", sees="hairpin"),
    Way(sender="node2", service="host", by="balancer", sees="hairpin"),
    Way(sender="bob", service="host", by="ClusterIP", sees="bob"),
    Way(sender="bob", service="host", by="balancer", sees="bob"),
    Way(sender="client1", service="host", by="node2", sees="client1"),
)
FIRST_PORT = 43001


def tell(lesson: Lesson) -> None:
    """The problem, the answer, the choice among several, every way, and the long way round."""
    the_problem(lesson)
    the_answer(lesson)
    among_several(lesson)
    seen = every_way(lesson)
    the_long_way(lesson, seen)
    a_node_and_itself(lesson)


def the_problem(lesson: Lesson) -> None:
    from scenarios.objects import pod, service
    from topo.hosts import HostHandle

    with lesson.step("A letter to oneself"):
        lesson.say(
            "solo, on node1, is the only pod of its Service. It asks the Service, and the Service can only "
            "choose solo. If nothing but the destination were translated, solo would receive a packet from "
            "its own address. What does its kernel think of such a packet?"
        )
        lesson.apply(pod("solo", "node1"), service("self", "solo", type="LoadBalancer"))
        own = lesson.lab.pod("solo").ip
        network = HostHandle(lesson.lab.network, "solo")
        refused = lesson.run(network, f"ip route get {own} from {own} iif eth0")
        lesson.check_that(
            "a packet from outside with one's own source address is refused",
            refused.returncode != 0,
            expected="an error",
            seen=refused.stderr or refused.stdout,
        )
        taken = lesson.run(network, f"ip route get {own} from {HAIRPIN} iif eth0")
        lesson.check_says(f"one from {HAIRPIN} is taken", "local", seen=taken.stdout)
        lesson.say(
            "And even if it were taken, the answer would be to itself: it would never leave the pod, and "
            "nobody could translate it back."
        )


def the_answer(lesson: Lesson) -> None:
    with lesson.step(f"So it comes from {HAIRPIN}"):
        solo, vip = lesson.lab.pod("solo"), get(lesson, "self")["spec"]["clusterIP"]
        with lesson.watch() as seen:
            done = lesson.run(solo, f"curl -sS --max-time 5 --local-port 40001 http://{vip}/clientip")
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "self")
        lesson.memory(seen, connection)
        lesson.check("solo is asked by", expected=f"{HAIRPIN}:40001", seen=done.stdout)
        lesson.check("it asked itself", expected=str(solo.ip), seen=connection.served.dst.address)
        lesson.check(
            "the packet came out of solo's link and went back into it",
            expected="node1-solo in, node1-solo out",
            seen=way_of(connection),
        )
        lesson.check(
            "the answer seems to come from the Service",
            expected=f"{vip}:80",
            seen=str(connection.reply.hops[-1].src),
        )
        lesson.say(
            f"{HAIRPIN} is nobody's: a link-local address that only the switch knows. kube-proxy masquerades "
            "with the node's address here; a virtual one keeps the connection apart from the node's own."
        )


def among_several(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import pod, service

    with lesson.step("Only when it is itself"):
        lesson.apply(pod("a", "node1", "pair"), pod("b", "node2", "pair"), service("pair"))
        vip, a = get(lesson, "pair")["spec"]["clusterIP"], lesson.lab.pod("a")
        saw: dict[str, set[str]] = {}
        with lesson.watch() as seen:
            for port in range(42001, 42001 + MANY):
                answer = ask(a, vip, 80, source_port=port)
                saw.setdefault(answer.pod, set()).add(seen_as(answer.source))
        lesson.table(("a is answered by", "which sees"), [(n, " ".join(sorted(s))) for n, s in saw.items()])
        lesson.check("when a meets itself", expected=HAIRPIN, seen=" ".join(saw.get("a", ())))
        lesson.check("when a meets b, a's own address", expected=str(a.ip), seen=" ".join(saw.get("b", ())))
        lesson.check(
            "on the wires as in the pods' words",
            expected=" ".join(sorted((HAIRPIN, str(a.ip)))),
            seen=" ".join(sorted({one.served.src.address for one in seen.all_to(vip, 80)})),
        )


def every_way(lesson: Lesson) -> Seen:
    from scenarios.asking import ask
    from scenarios.objects import pod, service

    with lesson.step("Every way back to oneself"):
        lesson.say(
            "`self-local` is self with externalTrafficPolicy Local. `host` leads to a pod with hostNetwork "
            "on node2: its address is the node's, and node2 asking for it asks itself. bob is an ordinary "
            "pod on node2. The lab's cloud gives every one of them a balancer's address."
        )
        lesson.lab.start_cloud()
        lesson.apply(
            service("self-local", "solo", type="LoadBalancer", externalTrafficPolicy="Local"),
            pod("onhost", "node2", "host", port=9090, hostNetwork=True),
            service("host", target=9090, type="LoadBalancer"),
            pod("bob", "node2"),
        )
        told = []
        with lesson.watch() as seen:
            for number, way in enumerate(WAYS):
                address, port = where(lesson, way)
                told.append(ask(lesson.lab.host(way.sender), address, port, source_port=FIRST_PORT + number))
        rows, agree, names = [], 0, lesson.names()
        for number, (way, answer) in enumerate(zip(WAYS, told, strict=True)):
            connection = seen.by(FIRST_PORT + number)
            sees = names.host(connection.served.src.address).removeprefix("pod ")
            agree += str(connection.served.src) == answer.source
            rows.append((way.sender, way.service, way.by, answer.pod or answer.fate, sees))
        lesson.table(("asks", "Service", "by", "answered by", "who sees"), rows)
        for way, row in zip(WAYS, rows, strict=True):
            pod_name = "onhost" if way.service == "host" else "solo"
            lesson.check(
                f"{way.sender} asks {way.service} by {way.by}",
                expected=f"{pod_name} sees {way.sees}",
                seen=f"{row[3]} sees {row[4]}",
            )
        lesson.check("each time the pod itself says what its wire shows", expected=len(WAYS), seen=agree)
        lesson.say(
            "Where policy Cluster masquerades anyway, the packet has the node's address already and needs no "
            "other. bob and client1 are no hairpins: they only show that nothing else is touched."
        )
        return seen


def the_long_way(lesson: Lesson, seen: Seen) -> None:
    with lesson.step("The long way round: by another node's port"):
        lesson.say("solo asks node3, which has no idea that the endpoint it sends this to is who asked.")
        connection = seen.by(port_of("solo", "self", "node3"))
        lesson.packets(connection)
        lesson.check(
            "out by node1, to node3, back by node1",
            expected="node1-uplink out, node3-uplink in, node3-uplink out, node1-uplink in",
            seen=", ".join(part for part in way_of(connection).split(", ") if "uplink" in part),
        )
        short = seen.by(port_of("solo", "self", "balancer"))
        lesson.say(
            "By the balancer's address there is no need to go that far. node1 knows the Service itself:"
        )
        lesson.packets(short)
        lesson.check(
            "the packet never left node1", expected="node1-solo in, node1-solo out", seen=way_of(short)
        )


def a_node_and_itself(lesson: Lesson) -> None:
    with lesson.step("A node that asks itself"):
        lesson.say(
            "The same problem: node2's kernel would refuse a packet from its own address. It is handed back "
            f"by the link it came from, as if from {HAIRPIN}."
        )
        node, vip = lesson.lab.node(2), get(lesson, "host")["spec"]["clusterIP"]
        with lesson.watch() as seen:
            done = lesson.run(node, f"curl -sS --max-time 5 --local-port 40002 http://{vip}/clientip")
        connection = seen.by(40002)
        lesson.packets(connection)
        lesson.flows(seen, "node2", "host")
        lesson.check(
            "out of node2's own network and back into it",
            expected="node2-host in, node2-host out",
            seen=way_of(connection),
        )
        lesson.check("it is asked by", expected=f"{HAIRPIN}:40002", seen=done.stdout)


def get(lesson: Lesson, name: str) -> Any:
    return lesson.lab.client.get("Service", name)


def where(lesson: Lesson, way: Way) -> tuple[str, int]:
    """Address and port by which a way asks."""
    from controller.api.cells import external_ip
    from scenarios.objects import node_port

    service = get(lesson, way.service)
    if way.by == "ClusterIP":
        return service["spec"]["clusterIP"], 80
    if way.by == "balancer":
        return external_ip(service), 80
    return str(lesson.lab.host(way.by).ip), node_port(service)


def port_of(sender: str, service: str, by: str) -> int:
    """The source port of a way."""
    return FIRST_PORT + [(way.sender, way.service, way.by) for way in WAYS].index((sender, service, by))


def way_of(connection: Connection) -> str:
    """Links of the first packet, each with whether it entered the switch there or left it."""
    places = (hop.place for hop in connection.opening.hops)
    return ", ".join(f"{place.link} {'out' if place.outgoing else 'in'}" for place in places)


def seen_as(source: str) -> str:
    return source.rpartition(":")[0]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
