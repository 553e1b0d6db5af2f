"""Termination: a pod that ends serves on, and nobody's connection is cut.

Graceful deletion step by step: what the EndpointSlice says of the pod, where new connections go, what
becomes of old ones, and what happens when everybody is about to leave.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.lesson import Lesson

NODES = 2
MANY = 12
"""Connections to see where new ones go: that one of two pods gets none by chance is 1 in 4,096."""
LEAVING = "until [ -e /tmp/leave ]; do sleep 0.05; done"
"""The pods' preStop hook, so that this lesson and not a clock says when a pod has finished its work."""


def tell(lesson: Lesson) -> None:
    """One of two pods leaves, then the last one; then one is only ill."""
    with ExitStack() as stack:
        old = two_pods(lesson, stack)
        one_is_told_to_end(lesson)
        old_and_new(lesson, old)
        it_ends(lesson, old)
    the_last_one(lesson)
    ill_not_leaving(lesson)


def two_pods(lesson: Lesson, stack: ExitStack) -> socket.socket:
    from scenarios.asking import request
    from scenarios.objects import pod, service

    with lesson.step("Two pods, and what is written of them"):
        lesson.say(
            "`slow` has two pods that need time to leave: a preStop hook waits until the file /tmp/leave is "
            "there. The asking pod is on node1."
        )
        lesson.apply(
            slow("slow-1", "node1"),
            slow("slow-2", "node2"),
            service("slow", type="NodePort"),
            pod("asker", "node1"),
        )
        ready(lesson, "slow-1", "slow-2")
        show(lesson)
        lesson.check(
            "both are ready, serving, not terminating",
            expected="slow-1: yes yes no, slow-2: yes yes no",
            seen=", ".join(f"{name}: {' '.join(said)}" for name, said in conditions(lesson).items()),
        )
        old = connection_to(lesson, "slow-2", stack)
        with lesson.watch() as seen:
            answer = request(old)
        lesson.say("A connection is open to slow-2, and used:")
        data = seen.by(old.getsockname()[1])
        lesson.packets(data)
        lesson.check("slow-2 answers on it", expected="slow-2", seen=answer.pod)
        return old


def one_is_told_to_end(lesson: Lesson) -> None:
    from topo import sandbox

    with lesson.step("slow-2 is told to end"):
        lesson.delete("Pod", "slow-2")
        listed = lesson.lab_command(f"get pods --lab {sandbox.name()}")
        deleted = lesson.lab.client.get("Pod", "slow-2")
        lesson.say(
            "Deleting is a wish: the pod has a deletionTimestamp and a grace period now, and it still runs. "
            "Its endpoint stays in the slice, so that every proxy knows what it is."
        )
        row = next((line.split() for line in listed.splitlines() if line.startswith("slow-2")), [])
        lesson.check("the list of pods says so, too", expected="Terminating", seen=" ".join(row[2:3]))
        lesson.check_that(
            "it is still there, with the time by which it will be gone",
            "deletionTimestamp" in deleted["metadata"],
            expected="a deletionTimestamp",
            seen=deleted["metadata"].get("deletionTimestamp"),
        )
        show(lesson)
        lesson.check(
            "slow-2 is not ready (for new clients), but serving, and terminating",
            expected="no yes yes",
            seen=" ".join(conditions(lesson)["slow-2"]),
        )
        lesson.check(
            "the older Endpoints object has only slow-1 left",
            expected=str(lesson.lab.pod("slow-1").ip),
            seen=", ".join(
                a["ip"]
                for subset in lesson.lab.client.get("Endpoints", "slow").get("subsets") or ()
                for a in subset.get("addresses") or ()
            ),
        )


def old_and_new(lesson: Lesson, old: socket.socket) -> None:
    from scenarios.asking import request

    with lesson.step("New connections go elsewhere, the old one stays"):
        found = who_answers(lesson, 41001)
        lesson.check(f"of {MANY} new connections slow-1 gets all", expected=f"slow-1 {MANY}", seen=found)
        with lesson.watch() as seen:
            answer = request(old)
        connection = seen.by(old.getsockname()[1])
        lesson.packets(connection)
        lesson.check("the old connection is served by slow-2 as before", expected="slow-2", seen=answer.pod)
        lesson.check(
            "slow-2 still gets packets",
            expected=str(lesson.lab.pod("slow-2").ip),
            seen=connection.served.dst.address,
        )
        choosing = [
            flow
            for flow in seen.flows["node1"]
            if flow.table == "ServiceLB" and flow.concerns("default", "slow")
        ]
        lesson.check("and nothing was chosen for it: ServiceLB was not asked", expected=0, seen=len(choosing))
        lesson.say("Conntrack remembers the choice. The Service's group no longer has slow-2 at all:")
        lesson.memory(seen, connection)


def it_ends(lesson: Lesson, old: socket.socket) -> None:
    with lesson.step("It has finished"):
        leave(lesson, "slow-2")
        show(lesson)
        lesson.check("the slice names slow-1 only", expected=["slow-1"], seen=sorted(conditions(lesson)))
        try:
            said = "closed" if old.recv(4096) == b"" else "data"
        except OSError as error:
            said = (error.strerror or "").lower()
        lesson.check_that(
            "the old connection ended when the pod did, not before",
            said in ("closed", "connection reset by peer"),
            expected="closed or reset",
            seen=said,
        )
        found = who_answers(lesson, 41101)
        lesson.check("new connections never noticed", expected=f"slow-1 {MANY}", seen=found)


