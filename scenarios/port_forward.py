"""Port-forward: a thread to one pod, and why it is no Service.

The mission's argument against ``kubectl port-forward``, tried: a forward is bound to one pod, goes through
the control plane, touches no Service's flow, and dies with its pod while the Service goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.forwarder import Forwarder
    from scenarios.lesson import Lesson

NODES = 2
PORT = 8501
NODE_PORT = 30000
CURL = "curl -sS --max-time 20"
HEALTH = "_stcore/health -o /dev/null -w %{http_code}"
MANY = 20
"""Connections to a Service of two pods: that all go to one of them is a chance of 1 in 524,288."""


def tell(lesson: Lesson) -> None:
    """A forward is opened, looked at, compared; its pod dies; its API server dies."""
    from scenarios.forwarder import Forwarder

    with Forwarder(lesson.lab, "frontend-node", PORT) as forward:
        a_forward(lesson, forward)
        no_service(lesson)
        one_pod(lesson, forward)
        the_pod_dies(lesson, forward)
    with Forwarder(lesson.lab, "frontend-node", PORT) as forward:
        scaled(lesson, forward)
        through_the_control_plane(lesson)
    instead(lesson)


def a_forward(lesson: Lesson, forward: Forwarder) -> None:
    with lesson.step("A port on one's own machine leads into a pod"):
        lesson.quote(
            "Previously, we have made the app available via kubectl port-forward by forwarding the Pods’ IP "
            "to localhost."
        )
        lesson.apply("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
        lesson.names_resolve()
        said = forward.open()
        lesson.say(said)
        lesson.say(
            "The pod was chosen now, once. Every byte goes from client1's localhost to the API server, and "
            "from there to the pod. (kubectl has the kubelet of the pod's node dial inside the pod; this "
            "forward uses the API's other door, `pods/NAME/proxy`, where the API server itself dials.)"
        )
        with lesson.watch() as seen:
            page = lesson.run(lesson.lab.outside(), f"{CURL} http://127.0.0.1:{PORT}/{HEALTH}")
        lesson.check("the frontend answers on localhost", expected="200", seen=page.stdout)
        connection = seen.to(forward.address, PORT)
        lesson.packets(connection)
        lesson.check(
            "the pod sees the control plane's node, not the client",
            expected=str(lesson.lab.node(1).ip),
            seen=connection.served.src.address,
        )
        on_client = [packet for packet in seen.packets if packet.place.link == "client1"]
        lesson.check("client1's own wire saw nothing of it", expected=0, seen=len(on_client))


def no_service(lesson: Lesson) -> None:
    with lesson.step("No Service takes part"):
        lesson.say("The Service's name was used to find a pod, and never again. The same page both ways:")
        client, node = lesson.lab.outside(), str(lesson.lab.node(1).ip)
        rows, counts = [], []
        for what, where in (("forward", f"127.0.0.1:{PORT}"), ("Service", f"{node}:{NODE_PORT}")):
            with lesson.watch() as seen:
                answer = lesson.run(client, f"{CURL} http://{where}/{HEALTH}")
            lesson.check(f"by the {what}: answered", expected="200", seen=answer.stdout)
            used = [
                (name, flow)
                for name, flows in seen.flows.items()
                for flow in flows
                if flow.table in ("ServiceLB", "EndpointDNAT") and flow.concerns("default", "frontend-node")
            ]
            counts.append(len(used))
            rows.append((what, len(used), " ".join(sorted({f"{n}:{f.table}" for n, f in used})) or "none"))
        lesson.table(("by the", "flows of Services used", "where"), rows)
        lesson.check("the forward used no flow of any Service", expected=0, seen=counts[0])
        lesson.check_that("the Service did", counts[1] > 0, expected="some", seen=counts[1])
        lesson.packets(seen.to(node, NODE_PORT))
        lesson.flows(seen, "node1", "frontend-node")


def one_pod(lesson: Lesson, forward: Forwarder) -> None:
    with lesson.step("One pod, however many there are"):
        by_forward = who_answers(lesson, "127.0.0.1", PORT)
        by_service = who_answers(lesson, str(lesson.lab.node(1).ip), NODE_PORT)
        names = sorted(pod.name for pod in lesson.lab.pods("app=frontend"))
        lesson.table(
            ("pod", "by the forward", "by the Service"),
            [(name, by_forward.get(name, 0), by_service.get(name, 0)) for name in names],
        )
        lesson.check(
            f"of {MANY} by the forward, all meet one pod",
            expected=f"{forward.pod} {MANY}",
            seen=shown(by_forward),
        )
        lesson.check("the Service uses all", expected=", ".join(names), seen=", ".join(sorted(by_service)))


def the_pod_dies(lesson: Lesson, forward: Forwarder) -> None:
    with lesson.step("The pod dies, and the forward with it"):
        lesson.quote(
            "However, should only be done for testing purposes and is not a reliable and stable way to "
            "enable access."
        )
        lesson.quote("Since Pods are ephemeral, the client cannot rely on the ip address alone.")
        client, node = lesson.lab.outside(), str(lesson.lab.node(1).ip)
        lesson.delete("Pod", forward.pod, grace=0)
        now = sorted(pod.name for pod in lesson.lab.pods("app=frontend"))
        lesson.check("the Deployment has two pods again", expected=2, seen=len(now))
        lesson.check_that(
            "the forward's is not among them",
            forward.pod not in now,
            expected=f"not {forward.pod}",
            seen=", ".join(now),
        )
        answer = lesson.run(client, f"{CURL} http://127.0.0.1:{PORT}/{HEALTH}")
        lesson.say(f"The forward says: {forward.last_words}")
        lesson.check_that(
            "by the forward nothing comes any more",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr,
        )
        answer = lesson.run(client, f"{CURL} http://{node}:{NODE_PORT}/{HEALTH}")
        lesson.check("the Service goes on", expected="200", seen=answer.stdout)
        found = who_answers(lesson, node, NODE_PORT)
        lesson.check("with the new pod", expected=", ".join(now), seen=", ".join(sorted(found)))


def scaled(lesson: Lesson, forward: Forwarder) -> None:
    with lesson.step("Scaled up, and still one pod"):
        lesson.quote(
            "For example, if an application is scaled up or down, there will be new IPs associated with each "
            "new Pod."
        )
        lesson.say(forward.open())
        lesson.scale("frontend", 4)
        by_forward = who_answers(lesson, "127.0.0.1", PORT)
        lesson.check(
            "a new forward: one pod of four", expected=f"{forward.pod} {MANY}", seen=shown(by_forward)
        )
        lesson.scale("frontend", 2)


def through_the_control_plane(lesson: Lesson) -> None:
    with lesson.step("Through the control plane"):
        lesson.say("Every byte of a forward passes the API server. It is killed now; no pod is touched.")
        client, node = lesson.lab.outside(), str(lesson.lab.node(1).ip)
        lesson.lab.kill("apiserver")
        broken = client.run(f"{CURL} http://127.0.0.1:{PORT}/{HEALTH}")
        goes_on = client.run(f"{CURL} http://{node}:{NODE_PORT}/{HEALTH}")
        lesson.lab.restart("apiserver")
        lesson.lab.settle()
        lesson.check_that(
            "the forward is dead", broken.returncode != 0, expected="curl fails", seen=broken.stderr
        )
        lesson.check(
            "the Service goes on: its flows are in the switches", expected="200", seen=goes_on.stdout
        )


def instead(lesson: Lesson) -> None:
    with lesson.step("Instead"):
        lesson.quote(
            "Instead, Services should be used. A service is an abstract way to expose an application as a "
            "network service."
        )
        lesson.quote("The service itself has a stable IP adress, a stable DNS name, and a stable port.")
        service: Any = lesson.lab.client.get("Service", "frontend-node")
        pod = lesson.lab.pods("app=backendflask")[0]
        url = f"http://{service['spec']['clusterIP']}/{HEALTH}"
        lesson.check("inside, by its address", expected="200", seen=lesson.run(pod, f"{CURL} {url}").stdout)
        for number in range(1, lesson.lab.config.nodes + 1):
            answer = lesson.run(
                lesson.lab.outside(), f"{CURL} http://{lesson.lab.node(number).ip}:{NODE_PORT}/{HEALTH}"
            )
            lesson.check(f"outside, by node{number}", expected="200", seen=answer.stdout)


def who_answers(lesson: Lesson, address: str, port: int) -> dict[str, int]:
    """How often each pod answers MANY requests of client1's, by the header that every answer carries."""
    from scenarios.many import counted

    ask = f"{CURL} -o /dev/null -w '%header{{x-podwire-pod}}\\n' http://{address}:{port}/_stcore/health"
    loop = f"for i in $(seq {MANY}); do {ask}; done"
    return counted(lesson.lab.outside().run(loop).stdout.split(), ())


def shown(counts: dict[str, int]) -> str:
    return " ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
