"""DNS failover: two DNS pods, and one ends in order, hangs, is taken away.

Who is asked, who waits five seconds and why, what conntrack has to do with it, what must be forgotten
before a question that is sent again can reach the other pod, and how a pod's dnsConfig makes one second
of five.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen

NODES = 2
DNS = "10.96.0.10"
SYSTEM = "kube-system"
SELECTOR = "k8s-app=kube-dns"
NAME = "kubernetes.default.svc.cluster.local."
ASKED = 40
"""Questions at once: that none of them goes to one of two pods is one chance in 2^39."""
PROGRAMS = 16
TIMEOUT = 5.0
"""glibc's: how long a resolver waits before it asks again."""
HASTY = {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "3"}]}
"""A pod's dnsConfig."""


def tell(lesson: Lesson) -> None:
    """One pod is asked, then two, then one of them is lost in three ways."""
    if not two_pods(lesson):
        return
    ends_in_order(lesson)
    victim, lost = hangs(lesson)
    asks_again(lesson, victim, lost)
    five_seconds(lesson, victim)
    forgotten(lesson, victim, lost)
    one_second(lesson)


def two_pods(lesson: Lesson) -> bool:
    from scenarios.objects import pod

    with lesson.step("Two DNS pods behind one address"):
        lesson.apply(pod("asker", "node2"))
        known = lesson.names_resolve()
        if not known:
            lesson.check("there is no DNS pod to lose", expected=0, seen=len(servers(lesson)))
            return False
        lesson.check("a cluster starts with one", expected=1, seen=len(servers(lesson)))
        lesson.scale("coredns", 2, SYSTEM)
        both = two_ready(lesson)
        with lesson.watch() as seen:
            answered = ask(lesson, range(41000, 41000 + ASKED))
        lesson.packets(seen.by(41000))
        lesson.flows(seen, "node2", f"{SYSTEM}/kube-dns")
        found = Counter(served(seen, range(41000, 41000 + ASKED)).values())
        lesson.table(("DNS pod", f"of {ASKED} questions"), [(both[a], n) for a, n in sorted(found.items())])
        lesson.check("every question is answered", expected=ASKED, seen=len(answered))
        lesson.check("and both pods are asked", expected=sorted(both), seen=sorted(found))
        return True


def ends_in_order(lesson: Lesson) -> None:
    with lesson.step("One is told to end"):
        lesson.say(
            "It leaves the endpoints first, and answers for five seconds more (lameduck), for those who were "
            "sent to it before. Meanwhile a client asks without a pause, each time from another port."
        )
        victim, asker = min(servers(lesson).values()), lesson.lab.pod("asker")
        done, asked, lost = threading.Event(), [0], list[int]()

        def keep_asking() -> None:
            for port in range(44000, 64000):
                if done.is_set():
                    return
                asked[0] += 1
                if not ask(lesson, [port], timeout=2):
                    lost.append(port)

        thread = threading.Thread(target=keep_asking, daemon=True)
        with lesson.watch(asker.link, lesson.lab.pod(victim, SYSTEM).link) as seen:
            thread.start()
            lesson.lab.client.delete("Pod", victim, SYSTEM)
            lesson.until(lambda: victim not in pods(lesson), f"{victim} gone", timeout=40)
            done.set()
            thread.join(10)
        lesson.check_that(
            f"{victim} has ended, while many asked", asked[0] > 100, expected="100", seen=asked[0]
        )
        lesson.say(
            "Nothing new is sent to it, and what conntrack holds that leads there stays: an answer that is "
            "under way is translated back as ever."
        )
        for port in lost:
            lesson.packets(seen.by(port))
        lesson.check("none was lost", expected=[], seen=lost)
        two_ready(lesson)


