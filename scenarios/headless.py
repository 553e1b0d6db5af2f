"""Headless: a Service that only tells who is there, and leaves the choice to the client.

clusterIP: None. No address, no flow, no translation; a StatefulSet's pods that keep their names; and Services
without selector, whose endpoints somebody writes by hand.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.lesson import Lesson

NODES = 2
CURL = "curl -sS --max-time 5"
DNS = "10.96.0.10"
LEGACY_PORT = 5432


def tell(lesson: Lesson) -> None:
    """What it is, what it is not, names that stay, endpoints by hand."""
    no_address(lesson)
    no_flow(lesson)
    the_client_picks(lesson)
    names_that_stay(lesson)
    names(lesson)
    endpoints_by_hand(lesson)
    by_hand_and_headless(lesson)


def no_address(lesson: Lesson) -> None:
    from controller.api.objects import is_ready
    from scenarios.objects import pod, service

    with lesson.step("A Service without an address"):
        lesson.say(
            "A database's replicas are not alike: a client may want this one and no other. `web` is a "
            "StatefulSet of two pods and a Service with clusterIP None; `usual` is an ordinary Service over "
            "the same pods, to compare."
        )
        made = lesson.apply(
            service("web", clusterIP="None"), service("usual", "web"), stateful_set(), pod("asker", "node1")
        )
        lesson.check("web's address", expected="None", seen=made[0]["spec"]["clusterIP"])
        for name in ("web-0", "web-1"):
            lesson.wait_for("Pod", name, is_ready)
        lesson.table(
            ("endpoint", "address", "node"),
            [(e["hostname"], e["addresses"][0], e["nodeName"]) for e in endpoints(lesson, "web")],
        )
        lesson.check(
            "its endpoints are listed all the same, with the pods' host names",
            expected=", ".join(f"{name} {lesson.lab.pod(name).ip}" for name in ("web-0", "web-1")),
            seen=", ".join(f"{name} {address}" for name, address in addresses(lesson).items()),
        )


def no_flow(lesson: Lesson) -> None:
    from scenarios import flows

    with lesson.step("No switch knows of it"):
        nodes = [node.name for node in lesson.lab.plan.nodes]
        found = flows.read(lesson.lab.client, nodes)
        rows, counts = [], {}
        for name in ("usual", "web"):
            mine = [flow for node in nodes for flow in found[node] if flow.concerns("default", name)]
            counts[name] = len(mine)
            rows.append((name, len(mine), " ".join(sorted({flow.table for flow in mine})) or "none"))
        lesson.table(("Service", "flows on all nodes", "in tables"), rows)
        lesson.check_that("usual has flows", counts["usual"] > 0, expected="some", seen=counts["usual"])
        lesson.check("web has none: there is nothing to translate", expected=0, seen=counts["web"])


def the_client_picks(lesson: Lesson) -> None:
    with lesson.step("The client picks"):
        lesson.say(
            "Whoever wants web takes the list and chooses. Here it comes from the API; programs get it from "
            "DNS, one A record for each endpoint."
        )
        asker, picked = lesson.lab.pod("asker"), addresses(lesson)["web-1"]
        with lesson.watch() as seen:
            done = lesson.run(asker, f"{CURL} --local-port 40001 http://{picked}:8080/hostname")
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.check("the chosen one answers", expected="web-1", seen=done.stdout)
        rewrites = [one for journey in connection.journeys for step in journey.rewrites() for one in step]
        lesson.check("no packet was translated, there or back", expected=0, seen=len(rewrites))
        choosing = [
            flow
            for flow in seen.flows["node1"]
            if flow.table == "EndpointDNAT" and not flow.concerns("default", "kubernetes")  # coredns asks it
        ]
        lesson.check("no endpoint was chosen by a switch", expected=0, seen=len(choosing))
        with lesson.watch() as seen:
            done = lesson.run(asker, f"{CURL} --local-port 40002 http://{picked}/hostname")
        connection = seen.by(40002)
        lesson.packets(connection)
        lesson.check_that(
            "nor are ports: the Service says 80, the pod listens on 8080, and refuses itself",
            done.returncode == 7 and connection.reply.hops[0].link.endswith("-web-1"),
            expected="a reset from web-1",
            seen=f"{connection.reply.hops[0].flags} on {connection.reply.hops[0].link}",
        )


def names_that_stay(lesson: Lesson) -> None:
    from controller.api.objects import is_ready

    with lesson.step("web-1 dies, web-1 returns"):
        before = addresses(lesson)
        uid = lesson.lab.client.get("Pod", "web-1")["metadata"]["uid"]
        lesson.delete("Pod", "web-1", grace=0)
        lesson.wait_for("Pod", "web-1", lambda pod: pod["metadata"]["uid"] != uid and is_ready(pod))
        after = addresses(lesson)
        lesson.table(
            ("pod", "before", "after"), [(name, before[name], after[name]) for name in sorted(after)]
        )
        lesson.check("the names are the same", expected="web-0, web-1", seen=", ".join(sorted(after)))
        lesson.check("web-0 was left alone", expected=before["web-0"], seen=after["web-0"])
        lesson.check_that(
            "web-1 has another address",
            after["web-1"] != before["web-1"],
            expected=f"not {before['web-1']}",
            seen=after["web-1"],
        )
        gone = lesson.run(lesson.lab.pod("asker"), f"curl -sS --max-time 0.5 http://{before['web-1']}:8080/")
        lesson.check_that(
            "who kept the old address talks to nobody",
            gone.returncode != 0,
            expected="curl fails",
            seen=gone.stderr,
        )
        found = lesson.run(lesson.lab.pod("asker"), f"{CURL} http://{after['web-1']}:8080/hostname")
        lesson.check("who looks again finds it", expected="web-1", seen=found.stdout)


def names(lesson: Lesson) -> None:
    """What DNS makes of the objects."""
    with lesson.step("By name"):
        lesson.say(
            "web-1.web.default.svc.cluster.local is made of three things: the pod's host name, its "
            "subdomain, and a headless Service of that name."
        )
        spec = lesson.lab.client.get("Pod", "web-1")["spec"]
        lesson.check(
            "the StatefulSet gave web-1 host name and subdomain",
            expected="web-1.web",
            seen=f"{spec.get('hostname')}.{spec.get('subdomain')}",
        )
        known = lesson.run(lesson.lab.pod("web-1"), "cat /etc/hosts").stdout
        lesson.check_says(
            "its own /etc/hosts has the whole name", "web-1.web.default.svc.cluster.local", seen=known
        )
        if not lesson.names_resolve():
            return
        now = addresses(lesson)
        usual = lesson.lab.client.get("Service", "usual")["spec"]["clusterIP"]
        with lesson.watch() as seen:
            found = dig(lesson, "web")
        lesson.packets(seen.to(DNS, 53))
        lesson.check("web's name leads to all its pods", expected=" ".join(sorted(now.values())), seen=found)
        lesson.check("usual's to its one address", expected=usual, seen=dig(lesson, "usual"))
        lesson.check("web-1 has a name of its own", expected=now["web-1"], seen=dig(lesson, "web-1.web"))
        done = lesson.run(lesson.lab.pod("asker"), f"{CURL} http://web-1.web:8080/hostname")
        lesson.check("by which it is asked", expected="web-1", seen=done.stdout)


def endpoints_by_hand(lesson: Lesson) -> None:
    from scenarios.objects import service

    with lesson.step("A Service without selector: endpoints by hand"):
        client = lesson.lab.outside()
        lesson.say(
            f"An old database stays outside of the cluster, at {client.ip}. `legacy` is a Service without "
            "selector, so no controller writes its endpoints; we do. Pods can use it like any other, and the "
            "day it moves into the cluster they need not know."
        )
        made = lesson.apply(service("legacy", None))
        lesson.check("without endpoints there is no slice", expected=0, seen=len(endpoints(lesson, "legacy")))
        lesson.apply(slice_by_hand("legacy", str(client.ip)))
        vip = made[0]["spec"]["clusterIP"]
        with an_old_database(client), lesson.watch() as seen:
            done = lesson.run(lesson.lab.pod("asker"), f"{CURL} --local-port 40003 http://{vip}/")
        connection = seen.by(40003)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "legacy")
        lesson.check("the old database answers by the Service's address", expected="1986", seen=done.stdout)
        lesson.check(
            "the packet was translated to it",
            expected=f"{client.ip}:{LEGACY_PORT}",
            seen=str(connection.served.dst),
        )
        lesson.check(
            "it sees node1, since no one outside knows a way to pods",
            expected=str(lesson.lab.node(1).ip),
            seen=connection.served.src.address,
        )


def by_hand_and_headless(lesson: Lesson) -> None:
    from scenarios import flows
    from scenarios.objects import service

    with lesson.step("Both at once"):
        lesson.say(
            "Without selector and without address: a list of addresses under a name, and nothing else."
        )
        lesson.apply(
            service("list", None, clusterIP="None"), slice_by_hand("list", "203.0.113.7", "203.0.113.8")
        )
        listed = [e["addresses"][0] for e in endpoints(lesson, "list")]
        lesson.check("two addresses are listed", expected="203.0.113.7 203.0.113.8", seen=" ".join(listed))
        found = flows.read(lesson.lab.client, ["node1"])["node1"]
        mine = [flow for flow in found if flow.concerns("default", "list")]
        lesson.check("and no switch knows of them", expected=0, seen=len(mine))


def stateful_set() -> Obj:
    from scenarios.objects import pod

    template = pod("web", "node1", "web")
    del template["spec"]["nodeName"]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web",
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
        },
    }


def slice_by_hand(service: str, *found: str) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-by-hand", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in found],
        "ports": [{"name": "tcp", "port": LEGACY_PORT, "protocol": "TCP"}],
    }


def dig(lesson: Lesson, name: str) -> str:
    """The addresses that a name in this namespace leads to, in order."""
    command = f"dig +short {name}.default.svc.cluster.local A"
    return " ".join(sorted(lesson.run(lesson.lab.pod("asker"), command).stdout.split()))


class an_old_database:  # noqa: N801 - reads as what it is in a with statement
    """Something that listens outside of the cluster, for the length of a ``with`` block: it says 1986."""

    def __init__(self, host: Any) -> None:
        self._listener = host.socket()
        self._listener.bind(("", LEGACY_PORT))
        self._listener.listen(8)
        self._listener.settimeout(10)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # nobody came, which the lesson's checks will say
        with sock:
            sock.settimeout(5)
            sock.recv(4096)
            sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n1986")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()


def endpoints(lesson: Lesson, service: str) -> list[Any]:
    """The endpoints of a Service, by address, as its EndpointSlices have them."""
    label = f"kubernetes.io/service-name={service}"
    slices = lesson.lab.client.list("EndpointSlice", "default", labels=label)[0]
    found = [endpoint for one in slices for endpoint in one.get("endpoints") or ()]
    return sorted(found, key=lambda endpoint: str(endpoint.get("hostname", endpoint["addresses"][0])))


def addresses(lesson: Lesson) -> dict[str, str]:
    """Of web's endpoints, by host name."""
    return {e["hostname"]: e["addresses"][0] for e in endpoints(lesson, "web")}


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
