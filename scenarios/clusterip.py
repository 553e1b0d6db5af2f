"""ClusterIP: one stable address inside the cluster, whatever happens to the pods behind it.

The lesson of section 5.3.1.1 of the book, and of the paragraphs on pod addresses before it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.lesson import Lesson
    from topo.hosts import Pod

NODES = 2
PORT = 5001
CURL = "curl -sS --max-time 5"
STATUS = "-o /dev/null -w %{http_code}"


def tell(lesson: Lesson) -> None:
    """The whole lesson, in the order of the book."""
    the_default_type(lesson)
    pod_to_pod(lesson)
    how_a_pod_finds_it(lesson)
    not_from_outside(lesson)
    only_healthy_pods(lesson)
    addresses_come_and_go(lesson)
    nobody_there(lesson)


def the_default_type(lesson: Lesson) -> None:
    with lesson.step("A Service is a ClusterIP unless it says otherwise"):
        lesson.quote(
            "The ClusterIP is the default K8s service. This service type will be chosen if no specific type "
            "is selected."
        )
        lesson.apply("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
        plain = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "no-type"},
            "spec": {"selector": {"app": "backendflask"}, "ports": [{"port": PORT, "targetPort": 5000}]},
        }
        (made,) = lesson.apply(plain)
        lesson.check("a Service without a type becomes", expected="ClusterIP", seen=made["spec"]["type"])
        lesson.check_that(
            "it was given an address of its own",
            made["spec"]["clusterIP"] not in ("", "None", address(lesson)),
            expected="an address of 10.96.0.0/12",
            seen=made["spec"]["clusterIP"],
        )
        lesson.quote(
            "The listed endpoints that connect to the database-deployments are shown. One can compare them "
            "to the IPs of the actual deployments - they are the same."
        )
        pods = [f"{pod.ip}:5000" for pod in lesson.lab.pods("app=backendflask")]
        lesson.check(
            "the endpoints of backendflask are its pods' addresses",
            expected=", ".join(sorted(pods)),
            seen=", ".join(endpoints(lesson, "backendflask")),
        )


def pod_to_pod(lesson: Lesson) -> None:
    with lesson.step("Pod to pod, by the Service's address"):
        lesson.quote(
            "If one Pod wants to talk to another Pod inside the cluster, it will use ClusterIP to do so."
        )
        pod, service = lesson.lab.pods("app=frontend")[0], address(lesson)
        with lesson.watch() as seen:
            answer = lesson.run(pod, f"{CURL} --local-port 40001 http://{service}:{PORT}/data")
        lesson.check_says("the data came", '"China"', seen=answer.stdout)
        connection = seen.to(service, PORT, source_port=40001)
        lesson.packets(connection)
        lesson.flows(seen, pod.node, "backendflask")
        lesson.check_that(
            "the destination was translated to a pod behind the Service",
            str(connection.served.dst) in endpoints(lesson, "backendflask"),
            expected=" or ".join(endpoints(lesson, "backendflask")),
            seen=connection.served.dst,
        )
        lesson.check(
            "that pod sees who really asked: the source is kept",
            expected=f"{pod.ip}:40001",
            seen=str(connection.served.src),
        )
        lesson.check(
            "the answer seems to come from the Service",
            expected=f"{service}:{PORT}",
            seen=str(connection.reply.hops[-1].src),
        )
        node = lesson.lab.node(1)
        answer = lesson.run(node, f"{CURL} http://{service}:{PORT}/data {STATUS}")
        lesson.check(f"{node.name} itself reaches it as well", expected="200", seen=answer.stdout)


def how_a_pod_finds_it(lesson: Lesson) -> None:
    with lesson.step("How the frontend knows the address"):
        lesson.say(
            "The manifest gives it DB_SERVICE=backendflask:5001, a name, which the cluster's DNS turns into "
            "the Service's address. There are also the variables that every pod gets for the Services that "
            "are older than it."
        )
        named = lesson.names_resolve()
        pod = lesson.lab.pods("app=frontend")[0]
        service = address(lesson)
        variable = lesson.run(pod, "printenv DB_SERVICE BACKENDFLASK_SERVICE_HOST BACKENDFLASK_SERVICE_PORT")
        lesson.check(
            "the Service's address and port are in the environment",
            expected=f"backendflask:{PORT}\n{service}\n{PORT}",
            seen=variable.stdout.strip(),
        )
        page = lesson.run(pod, f"{CURL} http://127.0.0.1:8501/")
        if named:
            lesson.check_says("by the name the page has the data", "China", seen=page.stdout)
        else:
            lesson.check_says("the page says that the name is not known", "class='error'", seen=page.stdout)
        url = "http://$BACKENDFLASK_SERVICE_HOST:$BACKENDFLASK_SERVICE_PORT/data"
        answer = lesson.run(pod, f"sh -c '{CURL} {url}'")
        lesson.check_says("by the variables the data comes", '"India"', seen=answer.stdout)


def not_from_outside(lesson: Lesson) -> None:
    with lesson.step("Not from outside"):
        lesson.quote(
            "The ClusterIP is used for cluster internal access and does not allow for external communication."
        )
        service = address(lesson)
        with lesson.watch() as seen:
            answer = lesson.run(lesson.lab.outside(), f"{CURL} http://{service}:{PORT}/data")
        lesson.check_that(
            "the client outside gets nothing",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr,
        )
        connection = seen.to(service, PORT)
        lesson.packets(connection)
        lesson.say("No rule forbids it. The router has no route to 10.96.0.0/12, and says so.")
        lesson.check(
            "the router answers at once",
            expected="net unreachable",
            seen=", ".join(reply.hops[0].flags for reply in connection.replies()) or "nothing",
        )
        lesson.check(
            "no node ever saw the packet",
            expected="client1",
            seen=", ".join(sorted({hop.link for hop in connection.opening.hops})),
        )


def only_healthy_pods(lesson: Lesson) -> None:
    from controller.api.objects import is_ready

    with lesson.step("Traffic goes to healthy pods only"):
        lesson.quote("The service will allow and send traffic to any pod that is healthy.")
        lesson.apply("health.yaml")
        client, service = lesson.lab.pods("app=frontend")[0], address(lesson, "health")
        before = answers(lesson, client, service, 41001)
        pods = {pod.name: pod for pod in lesson.lab.pods("app=health")}
        lesson.check(
            "while both are healthy, both answer",
            expected=", ".join(sorted(pods)),
            seen=", ".join(sorted(before)),
        )
        with client.socket() as old:
            old.settimeout(5)
            with lesson.watch() as seen:
                old.connect((service, 80))
            served = seen.to(service, 80).served.dst.address
            sick = next(pod for pod in pods.values() if str(pod.ip) == served)
            lesson.say(f"A connection is open to {sick.name}. Now that pod falls ill:")
            lesson.run(sick, "touch /tmp/sick")
            lesson.wait_for("Pod", sick.name, lambda pod: not is_ready(pod))
            after = answers(lesson, client, service, 41101)
            lesson.check(
                "new connections all go to the other one",
                expected=", ".join(sorted(set(pods) - {sick.name})),
                seen=", ".join(sorted(after)),
            )
            lesson.check("the connection that was open lives on", expected=sick.name, seen=ask(old))
        lesson.run(sick, "rm /tmp/sick")
        lesson.wait_for("Pod", sick.name, is_ready)
        healed = answers(lesson, client, service, 41201)
        lesson.check(
            "healed, it is chosen again", expected=", ".join(sorted(pods)), seen=", ".join(sorted(healed))
        )


def addresses_come_and_go(lesson: Lesson) -> None:
    with lesson.step("Pods come and go, the Service stays"):
        lesson.quote(
            "Since Pods are ephemeral, the client cannot rely on the ip address alone. For example, if an "
            "application is scaled up or down, there will be new IPs associated with each new Pod."
        )
        client, service = lesson.lab.pods("app=frontend")[0], address(lesson)
        first = {str(pod.ip) for pod in lesson.lab.pods("app=backendflask")}
        lesson.scale("backendflask", 1)
        (left,) = {str(pod.ip) for pod in lesson.lab.pods("app=backendflask")}
        gone = min(first - {left})
        answer = lesson.run(client, f"curl -sS --max-time 1 http://{gone}:5000/data")
        lesson.check_that(
            "who kept a pod's own address now talks to nobody",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr,
        )
        lesson.scale("backendflask", 3)
        now = {str(pod.ip) for pod in lesson.lab.pods("app=backendflask")}
        lesson.table(
            ("pods at first", "after scaling to 1", "after scaling to 3"),
            [(" ".join(sorted(first)), left, " ".join(sorted(now)))],
        )
        lesson.check("there are three pods", expected=3, seen=len(now))
        lesson.check("every new pod has a new address", expected="", seen=" ".join((now - {left}) & first))
        lesson.quote(
            "The service can connect access to a pod via an interal reference, so a change of the Pods IP "
            "will not interfere with its accessibility. The service itself has a stable IP adress."
        )
        lesson.check("the Service has the address it had", expected=service, seen=address(lesson))
        lesson.check(
            "its endpoints are the pods of now",
            expected=", ".join(sorted(f"{ip}:5000" for ip in now)),
            seen=", ".join(endpoints(lesson, "backendflask")),
        )
        answer = lesson.run(client, f"{CURL} http://{service}:{PORT}/data {STATUS}")
        lesson.check("and it answers", expected="200", seen=answer.stdout)


def nobody_there(lesson: Lesson) -> None:
    with lesson.step("No pod at all: refused at once"):
        client, service = lesson.lab.pods("app=frontend")[0], address(lesson)
        lesson.scale("backendflask", 0)
        with lesson.watch() as seen:
            answer = lesson.run(client, f"{CURL} --local-port 40005 http://{service}:{PORT}/data")
        lesson.check("curl is refused (exit status 7), not left waiting", expected=7, seen=answer.returncode)
        connection = seen.to(service, PORT, source_port=40005)
        lesson.packets(connection)
        reply = connection.reply
        took = (reply.hops[-1].time_ns - connection.opening.hops[0].time_ns) / 1e6
        lesson.check("the answer is a TCP reset", expected="RST,ACK", seen=reply.hops[-1].flags)
        lesson.check(
            "it comes in the Service's name", expected=f"{service}:{PORT}", seen=str(reply.hops[-1].src)
        )
        lesson.check_that("it comes at once", took < 1000, expected="under a second", seen=f"{took:.1f} ms")
        lesson.say(
            "The node's own kernel says so, as with kube-proxy: the switch hands the packet to it, and nft "
            "rejects it. No controller takes part."
        )
        lesson.scale("backendflask", 2)
        answer = lesson.run(client, f"{CURL} http://{service}:{PORT}/data {STATUS}")
        lesson.check("with pods again it answers again", expected="200", seen=answer.stdout)


def address(lesson: Lesson, service: str = "backendflask") -> str:
    return str(lesson.lab.client.get("Service", service)["spec"]["clusterIP"])


def endpoints(lesson: Lesson, service: str) -> list[str]:
    """``address:port`` of the Service's endpoints, as the Endpoints object names them."""
    from scenarios.objects import endpoint_addresses

    return sorted(endpoint_addresses(lesson.lab.client.get("Endpoints", service)))


def answers(lesson: Lesson, client: Pod, service: str, first_port: int) -> set[str]:
    """Which pods answer twelve new connections."""
    ports = f"$(seq {first_port} {first_port + 11})"
    loop = f"for port in {ports}; do {CURL} --local-port $port http://{service}/hostname; echo; done"
    return set(lesson.run(client, f"sh -c '{loop}'").stdout.split())


def ask(connection: socket.socket) -> str:
    """The name of the pod at the other end of an open connection."""
    connection.sendall(b"GET /hostname HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n")
    text = b""
    while data := connection.recv(4096):
        text += data
    return text.rpartition(b"\r\n\r\n")[2].decode()


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