def hangs(lesson: Lesson) -> tuple[str, list[int]]:
    """The address of the pod that hangs, and the ports that were sent to it."""
    with lesson.step("One hangs"):
        both = two_ready(lesson)
        victim = min(both)
        lesson.say(
            "Its program is stopped as by a debugger: it neither answers nor refuses. The kubelet's "
            "readiness probe needs three failures, ten seconds apart, before the pod leaves the endpoints; "
            "all that time kube-proxy has no reason not to choose it."
        )
        lesson.run(lesson.lab.pod(both[victim], SYSTEM), "sh -c 'kill -STOP -1'")
        ports = range(43000, 43000 + ASKED)
        with lesson.watch() as seen:
            answered = ask(lesson, ports, timeout=1)
        chosen = served(seen, ports)
        lost = [port for port in ports if port not in answered]
        lesson.table(
            ("DNS pod", "asked", "answered"),
            [
                (both[a], sum(to == a for to in chosen.values()), sum(chosen[p] == a for p in answered))
                for a in sorted(both)
            ],
        )
        if lost:
            lesson.packets(seen.by(lost[0]))
        lesson.check_that(
            "some questions are lost, others are not",
            0 < len(lost) < ASKED,
            expected=f"between 0 and {ASKED}",
            seen=len(lost),
        )
        lesson.check(
            "lost are those that were sent to it", expected=[victim], seen=sorted({chosen[p] for p in lost})
        )
        return victim, lost


def asks_again(lesson: Lesson, victim: str, lost: Sequence[int]) -> None:
    with lesson.step("Asking again from the same port"):
        lesson.say(
            "A resolver that got no answer asks again by the same socket. UDP has no connections, but "
            "conntrack remembers them: same addresses, same ports, so the same pod."
        )
        ports = list(lost[:3])
        with lesson.watch() as seen:
            answered = [port for _ in range(3) for port in ask(lesson, ports, timeout=0.3)]
        lesson.check("nine more questions, none answered", expected=[], seen=answered)
        lesson.check(
            "all went to the pod that hangs",
            expected=[victim] * len(ports),
            seen=[served(seen, ports).get(port) for port in ports],
        )
        lesson.memory(seen, seen.by(ports[0]))
        mine = {f"{lesson.lab.pod('asker').ip}:{port}" for port in lost}
        lesson.check_that(
            "every one of them is remembered",
            mine <= {entry.client for entry in leading(seen, victim)},
            expected=f"{len(lost)} or more",
            seen=len(leading(seen, victim)),
        )
        choosing = [
            f
            for f in seen.flows.get("node2", ())
            if f.table == "ServiceLB" and f.concerns(SYSTEM, "kube-dns")
        ]
        lesson.check("and no switch had to choose", expected=0, seen=sum(f.packets for f in choosing))


def five_seconds(lesson: Lesson, victim: str) -> None:
    with lesson.step("Five seconds"):
        lesson.say(
            f"{PROGRAMS} programs look the name up at once (getent, which is glibc's resolver). As soon as "
            "all have asked, somebody notices and deletes the pod that hangs."
        )
        with lesson.watch() as seen:
            results = look_up(lesson, "asker", seen, victim)
        slow = by_time(lesson, results, TIMEOUT)
        quick = [took for _, took in results if took < TIMEOUT]
        lesson.check("all got their answer in the end", expected={0}, seen={code for code, _ in results})
        lesson.check_that(
            "some at once, some after one timeout of five seconds, none after two",
            bool(quick and slow) and slow[-1] < 2 * TIMEOUT,
            expected="from 5 to 10 s",
            seen=f"{len(quick)} quick, {len(slow)} slow, the last after {max(slow or quick):.2f} s",
        )
        twice = [c for c in seen.all_to(DNS, 53) if len(sent(c)) > 1]
        lesson.check("as many questions were sent twice", expected=len(slow), seen=len(twice))
        first, second = sent(twice[0])[:2] if twice else [None, None]
        if first is None or second is None:
            return
        lesson.packets(twice[0], only=[first, second, *twice[0].replies()[:1]])
        gap = (second.hops[0].time_ns - first.hops[0].time_ns) / 1e9
        lesson.check_that(
            "between the two lie the resolver's five seconds",
            TIMEOUT - 0.1 <= gap < TIMEOUT + 2,
            expected="5 s",
            seen=f"{gap:.3f} s",
        )
        lesson.check("the first went to the pod that hung", expected=victim, seen=first.hops[-1].dst.address)
        lesson.check_that(
            "the second, from the same port, to one that lives",
            second.hops[-1].dst.address in pods_by_address(lesson)
            and second.hops[0].src == first.hops[0].src,
            expected=f"not {victim}",
            seen=f"{second.hops[0].src} to {second.hops[-1].dst.address}",
        )


