"""Schedulers: who gets the next connection, as IPVS would decide it.

The pattern of each: by turns, by open connections, by hash. What the switch does by itself, what needs
somebody who remembers, and what happens when that somebody is dead.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.lesson import Lesson

NODES = 3
WEIGHTS = {"a": 5, "b": 3, "c": 1}
SCHEDULER, WEIGHT = "podwire.dev/scheduler", "podwire.dev/weight"


def tell(lesson: Lesson) -> None:
    """By turns, by open connections, by hash; then without a kubeproxy, and with a wrong name."""
    nine(lesson)
    by_turns(lesson)
    each_node_for_itself(lesson)
    by_open_connections(lesson)
    by_weight_and_connections(lesson)
    by_client(lesson)
    only_its_own_share(lesson)
    by_destination(lesson)
    without_the_kubeproxy(lesson)
    a_wrong_name(lesson)


def nine(lesson: Lesson) -> None:
    from controller.kubeproxy.schedulers import SCHEDULERS
    from scenarios.objects import pod

    with lesson.step("Nine ways to choose"):
        lesson.say(
            "kube-proxy's iptables and nftables modes choose at random. Its ipvs mode can use the schedulers "
            "of Linux' IPVS, one for the whole cluster; that mode is deprecated since Kubernetes 1.35. Here "
            f"every Service may have its own, by the annotation {SCHEDULER}; without it connections are "
            "spread evenly."
        )
        lesson.table(
            ("name", "who gets the next connection", "decided by"),
            [(s.name, s.meaning, "kubeproxy" if s.reactive else "switch") for s in SCHEDULERS.values()],
        )
        web = [heavy(pod(f"web-{name}", f"node{turn}", "web"), weight)
               for turn, (name, weight) in enumerate(WEIGHTS.items(), 1)]  # fmt: skip
        made = lesson.apply(*web, pod("ann", "node1"), pod("ben", "node1"))
        weights = {
            obj["metadata"]["name"]: obj["metadata"].get("annotations", {}).get(WEIGHT) for obj in made
        }
        lesson.say(
            f"Three pods, one on each node, weigh 5, 3 and 1 by the annotation {WEIGHT}; ann and ben ask."
        )
        lesson.check(
            "the pods carry their weights",
            expected="5 3 1",
            seen=" ".join(str(weights[f"web-{name}"]) for name in WEIGHTS),
        )


def by_turns(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("By turns: rr and wrr"):
        serve(lesson, "turns", "rr")
        ann, to = lesson.lab.pod("ann"), vip(lesson, "turns")
        with lesson.watch() as seen:
            first = ask(ann, to, 80, source_port=41001)
        lesson.packets(seen.by(41001))
        lesson.flows(seen, "node1", "turns")
        lesson.say(
            "The first packet took a way round: Scheduler sent it to the kubeproxy, which put the endpoint "
            "into the registers and sent it back into the pipeline. Every later packet is conntrack's."
        )
        lesson.check("it was not lost: the first one got the first turn", expected="web-a", seen=first.pod)
        again = [journey for journey in seen.by(41001).journeys if journey.again]
        lesson.check("nothing had to be sent again", expected=0, seen=len(again))
        met = asks(lesson, "ann", to, 8, 41011)
        picture(lesson, "rr", [first.pod, *met])
        lesson.check(
            "round robin: one after the other", expected="abcabcabc", seen=letters([first.pod, *met])
        )
        serve(lesson, "heavier", "wrr")
        met = asks(lesson, "ann", vip(lesson, "heavier"), 9, 41101)
        picture(lesson, "wrr", met)
        lesson.check("weighted: five, three and one of nine", expected="aaabababc", seen=letters(met))


def each_node_for_itself(lesson: Lesson) -> None:
    with lesson.step("Each node for itself"):
        lesson.say(
            "A kube-proxy knows only what it gave out itself. So each node takes turns by itself, which is "
            "one reason why Kubernetes found IPVS' schedulers not very useful in the end."
        )
        to = vip(lesson, "heavier")
        rows = []
        for number, name in enumerate(("node2", "node3")):
            met = asks(lesson, name, to, 3, 42001 + 20 * number)
            rows.append((name, " ".join(letters(met))))
            lesson.check(f"{name} begins with the first turn", expected="aaa", seen=letters(met))
        lesson.table(("client", "its first three connections"), rows)


def by_open_connections(lesson: Lesson) -> None:
    with lesson.step("By open connections: lc"):
        serve(lesson, "fewest", "lc")
        to = vip(lesson, "fewest")
        with held(lesson, "ann", to, 6, 43001) as (met, connections):
            picture(lesson, "lc", met)
            lesson.check("all stay open: each gets as many", expected="abcabc", seen=letters(met))
            lesson.table(
                ("pod", "open connections, as node1's switch counts them"),
                list(counted(lesson, "fewest").items()),
            )
            lesson.check("two are open to each", expected="2 2 2", seen=numbers(counted(lesson, "fewest")))
            for who, connection in zip(met, connections, strict=True):
                if who == "web-b":
                    connection.close()
            lesson.say("Now the two to web-b are closed. A flow for each connection sees the FIN, and goes.")
            lesson.until(lambda: counted(lesson, "fewest")["web-b"] == 0, "web-b has no open connections")
            lesson.lab.settle()  # the word that the flows are gone comes a moment after they are
            lesson.table(("pod", "open connections"), list(counted(lesson, "fewest").items()))
            with held(lesson, "ann", to, 3, 43101) as (later, _):
                picture(lesson, "lc", later)
                lesson.check("web-b catches up first", expected="bba", seen=letters(later))


def by_weight_and_connections(lesson: Lesson) -> None:
    with lesson.step("By weight and open connections: wlc, sed, nq"):
        lesson.say("Nine connections that stay open, over pods that weigh 5, 3 and 1:")
        for number, (name, expected, why) in enumerate(
            (
                ("wlc", "abcabaaba", "connections divided by weight"),
                ("sed", "abaabaabc", "as if the new one was there already: the lightest waits longest"),
                ("nq", "abcaabaab", "nobody idle is left out; then as sed"),
            )
        ):
            serve(lesson, name, name)
            with held(lesson, "ann", vip(lesson, name), 9, 44001 + 20 * number) as (met, _):
                picture(lesson, name, met)
                lesson.check(f"{name}: {why}", expected=expected, seen=letters(met))
                lesson.check("in the end five, three and one", expected=[5, 3, 1], seen=shares(met))


def by_client(lesson: Lesson) -> None:
    with lesson.step("By client: sh and mh"):
        serve(lesson, "source", "sh", type="NodePort")
        rows = []
        for number, name in enumerate(("ann", "ben", "node2", "client1")):
            to, port = where(lesson, "source", name)
            met = asks(lesson, name, to, 5, 45001 + 20 * number, port=port)
            rows.append((name, " ".join(letters(met))))
            lesson.check(f"{name} meets one pod, every time", expected=1, seen=len(set(met)))
        lesson.table(("client", "its five connections"), rows)
        to, port = where(lesson, "source", "client1")
        with lesson.watch() as seen:
            asks(lesson, "client1", to, 1, 45101, port=port)
        lesson.packets(seen.by(45101))
        lesson.flows(seen, "node1", "source")
        lesson.say(
            "Here no kubeproxy is asked: the Service's group hashes the client's address alone. Every node "
            "has the same group, so a client meets the same pod through any of them."
        )
        serve(lesson, "maglev", "mh")
        met = asks(lesson, "ann", vip(lesson, "maglev"), 12, 45201)
        picture(lesson, "mh", met)
        lesson.say("kube-proxy has mh look at the client's port as well, so one client meets several pods.")
        again = asks(lesson, "ann", vip(lesson, "maglev"), 12, 45201)
        lesson.check("the same ports meet the same pods", expected=letters(met), seen=letters(again))
        lesson.check_that(
            "several of them", len(set(met)) > 1, expected="more than one pod", seen=len(set(met))
        )


def only_its_own_share(lesson: Lesson) -> None:
    with lesson.step("When a pod goes, only its own share moves"):
        to = vip(lesson, "maglev")
        before = asks(lesson, "ann", to, 24, 46001)
        gone = before[0]
        lesson.delete("Pod", gone, grace=0)
        after = asks(lesson, "ann", to, 24, 46001)
        lesson.table(("ann's connections", letters(before)), [(f"without {gone}", letters(after))])
        others = [place for place, pod in enumerate(before) if pod != gone]
        lesson.check(
            "whoever met another pod still meets it",
            expected="".join(letters([before[place]]) for place in others),
            seen="".join(letters([after[place]]) for place in others),
        )
        lesson.say(
            "That is what Maglev's table is for; here the switch scores every pod for each connection."
        )
        back(lesson, gone)


def by_destination(lesson: Lesson) -> None:
    with lesson.step("By destination: dh"):
        serve(lesson, "target", "dh")
        met = asks(lesson, "ann", vip(lesson, "target"), 5, 47001)
        met += asks(lesson, "node2", vip(lesson, "target"), 5, 47021)
        picture(lesson, "dh", met)
        lesson.check("one address is asked, so one pod has all the work", expected=1, seen=len(set(met)))
        lesson.say("Made for caches in front of many addresses, it makes little sense for a Service.")


def without_the_kubeproxy(lesson: Lesson) -> None:
    from controller.kubeproxy.dispatch import LEASE
    from scenarios.asking import ask

    with lesson.step("When the kubeproxy is dead"):
        ann, to = lesson.lab.pod("ann"), vip(lesson, "turns")
        lesson.lab.kill("kubeproxy")
        began = time.monotonic()
        first = ask(ann, to, 80, source_port=48001, timeout=15)
        took = time.monotonic() - began
        lesson.say(
            f"It held a lease of {LEASE} seconds: a flow that sends first packets to it, and ends by itself. "
            "Until then a SYN is lost; the client's kernel sends it again, and the group under the lease "
            "chooses."
        )
        lesson.check("the connection came to be all the same", expected="answered", seen=first.fate)
        lesson.check_that(
            "the worst case, by its own clock",
            took < LEASE + 5,
            expected=f"under {LEASE + 5} s",
            seen=f"{took:.1f} s",
        )
        began = time.monotonic()
        met = asks(lesson, "ann", to, 6, 48011)
        took = time.monotonic() - began
        lesson.check("now every connection is answered", expected=6, seen=len([m for m in met if "web" in m]))
        lesson.check_that("and at once", took < 1, expected="all in under a second", seen=f"{took:.2f} s")
        picture(lesson, "a hash", met)
        lesson.lab.restart("kubeproxy")
        lesson.lab.settle()
        met = asks(lesson, "ann", to, 6, 48101)
        picture(lesson, "rr", met)
        lesson.check("back again, it takes turns again", expected="abcabc", seen=letters(met))


def a_wrong_name(lesson: Lesson) -> None:
    with lesson.step("A name that no scheduler has"):
        serve(lesson, "wrong", "fastest")
        lesson.until(lambda: bool(said_of(lesson, "wrong")), "an Event about the Service")
        lesson.check_says(
            "an Event tells it", 'there is no scheduler "fastest"', seen=" ".join(said_of(lesson, "wrong"))
        )
        met = asks(lesson, "ann", vip(lesson, "wrong"), 6, 49001)
        lesson.check("the Service works as without it", expected=6, seen=len([m for m in met if "web" in m]))


# What the steps share.


def heavy(pod: dict[str, object], weight: int) -> dict[str, object]:
    """The pod with its weight."""
    metadata = dict(pod["metadata"]) | {"annotations": {WEIGHT: str(weight)}}  # type: ignore[call-overload]
    return pod | {"metadata": metadata}


def serve(lesson: Lesson, name: str, scheduler: str, **spec: Any) -> None:
    """A Service of this scheduler over the three pods."""
    from scenarios.objects import service

    made = service(name, "web", **spec)
    made["metadata"]["annotations"] = {SCHEDULER: scheduler}
    lesson.apply(made)


def back(lesson: Lesson, name: str) -> None:
    """A pod that was deleted, made again as it was."""
    from scenarios.objects import pod

    letter = name.removeprefix("web-")
    lesson.apply(heavy(pod(name, f"node{list(WEIGHTS).index(letter) + 1}", "web"), WEIGHTS[letter]))


def vip(lesson: Lesson, name: str) -> str:
    return str(lesson.lab.client.get("Service", name)["spec"]["clusterIP"])


def where(lesson: Lesson, service: str, client: str) -> tuple[str, int]:
    """Address and port by which a client can ask: from outside by node1's NodePort."""
    from scenarios.objects import node_port

    if client != "client1":
        return vip(lesson, service), 80
    return str(lesson.lab.node(1).ip), node_port(lesson.lab.client.get("Service", service))