def the_last_one(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("When the last one leaves"):
        lesson.delete("Pod", "slow-1")
        show(lesson)
        lesson.check(
            "nobody is ready any more", expected="no yes yes", seen=" ".join(conditions(lesson)["slow-1"])
        )
        lesson.say(
            "Refusing now would help nobody: slow-1 still answers. So where no endpoint is ready, those that "
            "serve while they terminate count (KEP-1669)."
        )
        with lesson.watch() as seen:
            answer = ask(lesson.lab.pod("asker"), vip(lesson), 80, source_port=40002)
        lesson.packets(seen.by(40002))
        lesson.flows(seen, "node1", "slow")
        lesson.check(
            "a new connection is served by the pod that is leaving", expected="slow-1", seen=answer.pod
        )
        with lesson.watch() as seen:
            answer = ask(lesson.lab.outside(), str(lesson.lab.node(2).ip), number(lesson), source_port=40003)
        lesson.check("one from outside, by the other node, as well", expected="slow-1", seen=answer.pod)
        lesson.packets(seen.by(40003))
        leave(lesson, "slow-1")
        with lesson.watch() as seen:
            answer = ask(lesson.lab.pod("asker"), vip(lesson), 80, source_port=40004)
        lesson.packets(seen.by(40004))
        lesson.check("when it is gone, the Service refuses", expected="refused", seen=answer.fate)


def ill_not_leaving(lesson: Lesson) -> None:
    from controller.api.objects import is_ready
    from scenarios.asking import request

    with lesson.step("Ill is not leaving"):
        lesson.say(
            "Two new pods. One fails its readiness probe: it is neither ready nor serving, and not "
            "terminating. For new connections that is the same; for the fallback it is not."
        )
        lesson.apply(slow("slow-3", "node1"), slow("slow-4", "node2"))
        ready(lesson, "slow-3", "slow-4")
        with ExitStack() as stack:
            old = connection_to(lesson, "slow-4", stack)
            lesson.run(lesson.lab.pod("slow-4"), "touch /tmp/sick")
            lesson.wait_for("Pod", "slow-4", lambda pod: not is_ready(pod))
            show(lesson)
            lesson.check(
                "slow-4 is neither ready nor serving",
                expected="no no no",
                seen=" ".join(conditions(lesson)["slow-4"]),
            )
            found = who_answers(lesson, 41201)
            lesson.check("slow-3 gets all new connections", expected=f"slow-3 {MANY}", seen=found)
            lesson.check("the open connection lives on", expected="slow-4", seen=request(old).pod)
        lesson.delete("Pod", "slow-3", grace=0)
        found = who_answers(lesson, 41301)
        lesson.check(
            "alone, the ill one is no fallback: it never said it could serve",
            expected=f"refused {MANY}",
            seen=found,
        )


def slow(name: str, node: str) -> Obj:
    """A pod that takes its time to leave, and is ready until /tmp/sick is there."""
    from scenarios.objects import pod

    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    hook = {"preStop": {"exec": {"command": ["sh", "-c", LEAVING]}}}
    more = {"readinessProbe": probe, "lifecycle": hook}
    return pod(name, node, "slow", container=more, terminationGracePeriodSeconds=60)


def leave(lesson: Lesson, name: str) -> None:
    """Let a terminating pod finish, and wait until it is gone."""
    lesson.run(lesson.lab.pod(name), "touch /tmp/leave")
    lesson.wait_gone("Pod", name)


def ready(lesson: Lesson, *names: str) -> None:
    from controller.api.objects import is_ready

    for name in names:
        lesson.wait_for("Pod", name, is_ready)


def endpoints(slice_: Obj) -> dict[str, Any]:
    return {e["targetRef"]["name"]: e["conditions"] for e in slice_.get("endpoints") or ()}


def conditions(lesson: Lesson) -> dict[str, tuple[str, ...]]:
    """By pod, yes or no: ready, serving, terminating, as the EndpointSlice says."""
    slices = lesson.lab.client.list("EndpointSlice", "default", labels="kubernetes.io/service-name=slow")[0]
    return {
        name: tuple("yes" if said.get(word) else "no" for word in ("ready", "serving", "terminating"))
        for one in slices
        for name, said in sorted(endpoints(one).items())
    }


def show(lesson: Lesson) -> None:
    rows = [(name, *said) for name, said in conditions(lesson).items()]
    lesson.table(("endpoint", "ready", "serving", "terminating"), rows)


def who_answers(lesson: Lesson, first: int) -> str:
    """How many of MANY new connections each pod answers (or what else becomes of them): ``slow-1 12``."""
    from scenarios.asking import ask
    from scenarios.many import counted

    asker, to = lesson.lab.pod("asker"), vip(lesson)
    answers = [ask(asker, to, 80, source_port=first + number) for number in range(MANY)]
    found = counted((answer.pod or answer.fate for answer in answers), ())
    return " ".join(f"{name} {count}" for name, count in found.items())


def connection_to(lesson: Lesson, name: str, stack: ExitStack) -> socket.socket:
    """An open connection to the Service that happens to be this pod's: others are tried until one is."""
    from scenarios.asking import request

    asker = lesson.lab.pod("asker")
    for _ in range(40):
        sock = stack.enter_context(asker.socket())
        sock.settimeout(5)
        sock.connect((vip(lesson), 80))
        if request(sock).pod == name:
            return sock
    raise AssertionError(f"none of 40 connections went to {name}")


def vip(lesson: Lesson) -> str:
    return str(lesson.lab.client.get("Service", "slow")["spec"]["clusterIP"])


def number(lesson: Lesson) -> int:
    from scenarios.objects import node_port

    return node_port(lesson.lab.client.get("Service", "slow"))


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