def forgotten(lesson: Lesson, victim: str, lost: Sequence[int]) -> None:
    with lesson.step("What had to be forgotten"):
        lesson.say(
            "When an endpoint of a UDP Service goes, kube-proxy has conntrack forget whatever leads to it. "
            "Else a client that keeps its port would be sent to nobody for as long as it goes on asking."
        )
        two_ready(lesson)
        with lesson.watch() as seen:
            answered = ask(lesson, lost)
        lesson.packets(seen.by(lost[0]))
        lesson.check(
            "no connection to the Service is remembered that leads there",
            expected=0,
            seen=len(leading(seen, victim)),
        )
        lesson.check("every port that was stuck gets its answer", expected=list(lost), seen=sorted(answered))
        lesson.check(
            "from pods that live", expected=[], seen=sorted({*served(seen, lost).values()} & {victim})
        )


def one_second(lesson: Lesson) -> None:
    from scenarios.objects import pod

    with lesson.step("One second"):
        lesson.say(
            "The five seconds are the resolver's, and a pod may say how patient it is: dnsConfig in its spec "
            "goes into its /etc/resolv.conf. The same again, in a pod with timeout:1 and attempts:3."
        )
        lesson.apply(pod("hasty", "node2", dnsConfig=HASTY))
        lesson.lab.settle()
        said = lesson.run(lesson.lab.pod("hasty"), "cat /etc/resolv.conf").stdout.splitlines()[-1].split()
        lesson.check(
            "its resolver knows", expected={"timeout:1", "attempts:3"}, seen=set(said[1:]) - {"ndots:5"}
        )
        victim = min(two_ready(lesson))
        hung = pods_by_address(lesson)[victim]
        lesson.run(lesson.lab.pod(hung, SYSTEM), "sh -c 'kill -STOP -1'")
        with lesson.watch() as seen:
            results = look_up(lesson, "hasty", seen, victim)
        slow = by_time(lesson, results, 1)
        lesson.check("all got their answer", expected={0}, seen={code for code, _ in results})
        lesson.check_that(
            "and whoever had to wait, waited one second",
            bool(slow) and slow[-1] < 3,
            expected="from 1 to 3 s",
            seen=f"{len(slow)} slow, the last after {max(slow or [0]):.2f} s",
        )
        twice = [journeys for c in seen.all_to(DNS, 53) if len(journeys := sent(c)) > 1]
        gaps = [(second.hops[0].time_ns - first.hops[0].time_ns) / 1e9 for first, second, *_ in twice]
        lesson.check_that(
            "as the wires have it",
            bool(gaps) and min(gaps) >= 0.9 and max(gaps) < 2,
            expected="1 s between two questions",
            seen=f"{min(gaps or [0]):.3f} to {max(gaps or [0]):.3f} s",
        )
        lesson.say(
            "It only notices sooner: as long as nobody takes the pod that hangs out of the endpoints, all "
            "three attempts of one socket go to it, and the name fails after three seconds instead of ten."
        )