def asks(lesson: Lesson, name: str, address: str, count: int, first: int, *, port: int = 80) -> list[str]:
    """Who answers each of so many connections, one after the other."""
    from scenarios.asking import ask

    host = lesson.lab.host(name)
    answers = [ask(host, address, port, source_port=first + turn) for turn in range(count)]
    return [answer.pod or answer.fate for answer in answers]


@contextmanager
def held(
    lesson: Lesson, name: str, address: str, count: int, first: int
) -> Iterator[tuple[list[str], list[socket.socket]]]:
    """So many connections that stay open: who answered each, and their sockets."""
    from scenarios.asking import request

    host, met, connections = lesson.lab.host(name), [], []
    with ExitStack() as stack:
        for turn in range(count):
            connection = stack.enter_context(host.socket(socket.AF_INET, socket.SOCK_STREAM))
            connection.settimeout(5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(("", first + turn))
            connection.connect((address, 80))
            met.append(request(connection).pod)
            connections.append(connection)
        yield met, connections


def counted(lesson: Lesson, service: str) -> dict[str, int]:
    """Open connections to each pod, by the flows in node1's table Connections."""
    from scenarios import flows

    found = {f"web-{name}": 0 for name in WEIGHTS}
    address = {str(lesson.lab.pod(name).ip): name for name in found}
    for flow in flows.read(lesson.lab.client, ["node1"])["node1"]:
        if flow.table == "Connections" and flow.concerns("default", service):
            endpoint = next(ip for ip in address if f"{ip}:" in flow.why)
            found[address[endpoint]] += 1
    return found


def numbers(found: dict[str, int]) -> str:
    return " ".join(map(str, found.values()))


def picture(lesson: Lesson, title: str, met: Sequence[str]) -> None:
    """One line for each pod, one column for each connection."""
    rows = [
        (name, WEIGHTS[name.removeprefix("web-")], " ".join("●" if pod == name else "·" for pod in met))
        for name in sorted(f"web-{letter}" for letter in WEIGHTS)
    ]
    columns = " ".join(str((turn + 1) % 10) for turn in range(len(met)))
    lesson.table((f"by {title}", "weight", columns), rows)


def letters(met: Iterable[str]) -> str:
    """``web-a`` as a; what is no pod's name stays what it is."""
    return "".join(pod.removeprefix("web-") for pod in met)


def shares(met: Sequence[str]) -> list[int]:
    return [met.count(f"web-{name}") for name in WEIGHTS]


def said_of(lesson: Lesson, name: str) -> list[str]:
    """The warnings about a Service."""
    return [
        event["message"]
        for event in lesson.lab.client.list("Event", "default")[0]
        if event["type"] == "Warning" and event["involvedObject"]["name"] == name
    ]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
