"""LoadBalancer: one external address for many nodes, handed out and balanced by the cloud.

The lesson of section 5.3.1.3 of the book, sentence by sentence, with the book's own manifests: first as on
minikube, then with a cloud, for which the lab's router stands in.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from topo.cloud import Cloud

NODES = 3
SERVICE = "frontend-lb"
CURL = "curl -sS --max-time 20"
HEALTH = "_stcore/health -o /dev/null -w %{http_code}"
"""Streamlit's own health check, which asks nobody else."""
MANY = 180
LEAST = 0.001
"""A fair choice spreads worse than this once in a thousand runs."""
TAINT = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}


def tell(lesson: Lesson) -> None:
    """The whole lesson: without a cloud, with a tunnel, with a cloud."""
    without_a_cloud(lesson)
    minikube_tunnel(lesson)
    the_cloud(lesson)
    by_packet(lesson)
    across_targets(lesson)
    health_checks(lesson)
    policy_local(lesson)
    released(lesson)


def without_a_cloud(lesson: Lesson) -> None:
    with lesson.step("The book's LoadBalancer, on a cluster without a cloud"):
        lesson.quote("It also exposes an external IP via a Loadbalancer Service.")
        lesson.apply("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
        lesson.names_resolve()
        service = get(lesson)
        lesson.check(
            f"{SERVICE} is of type LoadBalancer", expected="LoadBalancer", seen=service["spec"]["type"]
        )
        lesson.say(
            "The API server has given it a ClusterIP and a node port, as it would a NodePort. An external "
            "address is not Kubernetes' to give: nobody here owns any."
        )
        lesson.check("its external address is pending", expected="<pending>", seen=external(lesson))


def minikube_tunnel(lesson: Lesson) -> None:
    from scenarios.many import entry

    with lesson.step("minikube tunnel"):
        lesson.quote(
            "In Minikube, the external IP to access the application via the LoadBalancer can be exposed "
            "using the command minikube tunnel."
        )
        client, cluster_ip = lesson.lab.outside(), get(lesson)["spec"]["clusterIP"]
        ask = f"{CURL} http://{cluster_ip}/{HEALTH}"
        lesson.check_that(
            "from outside there is no way to the ClusterIP",
            lesson.run(client, ask).returncode != 0,
            expected="curl fails",
            seen="no route",
        )
        with lesson.lab.tunnel() as tunnel:
            lesson.say(
                "`./lab tunnel` does two things, as minikube's does: a route on the client to the ClusterIPs "
                f"by a node ({tunnel.node.name}), and the ClusterIP as the Service's external address."
            )
            lesson.check("its external address is its ClusterIP", expected=cluster_ip, seen=external(lesson))
            lesson.run(client, "ip route show 10.96.0.0/12")
            with lesson.watch() as seen:
                answer = lesson.run(client, f"{ask} --local-port 40011")
            lesson.check("the client reaches the frontend by it", expected="200", seen=answer.stdout)
            connection = seen.to(cluster_ip, 80, source_port=40011)
            lesson.packets(connection)
            lesson.check(
                f"every packet goes through {tunnel.node.name}, whatever node the pod is on",
                expected=tunnel.node.name,
                seen=entry(connection),
            )
        lesson.say("The tunnel is closed.")
        lesson.check("the address is gone with it", expected="<pending>", seen=external(lesson))
        lesson.check_that(
            "so is the way", lesson.run(client, ask).returncode != 0, expected="curl fails", seen="no route"
        )


def the_cloud(lesson: Lesson) -> None:
    with lesson.step("A cloud: its controller manager asks for a load balancer"):
        lesson.quote(
            "If K8s is running on the cloud, e.g. AWS or GCP, a Network Load Balancer (NLB) is created."
        )
        lesson.quote(
            "The Cloud Controller Manager (remember the Controller Manager of a Node) is resposible to talk "
            "to the underlying cloud provier."
        )
        lesson.say(
            "Now there is a cloud (`./lab up --cloud`): the router has a pool of addresses, 203.0.113.0/24, "
            "and a cloud-controller-manager runs. Nothing was said to the Service."
        )
        lesson.lab.start_cloud()
        lesson.lab.settle()
        holder = lesson.lab.client.get("Lease", "cloud-controller-manager", "kube-system")["spec"]
        lesson.check(
            "the cloud-controller-manager holds its lease", expected="fabric", seen=holder["holderIdentity"]
        )
        address = external(lesson)
        lesson.check_that(
            "the Service has an external address of the cloud",
            address.startswith("203.0.113."),
            expected="one of 203.0.113.0/24",
            seen=address,
        )
        events = [
            event
            for event in lesson.lab.client.list("Event", "default")[0]
            if event["involvedObject"]["name"] == SERVICE
        ]
        said = {event["reason"]: event["message"] for event in events}
        lesson.table(("event", "message"), sorted(said.items(), reverse=True))
        for reason in ("EnsuringLoadBalancer", "EnsuredLoadBalancer"):
            lesson.check_that(f"it said {reason}", reason in said, expected=reason, seen=sorted(said))
        lesson.check_says(
            "a finalizer keeps the Service until its balancer is gone",
            "service.kubernetes.io/load-balancer-cleanup",
            seen=str(get(lesson)["metadata"].get("finalizers")),
        )
        lesson.run(router(lesson), f"ip route show {address}")
        leads_everywhere(lesson, "the router leads the address to every healthy node")


def leads_everywhere(lesson: Lesson, what: str) -> None:
    lesson.check(
        what,
        expected=", ".join(node.name for node in nodes(lesson)),
        seen=", ".join(leads_to(lesson)),
    )


def by_packet(lesson: Lesson) -> None:
    from scenarios.many import entry

    with lesson.step("One request, packet by packet"):
        lesson.quote(
            "Loadbalancers are a standard way of exposing applications to the extern, for example the "
            "internet."
        )
        client, address = lesson.lab.outside(), external(lesson)
        with lesson.watch() as seen:
            answer = lesson.run(client, f"{CURL} --local-port 40012 http://{address}/")
        lesson.check_says("the frontend's page came", "Frontend Deployment", seen=answer.stdout)
        connection = seen.to(address, 80, source_port=40012)
        lesson.packets(connection)
        node = entry(connection)
        lesson.flows(seen, node, SERVICE)
        outside = [hop for hop in connection.opening.hops if hop.link in ("client1", f"{node}-uplink")][:2]
        lesson.check(
            "the balancer passed the packet on as it was: same source, same destination",
            expected=f"{client.ip}:40012 to {address}:80",
            seen=", ".join(sorted({f"{hop.src} to {hop.dst}" for hop in outside})),
        )
        served = connection.served
        lesson.check_that(
            "the node translated it to a pod of the Service",
            served.dst.address in {pod["status"]["podIP"] for pod in frontend_pods(lesson)},
            expected="a frontend pod",
            seen=served.dst,
        )
        lesson.check(
            "the pod sees the node as the source (externalTrafficPolicy Cluster)",
            expected=str(lesson.lab.node(node).ip),
            seen=served.src.address,
        )
        lesson.check(
            "the client gets its answer from the address it asked",
            expected=f"{address}:80",
            seen=str(connection.reply.hops[-1].src),
        )


def across_targets(lesson: Lesson) -> None:
    from scenarios.many import counted
    from scenarios.probes.evenness import evenness

    with lesson.step("Many connections, across all targets"):
        lesson.quote(
            "Loadbalancers automatically distribute incoming traffic across multiple targets to balance the "
            "load in an equal level."
        )
        lesson.say(
            f"{MANY} connections, each from a source port of its own. The choice is made twice: the router "
            "hashes addresses and ports to a node, the node to a pod."
        )
        found = many(lesson, 43001, MANY)
        by_node = per_node(lesson, found)
        names = {pod["status"]["podIP"]: pod["metadata"]["name"] for pod in frontend_pods(lesson)}
        by_pod = counted((names.get(one.served.dst.address, "?") for one in found), names.values())
        lesson.table(("target", "connections"), [*by_node.items(), *by_pod.items()])
        for what, counts in (("nodes", by_node), ("pods", by_pod)):
            test = evenness(list(counts.values()))
            lesson.check_that(
                f"they are spread evenly over the {what}",
                test.p > LEAST,
                expected=f"p > {LEAST} (chi-square)",
                seen=f"p = {test.p:.3f}",
            )


def health_checks(lesson: Lesson) -> None:
    with lesson.step("A node that fails its health check gets nothing new"):
        lesson.say(
            "The balancer knows nothing of pods. It asks each node's kube-proxy, at port 10256, whether it "
            "is in order. Node2 is about to be removed (that is what the autoscaler's taint says)."
        )
        client, cloud, address = lesson.lab.client, cloud_of(lesson), external(lesson)
        vip = IPv4Address(address)
        ask = f"{CURL} -w '\\n%{{http_code}}' http://{lesson.lab.node(2).ip}:10256/healthz"
        before = lesson.run(router(lesson), ask).stdout.split("\n")
        lesson.check("node2 was healthy", expected="200", seen=before[-1])
        client.patch("Node", "node2", {"spec": {"taints": [TAINT]}})
        lesson.lab.settle()
        after = lesson.run(router(lesson), ask).stdout.split("\n")
        lesson.check("node2 answers that it is not available", expected="503", seen=after[-1])
        lesson.check("and why: it is not eligible", expected=False, seen=json.loads(after[0])["nodeEligible"])
        cloud.wait_for(lambda routes: "node2" not in routes[vip])
        lesson.run(router(lesson), f"ip route show {address}")
        counts = per_node(lesson, many(lesson, 44001, 60))
        lesson.table(("node", "new connections"), list(counts.items()))
        lesson.check("none of them came to node2", expected=0, seen=counts["node2"])
        client.patch("Node", "node2", {"spec": {"taints": None}})
        cloud.wait_for(lambda routes: "node2" in routes[vip])
        lesson.lab.settle()
        leads_everywhere(lesson, "when it is healthy again it is a target again")


def policy_local(lesson: Lesson) -> None:
    from scenarios.many import entry

    with lesson.step("externalTrafficPolicy: Local keeps the client's address"):
        lesson.say(
            "Now only nodes that have a pod may be asked. The balancer finds them by the Service's own "
            "health check port, on which each node says how many ready endpoints it has."
        )
        lab, address = lesson.lab, external(lesson)
        lab.client.patch("Service", SERVICE, {"spec": {"externalTrafficPolicy": "Local"}})
        lab.settle()
        port = get(lesson)["spec"]["healthCheckNodePort"]
        homes = sorted({pod["spec"]["nodeName"] for pod in frontend_pods(lesson)})
        rows = []
        for node in nodes(lesson):
            command = f"{CURL} -w '\\n%{{http_code}}' http://{node.ip}:{port}/healthz"
            body, _, code = lesson.run(router(lesson), command).stdout.rpartition("\n")
            rows.append((node.name, code, json.loads(body)["localEndpoints"]))
        lesson.table(("node", "answer", "local endpoints"), rows)
        lesson.check(
            "the nodes that say yes are those with a pod",
            expected=", ".join(homes),
            seen=", ".join(name for name, code, _ in rows if code == "200"),
        )
        cloud_of(lesson).wait_for(lambda routes: routes[IPv4Address(address)] == tuple(homes))
        found = many(lesson, 45001, 30)
        lesson.packets(found[0])
        where = {pod["status"]["podIP"]: pod["spec"]["nodeName"] for pod in frontend_pods(lesson)}
        lesson.check(
            "each was served on the node to which the balancer sent it",
            expected=30,
            seen=sum(where.get(one.served.dst.address) == entry(one) for one in found),
        )
        lesson.check(
            "the pods see the client itself",
            expected=str(lab.outside().ip),
            seen=", ".join(sorted({one.served.src.address for one in found})),
        )
        lab.client.patch("Service", SERVICE, {"spec": {"externalTrafficPolicy": "Cluster"}})
        lab.settle()


def released(lesson: Lesson) -> None:
    with lesson.step("When the Service goes, so does its load balancer"):
        client, address = lesson.lab.outside(), external(lesson)
        lesson.lab.client.delete("Service", SERVICE)
        lesson.lab.settle()
        names = [service["metadata"]["name"] for service in lesson.lab.client.list("Service", "default")[0]]
        lesson.check_that(
            "the finalizer let it go", SERVICE not in names, expected=f"no {SERVICE}", seen=names
        )
        answer = lesson.run(client, f"{CURL} http://{address}/")
        lesson.check_that(
            "the address leads nowhere",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr or answer.stdout,
        )
        route = lesson.run(router(lesson), f"ip route show {address}").stdout
        lesson.check("the router has forgotten it", expected="", seen=route.strip())


def get(lesson: Lesson) -> Any:
    return lesson.lab.client.get("Service", SERVICE)


def external(lesson: Lesson) -> str:
    """The EXTERNAL-IP column of ``kubectl get service``."""
    from controller.api.cells import external_ip

    return external_ip(get(lesson))


def router(lesson: Lesson) -> Any:
    from topo.hosts import HostHandle
    from topo.plan import FABRIC

    return HostHandle(lesson.lab.network, FABRIC)


def cloud_of(lesson: Lesson) -> Cloud:
    assert lesson.lab.cloud is not None
    return lesson.lab.cloud


def leads_to(lesson: Lesson) -> tuple[str, ...]:
    """The nodes to which the external address is routed."""
    return tuple(cloud_of(lesson).routes[IPv4Address(external(lesson))])


def nodes(lesson: Lesson) -> list[Any]:
    return [lesson.lab.node(n) for n in range(1, lesson.lab.config.nodes + 1)]


def frontend_pods(lesson: Lesson) -> list[Any]:
    found: list[Any] = lesson.lab.client.list("Pod", "default", labels="app=frontend")[0]
    return found


def many(lesson: Lesson, first: int, count: int) -> list[Connection]:
    """New connections to the external address from ``count`` source ports, as the wires showed them."""
    from scenarios.many import answered, connect

    address = external(lesson)
    with lesson.watch() as seen:
        connect(lesson.lab.outside(), address, 80, range(first, first + count))
    found = seen.all_to(address, 80)
    lesson.check("every connection was answered", expected=count, seen=answered(found))
    return found


def per_node(lesson: Lesson, connections: list[Connection]) -> dict[str, int]:
    """How many the balancer sent to each node."""
    from scenarios.many import counted, entry

    return counted(map(entry, connections), [node.name for node in nodes(lesson)])


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