def look_up(lesson: Lesson, name: str, seen: Seen, victim: str) -> list[tuple[int, float]]:
    """Exit status and seconds of PROGRAMS that look a name up at once; when all have asked, the DNS pod with
    the address ``victim`` is deleted."""
    asker, hung = lesson.lab.pod(name), pods_by_address(lesson)[victim]

    def once(_: int) -> tuple[int, float]:
        start = time.monotonic()
        done = asker.run(["getent", "ahostsv4", NAME], timeout=40)
        return done.returncode, time.monotonic() - start

    with ThreadPoolExecutor(PROGRAMS) as pool:
        running = [pool.submit(once, n) for n in range(PROGRAMS)]
        seen.capture.wait_for(lambda frames: questions(frames, asker.link) >= PROGRAMS, timeout=20)
        lesson.lab.client.delete("Pod", hung, SYSTEM, grace=0)
        return [future.result() for future in running]


def by_time(lesson: Lesson, results: list[tuple[int, float]], limit: float) -> list[float]:
    """Shows who was quick and who was not; the seconds of those who took ``limit`` or longer."""
    slow = sorted(took for _, took in results if took >= limit)
    quick = sorted(took for _, took in results if took < limit)
    lesson.table(
        ("programs", "needed"),
        [(len(some), f"{some[0]:.2f} to {some[-1]:.2f} s") for some in (quick, slow) if some],
    )
    return slow


def ask(lesson: Lesson, ports: Iterable[int], timeout: float = 3) -> list[int]:
    """One question from each source port, all at once; the ports that got an answer in time."""
    from scenarios.probes.dns_ask import decode, encode

    asker, answered = lesson.lab.pod("asker"), []
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for port in ports:
            sock = stack.enter_context(asker.socket(kind=socket.SOCK_DGRAM))
            sock.bind(("", port))
            sock.connect((DNS, 53))
            waiting.register(sock, selectors.EVENT_READ, port)
            sock.send(encode(NAME, "A", port))
        end = time.monotonic() + timeout
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                found: Any = key.fileobj
                waiting.unregister(found)
                try:
                    number, rcode, _records = decode(found.recv(4096))
                except OSError:
                    continue  # refused: as good as lost
                if (number, rcode) == (key.data, "NOERROR"):
                    answered.append(int(key.data))
    return sorted(answered)


def served(seen: Seen, ports: Iterable[int]) -> dict[int, str]:
    """The address each port's question was translated to, as the wires have it."""
    wanted = set(ports)
    return {
        c.asked.src.port: c.served.dst.address for c in seen.all_to(DNS, 53) if c.asked.src.port in wanted
    }


def leading(seen: Seen, victim: str) -> list[Any]:
    """What the nodes remember of connections to kube-dns that were given to a pod."""
    return [e for e in seen.remembered if (e.asked, e.endpoint) == (f"{DNS}:53", f"{victim}:53")]


def sent(connection: Connection) -> list[Any]:
    return [journey for journey in connection.journeys if not journey.reply]


def questions(frames: Iterable[Any], link: str) -> int:
    """How many questions a pod has sent, by what its link saw."""
    from scenarios.packet import read

    packets = (read(f.data) for f in frames if f.link == link and f.direction == "in")
    return sum(p is not None and p.protocol == "UDP" and p.dst.port == 53 for p in packets)


def pods(lesson: Lesson) -> dict[str, Any]:
    """DNS pods by name, whatever their state."""
    return {p["metadata"]["name"]: p for p in lesson.lab.client.list("Pod", SYSTEM, labels=SELECTOR)[0]}


def pods_by_address(lesson: Lesson) -> dict[str, str]:
    return {p["status"]["podIP"]: name for name, p in pods(lesson).items() if p["status"].get("podIP")}


def servers(lesson: Lesson) -> dict[str, str]:
    """The DNS pods that are ready and stay, name by address."""
    from controller.api.objects import is_deleting, is_ready

    found = pods(lesson)
    return {
        a: n for a, n in pods_by_address(lesson).items() if is_ready(found[n]) and not is_deleting(found[n])
    }


def two_ready(lesson: Lesson) -> dict[str, str]:
    lesson.until(lambda: len(servers(lesson)) == 2, "two DNS pods ready", timeout=40)
    lesson.lab.settle()
    return servers(lesson)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
