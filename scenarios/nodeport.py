"""NodePort: one port on every node leads to the pods, wherever they run.

The lesson of section 5.3.1.2 of the book, sentence by sentence, with the book's own manifests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.lesson import Lesson

NODES = 3
PORT = 30000
CURL = "curl -sS --max-time 20"
"""The frontend's page waits for a name: at worst, as long as a resolver waits."""
HEALTH = "_stcore/health -o /dev/null -w %{http_code}"
"""Streamlit's own health check, which asks nobody else."""


def tell(lesson: Lesson) -> None:
    """The whole lesson, in the order of the book."""
    the_cluster(lesson)
    on_every_node(lesson)
    by_packet(lesson)
    node_without_a_pod(lesson)
    inside_a_node(lesson)
    minikube_url(lesson)
    rules_of_the_port(lesson)
    load_balancer_too(lesson)
    address_changes(lesson)


def the_cluster(lesson: Lesson) -> None:
    with lesson.step("The book's two Deployments, and their Services"):
        lesson.say(
            "Three nodes behind one router, one client outside. Two replicas of the frontend on three "
            "nodes: one node is left without a frontend pod."
        )
        lesson.apply("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
        lesson.names_resolve()
        lab = lesson.lab
        pods = lab.client.list("Pod")[0]
        lesson.table(
            ("pod", "address", "node"),
            [(p["metadata"]["name"], p["status"]["podIP"], p["spec"]["nodeName"]) for p in pods],
        )
        service = lab.client.get("Service", "frontend-node")
        lesson.check("frontend-node is of type NodePort", expected="NodePort", seen=service["spec"]["type"])
        lesson.check(
            "its node port is the one in the manifest",
            expected=PORT,
            seen=service["spec"]["ports"][0]["nodePort"],
        )
        marked = sorted(f"{p['status']['podIP']}:8501" for p in frontend_pods(lesson))
        lesson.check(
            "its endpoints are the pods marked app=frontend, and no others",
            expected=", ".join(marked),
            seen=", ".join(endpoints(lesson, "frontend-node")),
        )
        lesson.check_that(
            "one node has no frontend pod",
            bool(empty_nodes(lesson)),
            expected="a node",
            seen=empty_nodes(lesson),
        )


def on_every_node(lesson: Lesson) -> None:
    with lesson.step("A static port, opened on all nodes at once"):
        lesson.quote("The NodePort service allows to open a static port simultaneously on all nodes.")
        lesson.quote(
            "You’ll be able to contact the NodePort Service from outside the cluster by requesting "
            "<NodeIP>:<NodePort>."
        )
        client = lesson.lab.outside()
        for node in nodes(lesson):
            answer = lesson.run(client, f"{CURL} http://{node.ip}:{PORT}/{HEALTH}")
            lesson.check(f"{node.name} answers on port {PORT}", expected="200", seen=answer.stdout)


def by_packet(lesson: Lesson) -> None:
    with lesson.step("One request, packet by packet"):
        lesson.quote("The client directly communicates with the node via its IP address.")
        lesson.quote(
            "When the request reaches the port of the node, the NodePort service handles the request and "
            "forwards it to the specifically marked pod."
        )
        node = next(n for n in nodes(lesson) if n.name not in empty_nodes(lesson))
        client = lesson.lab.outside()
        with lesson.watch() as seen:
            answer = lesson.run(client, f"{CURL} --local-port 40001 http://{node.ip}:{PORT}/")
        lesson.check_says("the frontend's page came", "Frontend Deployment", seen=answer.stdout)
        connection = seen.to(str(node.ip), PORT, source_port=40001)
        lesson.packets(connection)
        lesson.flows(seen, node.name, "frontend-node")
        lesson.say("From now on conntrack knows what to do with this connection's packets:")
        lesson.memory(seen, connection)
        served = connection.served
        lesson.check_that(
            "the destination was translated to a pod of the Service",
            str(served.dst) in endpoints(lesson, "frontend-node"),
            expected=" or ".join(endpoints(lesson, "frontend-node")),
            seen=served.dst,
        )
        lesson.check(
            "the pod sees the node as the source (policy Cluster), not the client",
            expected=str(node.ip),
            seen=served.src.address,
        )
        lesson.check(
            "the client gets its answer from the address it asked",
            expected=f"{node.ip}:{PORT}",
            seen=str(connection.reply.hops[-1].src),
        )


def node_without_a_pod(lesson: Lesson) -> None:
    with lesson.step("A node without a pod forwards to one that has it"):
        lesson.quote(
            "Using a NodePort is beneficial for example when a request is sent to a node without a pod. The "
            "NodePort service will forward the request to a node which has a healthy associated pod running."
        )
        name = empty_nodes(lesson)[0]
        node, client = lesson.lab.node(name), lesson.lab.outside()
        with lesson.watch() as seen:
            answer = lesson.run(client, f"{CURL} --local-port 40002 http://{node.ip}:{PORT}/{HEALTH}")
        lesson.check(f"{name} answers although it has no pod", expected="200", seen=answer.stdout)
        connection = seen.to(str(node.ip), PORT, source_port=40002)
        lesson.packets(connection)
        lesson.flows(seen, name, "frontend-node")
        pod = pod_at(lesson, connection.served.dst.address)
        lesson.check_that(
            "the pod that answered runs on another node",
            pod["spec"]["nodeName"] != name,
            expected=f"not {name}",
            seen=f"{pod['metadata']['name']} on {pod['spec']['nodeName']}",
        )
        ways = [hop.place for hop in connection.opening.hops if hop.link == f"{name}-uplink"]
        lesson.check(
            f"the packet came in and left again by {name}'s uplink",
            expected="in, out",
            seen=", ".join("out" if way.outgoing else "in" for way in ways),
        )
        lesson.check(
            "it left with the node's own address, so that the answer returns here to be translated back",
            expected=str(node.ip),
            seen=connection.served.src.address,
        )


def inside_a_node(lesson: Lesson) -> None:
    with lesson.step("Inside a node: curl localhost"):
        lesson.quote(
            "When accessing a node e.g. via minikube ssh, we can run curl localhost:PORT/ inside the node to "
            "derive the website data from the frontend."
        )
        name = empty_nodes(lesson)[0]
        node = lesson.lab.node(name)
        with lesson.watch() as seen:
            answer = lesson.run(node, f"{CURL} localhost:{PORT}/")
        lesson.check_says("the website came by localhost", "Frontend Deployment", seen=answer.stdout)
        connection = next(c for c in seen.connections if c.asked.dst.port == PORT)
        lesson.say(
            "The kernel would never let 127.0.0.1 leave the loopback; nft in the node's namespace gives "
            "such packets the node's address and sends them to 169.254.0.252, where the switch waits."
        )
        lesson.packets(connection)
        for where in ("localhost", str(node.ip)):
            answer = lesson.run(node, f"{CURL} {where}:{PORT}/{HEALTH}")
            lesson.check(f"{name} reaches the NodePort by {where}", expected="200", seen=answer.stdout)


def minikube_url(lesson: Lesson) -> None:
    with lesson.step("The URL, as minikube prints it"):
        lesson.quote(
            "Since using minikube, we can access the service by using minikube service frontend-node --url."
        )
        from topo import sandbox

        url = lesson.lab_command(f"url frontend-node --lab {sandbox.name()}")
        lesson.check(
            "it is the node's address and the port", expected=f"http://{nodes(lesson)[0].ip}:{PORT}", seen=url
        )
        answer = lesson.run(lesson.lab.outside(), f"{CURL} {url}")
        lesson.check_says("the URL leads to the frontend", "Frontend Deployment", seen=answer.stdout)


def rules_of_the_port(lesson: Lesson) -> None:
    with lesson.step("The range, and one Service for each port"):
        lesson.quote("Its range lies between between 30.000/32.767.")
        for port in (29999, 32768):
            said = lesson.refused(node_port_service(f"out-of-range-{port}", port))
            valid = "provided port is not in the valid range"
            lesson.check_says(f"port {port} is refused", valid, seen=said)
        lesson.quote("However, only having one service specified per port is also a disadvantage.")
        said = lesson.refused(node_port_service("second-on-30000", PORT))
        lesson.check_says(
            "a second Service on the same port is refused",
            "provided port is already allocated",
            seen=said,
        )
        names = {s["metadata"]["name"] for s in lesson.lab.client.list("Service", "default")[0]}
        refused = {"out-of-range-29999", "out-of-range-32768", "second-on-30000"}
        lesson.check("nothing of what was refused is there", expected="", seen=", ".join(names & refused))


def load_balancer_too(lesson: Lesson) -> None:
    with lesson.step("frontend-lb: a LoadBalancer is a NodePort too"):
        lesson.say(
            "There is no cloud here to hand out external addresses (lesson loadbalancer has one), so "
            "frontend-lb stays <pending>, as in minikube without a tunnel. It has a ClusterIP and a NodePort "
            "all the same."
        )
        from controller.api.cells import external_ip

        service = lesson.lab.client.get("Service", "frontend-lb")
        lesson.check("its external address is pending", expected="<pending>", seen=external_ip(service))
        port = service["spec"]["ports"][0]["nodePort"]
        lesson.check_that(
            "it was given a node port of the range", 30000 <= port <= 32767, expected="30000-32767", seen=port
        )
        node = nodes(lesson)[0]
        answer = lesson.run(lesson.lab.outside(), f"{CURL} http://{node.ip}:{port}/{HEALTH}")
        lesson.check("its NodePort works", expected="200", seen=answer.stdout)
        pod = lesson.lab.pods("app=backendflask")[0]
        address = service["spec"]["clusterIP"]
        answer = lesson.run(pod, f"{CURL} http://{address}/{HEALTH}")
        lesson.check("its ClusterIP works", expected="200", seen=answer.stdout)


def address_changes(lesson: Lesson) -> None:
    with lesson.step("When a node's address changes"):
        lesson.quote(
            "The point of running K8s in the cloud is to scale up and down and if the NodeIP address "
            "changes, then we have a problem. So we should not aim to access a Node IP directly in the "
            "first place."
        )
        node, client = lesson.lab.node(3), lesson.lab.outside()
        old = str(node.ip)
        node.readdress()
        lesson.lab.settle()
        new = str(node.ip)
        lesson.say(f"{node.name} has moved from {old} to {new}; pods and Services were not touched.")
        with lesson.watch() as seen:
            answer = lesson.run(client, f"curl -sS --max-time 2 --local-port 40003 http://{old}:{PORT}/")
        lesson.packets(seen.to(old, PORT))
        lesson.check_that(
            "the address that clients knew is dead",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr or answer.stdout,
        )
        answer = lesson.run(client, f"{CURL} http://{new}:{PORT}/{HEALTH}")
        lesson.check("the new one works", expected="200", seen=answer.stdout)
        answer = lesson.run(client, f"{CURL} http://{nodes(lesson)[0].ip}:{PORT}/{HEALTH}")
        lesson.check("the other nodes never noticed", expected="200", seen=answer.stdout)


def nodes(lesson: Lesson) -> list[Any]:
    return [lesson.lab.node(n) for n in range(1, lesson.lab.config.nodes + 1)]


def frontend_pods(lesson: Lesson) -> list[Any]:
    found: list[Any] = lesson.lab.client.list("Pod", "default", labels="app=frontend")[0]
    return found


def empty_nodes(lesson: Lesson) -> list[str]:
    """Nodes on which no frontend pod runs."""
    used = {pod["spec"]["nodeName"] for pod in frontend_pods(lesson)}
    return [node.name for node in nodes(lesson) if node.name not in used]


def endpoints(lesson: Lesson, service: str) -> list[str]:
    """``address:port`` of the Service's ready endpoints, as its EndpointSlices name them."""
    from scenarios.objects import endpoint_addresses

    slices = lesson.lab.client.list(
        "EndpointSlice", "default", labels=f"kubernetes.io/service-name={service}"
    )[0]
    return sorted(address for s in slices for address in endpoint_addresses(s))


def pod_at(lesson: Lesson, address: str) -> Any:
    return next(
        p for p in lesson.lab.client.list("Pod")[0] if (p.get("status") or {}).get("podIP") == address
    )


def node_port_service(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "frontend"},
            "ports": [{"port": 80, "targetPort": 8501, "nodePort": port}],
        },
    }


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
