"""Traffic policies: which endpoints may answer, and whose address they see.

externalTrafficPolicy and internalTrafficPolicy, Cluster and Local, as tables that are measured: every cell
is a real connection, asked of the pod that answered and read from the wire that leads to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.asking import Answer
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen

NODES = 3
DROPPED = 0.4
"""Seconds after which a question counts as dropped; an answer takes a few milliseconds."""
CURL = "curl -sS --max-time 5"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """``sender`` asks, ``by`` this address; whom the pods see under each policy, or what becomes of it."""

    sender: str
    by: str
    cluster: str
    local: str


CELLS = (
    Cell(sender="client1", by="node1", cluster="node1", local="client1"),
    Cell(sender="client1", by="node3", cluster="node3", local="dropped"),
    Cell(sender="near", by="node1", cluster="node1", local="near"),
    Cell(sender="far", by="node1", cluster="node1", local="far"),
    Cell(sender="far", by="node3", cluster="node3", local="far"),
    Cell(sender="node1", by="node3", cluster="node3", local="dropped"),
    Cell(sender="node3", by="localhost", cluster="node3", local="node3"),
    Cell(sender="far", by="ClusterIP", cluster="far", local="far"),
    Cell(sender="node3", by="ClusterIP", cluster="node3", local="node3"),
)


def tell(lesson: Lesson) -> None:
    """From outside, the reason for a drop, the health check, and the same question inside."""
    the_cluster(lesson)
    who_sees_whom(lesson)
    lost_address(lesson)
    kept_address(lesson)
    drop_or_refuse(lesson)
    health_check(lesson)
    inside(lesson)


def the_cluster(lesson: Lesson) -> None:
    from scenarios.objects import pod, service

    with lesson.step("One application, two Services that differ in one word"):
        lesson.say(
            "web-1 runs on node1, web-2 on node2, none on node3. `far` is a pod on node3 that asks, `near` "
            "one on node1. Both Services lead to web; only externalTrafficPolicy differs."
        )
        lesson.apply(
            pod("web-1", "node1", "web"),
            pod("web-2", "node2", "web"),
            pod("near", "node1"),
            pod("far", "node3"),
            service("cluster", "web", type="LoadBalancer"),
            service("local", "web", type="LoadBalancer", externalTrafficPolicy="Local"),
        )
        lesson.check(
            "the policy is Cluster unless one says otherwise",
            expected="Cluster",
            seen=get(lesson, "cluster")["spec"]["externalTrafficPolicy"],
        )
        lesson.say(
            "Both are of type LoadBalancer. A balancer passes the packet on to some node, so all that "
            "follows is true of its address as of the node ports used here."
        )


def who_sees_whom(lesson: Lesson) -> None:
    with lesson.step("Whose address does the pod see?"):
        lesson.say(
            "Nine ways to ask, each under both policies. Each connection has a source port of its own, so it "
            "can be found again where it arrives. What stands below is what arrived."
        )
        told: dict[int, Answer] = {}
        with lesson.watch() as seen:
            for number, (cell, name) in enumerate((c, n) for c in CELLS for n in ("cluster", "local")):
                told[41001 + number] = question(lesson, cell, name, 41001 + number)
        rows, agree = [], 0
        for number, cell in enumerate(CELLS):
            ports = (41001 + 2 * number, 41002 + 2 * number)
            found = [arrived(lesson, seen, port, told[port]) for port in ports]
            rows.append((cell.sender, cell.by, *found))
            agree += sum(says_the_same(seen, port, told[port]) for port in ports)
        lesson.table(("asks", "by", "pod sees (Cluster)", "pod sees (Local)"), rows)
        for cell, row in zip(CELLS, rows, strict=True):
            lesson.check(
                f"{cell.sender} by {cell.by}: Cluster, Local",
                expected=f"{cell.cluster}, {cell.local}",
                seen=f"{row[2]}, {row[3]}",
            )
        lesson.check("each time the pod itself says what its wire shows", expected=2 * len(CELLS), seen=agree)
        lesson.say(
            "Under Cluster, whoever asks a node port hides behind the node that was asked. Under Local "
            "nobody hides from a pod, and node3, which has none, is silent. A pod or node that asks its own "
            "node is exempt from Local: it is treated as if it had gone out to a balancer and come back. The "
            "ClusterIP keeps the source anyway, and this policy does not concern it."
        )


def lost_address(lesson: Lesson) -> None:
    with lesson.step("Cluster: why the address is lost"):
        lesson.say(
            "node3 has no pod, so it sends the packet on to another node. If it left the client's address "
            "in, the pod would answer the client directly, from an address the client never asked."
        )
        connection, seen = outside(lesson, "cluster", "node3", 42001)
        lesson.packets(connection)
        lesson.flows(seen, "node3", "cluster")
        lesson.check(
            "the pod sees node3", expected=address(lesson, "node3"), seen=connection.served.src.address
        )
        back = [hop.link for hop in connection.reply.hops]
        lesson.check_that(
            "so the answer comes by node3, which knows how to translate it back",
            "node3-uplink" in back,
            expected="by node3-uplink",
            seen=" ".join(back),
        )


def kept_address(lesson: Lesson) -> None:
    with lesson.step("Local: why it can be kept"):
        connection, seen = outside(lesson, "local", "node1", 42002)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "local")
        client = lesson.lab.outside()
        lesson.check(
            "the pod sees the client, port and all",
            expected=f"{client.ip}:42002",
            seen=str(connection.served.src),
        )
        lesson.check(
            "it is the pod of the node that was asked, never another",
            expected=pod_address(lesson, "web-1"),
            seen=connection.served.dst.address,
        )
        lesson.say(
            "The answer must come back by node1 to be translated, and it does: it starts there. The price: "
            "only nodes with a pod answer, and each gets its share however few pods it has."
        )


def drop_or_refuse(lesson: Lesson) -> None:
    with lesson.step("Dropped or refused?"):
        connection, seen = outside(lesson, "local", "node3", 42003)
        lesson.packets(connection)
        lesson.flows(seen, "node3", "local")
        lesson.check("node3 has no pod and says nothing at all", expected=0, seen=len(connection.replies()))
        lesson.say(
            "Somebody has pods, only not here: the balancer will notice by its health check and stop asking. "
            "A refusal would make clients give up that could be served a moment later."
        )
        lesson.delete("Pod", "web-1", "web-2", grace=0)
        connection, seen = outside(lesson, "local", "node3", 42004)
        lesson.packets(connection)
        lesson.check(
            "when nobody has a pod any more, the same question is refused",
            expected="RST,ACK",
            seen=", ".join(reply.hops[-1].flags for reply in connection.replies()[:1]) or "nothing",
        )
        lesson.check(
            "in the name of the address that was asked",
            expected=address(lesson, "node3"),
            seen=connection.reply.hops[-1].src.address,
        )


def health_check(lesson: Lesson) -> None:
    from scenarios.objects import pod

    with lesson.step("healthCheckNodePort: how a balancer finds the nodes"):
        spec = get(lesson, "local")["spec"]
        number = spec["healthCheckNodePort"]
        lesson.check_that(
            "the Service of policy Local has a health check port",
            30000 <= number <= 32767,
            expected="30000-32767",
            seen=number,
        )
        lesson.check(
            "the one of policy Cluster needs none",
            expected=None,
            seen=get(lesson, "cluster")["spec"].get("healthCheckNodePort"),
        )
        lesson.apply(pod("web-1", "node1", "web"), pod("web-2", "node2", "web"), pod("web-3", "node2", "web"))
        for name, local in (("node1", 1), ("node2", 2), ("node3", 0)):
            url = f"http://{address(lesson, name)}:{number}/healthz"
            done = lesson.run(lesson.lab.outside(), f"{CURL} -w '\\n%{{http_code}}' {url}")
            body, _, code = done.stdout.rpartition("\n")
            lesson.check(
                f"{name}: {'a pod or more' if local else 'no pod'}",
                expected=f"{200 if local else 503}, localEndpoints {local}",
                seen=f"{code}, localEndpoints {json.loads(body)['localEndpoints']}",
            )
        lesson.say("It is asked by real balancers, and by this lab's own: see lesson loadbalancer.")


def inside(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import service

    with lesson.step("internalTrafficPolicy: the same question for the ClusterIP"):
        lesson.say(
            "For what every node has one of, a log collector, a cache: ask the one on your own node. Local "
            "here means: never leave the node."
        )
        (made,) = lesson.apply(service("inside", "web", internalTrafficPolicy="Local"))
        vip = str(made["spec"]["clusterIP"])
        rows = []
        with lesson.watch() as seen:
            for number, name in enumerate(("near", "node1", "node2", "far", "node3")):
                wait = 5 if number < 3 else DROPPED
                answers = [
                    ask(lesson.lab.host(name), vip, 80, source_port=43001 + 10 * number + time, timeout=wait)
                    for time in range(4 if number < 3 else 1)
                ]
                rows.append((name, " ".join(sorted({answer.pod or answer.fate for answer in answers}))))
        lesson.table(("asks the ClusterIP", "is served by"), rows)
        expected = {
            "near": "web-1",
            "node1": "web-1",
            "node2": "web-2 web-3",
            "far": "dropped",
            "node3": "dropped",
        }
        for name, by in rows:
            lesson.check_that(
                f"{name}: only by pods of its own node" if by != "dropped" else f"{name}: by nobody",
                set(by.split()) <= set(expected[name].split()),
                expected=expected[name],
                seen=by,
            )
        connection = seen.to(vip, 80, source_port=43001)
        lesson.packets(connection)
        lesson.check_that(
            "the packet never left node1",
            not any(hop.link.endswith("-uplink") for hop in connection.opening.hops),
            expected="no uplink",
            seen=" ".join(hop.link for hop in connection.opening.hops),
        )
        lesson.flows(seen, "node3", "inside")


def question(lesson: Lesson, cell: Cell, name: str, source_port: int) -> Answer:
    """Ask once, as the cell says."""
    from scenarios.asking import ask
    from scenarios.objects import node_port

    service = get(lesson, name)
    host = lesson.lab.host(cell.sender)
    wait = DROPPED if getattr(cell, name) == "dropped" else 5
    if cell.by == "ClusterIP":
        return ask(host, service["spec"]["clusterIP"], 80, source_port=source_port, timeout=wait)
    to = "127.0.0.1" if cell.by == "localhost" else address(lesson, cell.by)
    return ask(host, to, node_port(service), source_port=source_port, timeout=wait)


def arrived(lesson: Lesson, seen: Seen, source_port: int, answer: Answer) -> str:
    """As whom the wire to the pod shows the client, by name; or the fate."""
    if answer.fate != "answered":
        return answer.fate
    return lesson.names().host(seen.by(source_port).served.src.address).removeprefix("pod ")


def says_the_same(seen: Seen, source_port: int, answer: Answer) -> bool:
    """Whether the pod's words are what the wire shows; silence, when no pod's wire shows anything."""
    connection = seen.by(source_port)
    if answer.fate == "answered":
        return str(connection.served.src) == answer.source
    return not connection.replies()


def outside(lesson: Lesson, name: str, node: str, source_port: int) -> Any:
    """One connection from the client to the Service's node port; as it was seen, and everything seen."""
    from scenarios.objects import node_port

    to, number = address(lesson, node), node_port(get(lesson, name))
    command = f"curl -sS --max-time 0.5 --local-port {source_port} http://{to}:{number}/clientip"
    with lesson.watch() as seen:
        lesson.run(lesson.lab.outside(), command)
    return seen.to(to, number, source_port=source_port), seen


def get(lesson: Lesson, name: str) -> Any:
    return lesson.lab.client.get("Service", name)


def address(lesson: Lesson, host: str) -> str:
    return str(lesson.lab.host(host).ip)


def pod_address(lesson: Lesson, name: str) -> str:
    return str(lesson.lab.pod(name).ip)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
