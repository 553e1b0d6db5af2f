"""Refused or dropped: what happens to a packet that no pod will get.

A Service without endpoints, a port it does not serve, an address that is nobody's: who says no, in whose
name, how fast; and why the next packet may be served all the same.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen

NODES = 2
UNUSED = "10.96.0.99"
"""A ClusterIP that no Service of this lesson has."""
CURL = "curl -sS --max-time 5"
DROPPED = 0.4
"""Seconds after which a question counts as dropped; a refusal takes less than a millisecond."""


def tell(lesson: Lesson) -> None:
    """TCP, UDP, every way to ask, silence, and what comes after a refusal."""
    nobody_by_tcp(lesson)
    nobody_by_udp(lesson)
    every_way(lesson)
    silence(lesson)
    served_after_all(lesson)
    without_controller(lesson)


def nobody_by_tcp(lesson: Lesson) -> None:
    from scenarios.objects import pod, service

    with lesson.step("A Service without endpoints: a TCP reset"):
        lesson.say(
            "`empty` is a Service whose selector no pod matches. `web` has one pod, on node2. Pod `asker` is "
            "on node1."
        )
        lesson.apply(
            pod("asker", "node1"),
            pod("web", "node2"),
            service("web"),
            service("empty", type="NodePort", protocols=("TCP", "UDP")),
        )
        vip = cluster_ip(lesson, "empty")
        with lesson.watch() as seen:
            done = lesson.run(lesson.lab.pod("asker"), f"{CURL} --local-port 40001 http://{vip}/")
        lesson.check("curl is refused (exit status 7), not left waiting", expected=7, seen=done.returncode)
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "empty")
        handed = [hop for hop in connection.opening.hops if hop.link == "node1-host"]
        lesson.check(
            "the switch handed the packet to node1 as it was: still addressed to the Service",
            expected=f"{vip}:80",
            seen=", ".join(str(hop.dst) for hop in handed) or "no such hop",
        )
        answer = connection.reply
        lesson.check("node1's kernel answers with a reset", expected="RST,ACK", seen=answer.hops[0].flags)
        lesson.check("in the Service's name", expected=f"{vip}:80", seen=str(answer.hops[-1].src))
        took = (answer.hops[-1].time_ns - connection.opening.hops[0].time_ns) / 1e6
        lesson.check_that("at once", took < 1000, expected="under a second", seen=f"{took:.1f} ms")
        lesson.check_that(
            "it never left node1",
            not crossed(connection, "-uplink"),
            expected="no uplink",
            seen=" ".join(hop.link for hop in connection.opening.hops),
        )
        lesson.say(
            "With kube-proxy it is an iptables rule, REJECT, in the node's kernel. Here it is the same "
            "kernel: nft in the node's namespace rejects whatever still carries a Service's address."
        )


def nobody_by_udp(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("The same by UDP: an ICMP error"):
        vip = cluster_ip(lesson, "empty")
        with lesson.watch() as seen:
            answer = ask(lesson.lab.pod("asker"), vip, 80, source_port=40002, udp=True)
        connection = seen.by(40002)
        lesson.packets(connection)
        error = connection.reply.hops[-1]
        lesson.check("UDP has no reset; ICMP says it", expected="port unreachable", seen=error.flags)
        lesson.check(
            "an ICMP error has a sender of its own: the node",
            expected=str(lesson.lab.node(1).ip),
            seen=error.src.address,
        )
        lesson.check(
            "it quotes the datagram, so that the asker's kernel knows which socket is meant",
            expected=str(connection.asked),
            seen=str(error.quoted),
        )
        lesson.check("and that socket gets the error", expected="refused", seen=answer.fate)


def every_way(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import node_port

    with lesson.step("Every other way to be refused"):
        empty, web = cluster_ip(lesson, "empty"), cluster_ip(lesson, "web")
        tcp, udp = (node_port(lesson.lab.client.get("Service", "empty"), p) for p in ("TCP", "UDP"))
        node2 = str(lesson.lab.node(2).ip)
        ways = (
            ("asker", f"port 81 of web, {web}", web, 81, False, "node1"),
            ("node1", f"empty, {empty}", empty, 80, False, "node1"),
            ("client1", "empty's NodePort on node2", node2, tcp, False, "node2"),
            ("client1", "the same by UDP", node2, udp, True, "node2"),
            ("asker", "empty's NodePort on node2", node2, tcp, False, "node2"),
            ("node1", "empty's NodePort on localhost", "127.0.0.1", tcp, False, "node1"),
            ("client1", "a NodePort of nobody, node2:32000", node2, 32000, False, "node2"),
        )
        fates = []
        with lesson.watch() as seen:
            for number, (sender, _, address, port, by_udp, _) in enumerate(ways):
                host = lesson.lab.host(sender)
                fates.append(ask(host, address, port, source_port=40010 + number, udp=by_udp).fate)
        rows = []
        for number, (way, fate) in enumerate(zip(ways, fates, strict=True)):
            rows.append((way[0], way[1], fate, *said_by(seen, 40010 + number)))
        lesson.table(("asks", "for", "it is", "by", "with"), rows)
        for (sender, what, *_, node), row in zip(ways, rows, strict=True):
            lesson.check(
                f"{sender} asks for {what.partition(', 10')[0]}",
                expected=f"refused by {node}",
                seen=f"{row[2]} by {row[3]}",
            )
        connection = seen.by(40012)
        lesson.packets(connection)
        lesson.say(
            "A node port without endpoints needs no rule at all: nobody listens on it in the node's own "
            "network, and its kernel says so as it would of any port."
        )


def silence(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import service

    with lesson.step("What is dropped"):
        lesson.say(
            "Silence is for what nobody can speak for: an address that no Service has, a pod that is not "
            "there, a ping to a Service (it is no host). And for what a policy forbids: `near` has "
            "internalTrafficPolicy Local, and its pod is on the other node."
        )
        lesson.apply(service("near", "web", internalTrafficPolicy="Local"))
        near, web = cluster_ip(lesson, "near"), cluster_ip(lesson, "web")
        ways = {"a ClusterIP of nobody": UNUSED, "a pod of nobody": "10.244.2.250", "near": near}
        asker, fates = lesson.lab.pod("asker"), {}
        with lesson.watch() as seen:
            for number, (what, address) in enumerate(ways.items()):
                answer = ask(asker, address, 80, source_port=40020 + number, timeout=DROPPED)
                fates[what] = answer.fate
            ping = lesson.run(asker, f"ping -c 1 -W 1 {web}")
        rows = []
        for number, what in enumerate(ways):
            connection = seen.by(40020 + number)
            rows.append((what, fates[what], connection.opening.hops[-1].link))
        lesson.table(("asked for", "it is", "last seen at"), rows)
        for what, fate, _ in rows:
            lesson.check(f"{what}: silence", expected="dropped", seen=fate)
        lesson.check_that(
            "a ping to web's address: silence",
            ping.returncode == 1,
            expected="100% packet loss",
            seen="no answer in a second" if ping.returncode == 1 else ping.stdout,
        )
        lesson.flows(seen, "node1", "near")


def served_after_all(lesson: Lesson) -> None:
    from scenarios.objects import pod

    with lesson.step("Refused now, served a moment later, on the same socket"):
        lesson.say(
            "A program that sends statistics by UDP never changes its socket. It must not stay refused, nor "
            "stay with a pod that is gone."
        )
        vip, asker = cluster_ip(lesson, "empty"), lesson.lab.pod("asker")
        fates = []
        with asker.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.bind(("", 40030))
            sock.connect((vip, 80))
            with lesson.watch() as seen:
                fates.append(once(sock))
            lesson.check("without an endpoint it is refused", expected="refused", seen=fates[0])
            remembered = [entry for entry in seen.remembered if entry.client.endswith(":40030")]
            lesson.check("and no switch remembers that it was", expected=0, seen=len(remembered))
            lesson.apply(pod("late", "node2", "empty"))
            with lesson.watch() as seen:
                fates.append(once(sock))
            lesson.packets(seen.by(40030))
            lesson.flows(seen, "node1", "empty")
            lesson.check("with one it is served", expected="late", seen=fates[1])
            lesson.delete("Pod", "late", grace=0)
            with lesson.watch() as seen:
                fates.append(once(sock))
            lesson.packets(seen.by(40030))
            lesson.check("when that is gone it is refused again", expected="refused", seen=fates[2])
        lesson.say(
            "Conntrack would have kept the way to the dead pod for as long as datagrams come. The kubeproxy "
            "has it forget such entries when an endpoint goes."
        )


def without_controller(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("Nobody is asked for a refusal"):
        lesson.say("The kubeproxy is killed. Flows and groups stay in the switches.")
        lesson.lab.kill("kubeproxy")
        asker = lesson.lab.pod("asker")
        with lesson.watch() as seen:
            refused = ask(asker, cluster_ip(lesson, "empty"), 80, source_port=40040)
            served = ask(asker, cluster_ip(lesson, "web"), 80, source_port=40041)
        lesson.packets(seen.by(40040))
        lesson.check("without it empty is refused", expected="refused", seen=refused.fate)
        lesson.check("without it web is served", expected="web", seen=served.pod)
        lesson.lab.restart("kubeproxy")
        lesson.lab.settle()
        answer = ask(asker, cluster_ip(lesson, "web"), 80, source_port=40042)
        lesson.check("with it again, the same", expected="web", seen=answer.pod)


def cluster_ip(lesson: Lesson, name: str) -> str:
    return str(lesson.lab.client.get("Service", name)["spec"]["clusterIP"])


def crossed(connection: Connection, end: str) -> bool:
    """Whether its first packet was seen on such a link."""
    return any(hop.link.endswith(end) for hop in connection.opening.hops)


def said_by(seen: Seen, source_port: int) -> tuple[str, str]:
    """The node whose kernel refused, and with what. A node that refuses itself does so by its loopback."""
    connection = seen.by(source_port)
    last = connection.opening.hops[-1]
    if not connection.replies():
        own = last.place.outgoing and last.link.endswith("-host")
        return (last.link.removesuffix("-host"), "nothing on a wire: by its loopback") if own else ("", "")
    first = connection.reply.hops[0]
    return first.link.removesuffix("-host"), first.flags


def once(sock: socket.socket) -> str:
    """One datagram on a connected socket: the pod that answers, or the fate."""
    from scenarios.asking import fate

    try:
        sock.send(b"hostname\n")
        return sock.recv(4096).decode()
    except OSError as error:
        return fate(error)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
