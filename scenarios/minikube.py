"""The commands that the book's chapter types to minikube, by ``./lab``: a part of the lesson kubectl_tour.

What ``./lab url``, ``ssh`` and ``tunnel`` print is held against the API's objects and the wires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.administrator import Administrator
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen

NODE_PORT = 30000
CURL = "curl -sS --max-time 20"
HEALTH = "_stcore/health -o /dev/null -w %{http_code}"


def minikube_service(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("minikube service --url: ./lab url"):
        lesson.quote(
            "Since using minikube, we can access the service by using minikube service frontend-node --url."
        )
        url = lesson.lab_command(f"url frontend-node {this_lab()}")
        host, port = url.removeprefix("http://").split(":")
        lesson.check("it is the first node's address", expected=str(lesson.lab.node(1).ip), seen=host)
        spec = lesson.lab.client.get("Service", "frontend-node")["spec"]
        lesson.check("and the node port", expected=str(spec["ports"][0]["nodePort"]), seen=port)
        with lesson.watch() as seen:
            answer = lesson.run(lesson.lab.outside(), f"{CURL} {url}/")
        lesson.check_says("it leads to the frontend", "Frontend Deployment", seen=answer.stdout)
        connection = seen.to(host, NODE_PORT)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "frontend-node")
        addresses = [str(pod.ip) for pod in lesson.lab.pods("app=frontend")]
        lesson.check_that(
            "this time a Service's flow chose: a pod, whatever its address is today",
            connection.served.dst.address in addresses,
            expected=" or ".join(addresses),
            seen=connection.served.dst,
        )


def minikube_ssh(lesson: Lesson) -> None:
    with lesson.step("minikube ssh, and curl localhost: ./lab ssh"):
        lesson.quote("We can also test the NodePort service when inside of a node.")
        lesson.quote(
            "When accessing a node e.g. via minikube ssh, we can run curl localhost:PORT/ inside the node to "
            "derive the to derive the website data from the frontend."
        )
        with lesson.watch() as seen:
            page = lesson.lab_command(f"ssh node2 {this_lab()} -- curl -sS localhost:{NODE_PORT}")
        lesson.check_says("the website came", "Frontend Deployment", seen=page)
        connection = next(c for c in seen.connections if c.asked.dst.port == NODE_PORT)
        lesson.packets(connection)
        lesson.check(
            "it crossed node2's own bridge first, by the node's link",
            expected="node2-host",
            seen=connection.opening.hops[0].link,
        )
        lesson.check(
            "which chose and translated: no other node's ServiceLB had a part",
            expected="node2",
            seen=" ".join(
                sorted({one.partition(":")[0] for one in used(seen, "frontend-node", "ServiceLB")})
            ),
        )
        lesson.say(
            "minikube has one node, so there `minikube ssh` needs no name and every pod is at home. Here "
            "node2 was asked; the pod may run anywhere."
        )


def minikube_tunnel(lesson: Lesson, admin: Administrator) -> None:
    from scenarios.beside import Beside, Terminal

    with lesson.step("minikube tunnel: ./lab tunnel"):
        lesson.quote(
            "Since minikube is a closed network, use minikube tunnel to allow access to it using the "
            "LoadBalancer."
        )
        row = admin.rows("get service frontend-lb")[0]
        lesson.check("before, nobody has an address to give", expected="<pending>", seen=row["EXTERNAL-IP"])
        with Beside(Terminal(), Terminal.start, "frontend-lb:") as tunnel:
            lesson.run(tunnel, f"./lab tunnel {this_lab()}")
            lesson.lab.settle()
            row = admin.rows("get service frontend-lb")[0]
            external = row["EXTERNAL-IP"]
            lesson.check("now it has one: its ClusterIP", expected=row["CLUSTER-IP"], seen=external)
            answer = lesson.run(lesson.lab.outside(), f"{CURL} http://{external}/{HEALTH}")
            lesson.check("which leads to the frontend from outside", expected="200", seen=answer.stdout)
        lesson.lab.settle()
        row = admin.rows("get service frontend-lb")[0]
        lesson.check("the tunnel is closed, the address gone", expected="<pending>", seen=row["EXTERNAL-IP"])


def this_lab() -> str:
    from topo import sandbox

    return f"--lab {sandbox.name()}"


def on_links(seen: Seen, links: Any, port: int = 0) -> dict[str, int]:
    """How many IP packets these links carried, by the other end (``port``: only of it)."""
    found: dict[str, int] = {}
    for packet in seen.packets:
        ends = (packet.tuple5.src, packet.tuple5.dst)
        if (
            packet.place.link not in links
            or packet.on_one_link
            or port not in (0, ends[0].port, ends[1].port)
        ):
            continue
        peer = str(min(ends, key=lambda end: end.port))
        found[peer] = found.get(peer, 0) + 1
    return found


def used(seen: Seen, service: str, *tables: str) -> list[str]:
    """``node:table`` of the flows of a Service (or of all whose names begin so) that packets met."""
    return sorted(
        f"{node}:{flow.table}"
        for node, flows in seen.flows.items()
        for flow in flows
        if flow.table in (tables or ("ServiceLB", "EndpointDNAT"))
        and any(flow.concerns("default", name) for name in (service, f"{service}-node", f"{service}-lb"))
    )
