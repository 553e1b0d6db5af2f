"""Kubectl tour: every command of the book's chapter, typed in its order, and what each really does.

The real kubectl outside of the cluster, ``./lab`` where the book says minikube. What they print is held
against the API's objects and against the wires; where it differs from the book, the step says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.administrator import Administrator
    from scenarios.lesson import Lesson

NODES = 3
PORT, NODE_PORT = 8501, 30000
CURL = "curl -sS --max-time 20"
HEALTH = "_stcore/health -o /dev/null -w %{http_code}"
SYSTEM = "kube-system"


def prepare() -> None:
    """A MachineError now, not in the middle, where there is no kubectl."""
    from scenarios import kubeconfig

    kubeconfig.kubectl()


def tell(lesson: Lesson) -> None:
    """In the order in which the book types them."""
    from scenarios.administrator import Administrator
    from scenarios.lesson import MANIFESTS
    from scenarios.minikube import minikube_service, minikube_ssh, minikube_tunnel

    admin = Administrator(lesson, MANIFESTS)
    applied(lesson, admin)
    port_forward(lesson, admin)
    scaled(lesson, admin)
    minikube_service(lesson, admin)
    minikube_ssh(lesson)
    minikube_tunnel(lesson, admin)
    default_services(lesson, admin)
    all_endpoints(lesson, admin)
    described(lesson, admin)
    the_telephone_book(lesson, admin)
    inside_a_pod(lesson, admin)


def applied(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl apply: the book's two files"):
        lesson.quote("The following example show the deployment and linking of two different deployments.")
        lesson.say(
            "kubectl runs on client1, outside of the cluster, and talks TLS to node1, port 6443, as it does "
            "with a cluster of yours; `./lab kubectl` comes by your loopback instead."
        )
        files = "-f services_backend-deployment.yaml -f services_frontend-deployment.yaml"
        with lesson.watch() as seen:
            said = admin.kubectl(f"apply {files}")
        lesson.lab.settle()
        lesson.names_resolve()
        lesson.check(
            "two Deployments and three Services were created",
            expected="backendflask frontend backendflask frontend-lb frontend-node",
            seen=" ".join(
                line.split()[0].partition("/")[2]
                for kind in ("deployment", "service")
                for line in sorted(said.splitlines())
                if line.startswith(kind) and line.endswith(" created")
            ),
        )
        asked = seen.to(str(lesson.lab.node(1).ip), 6443)
        lesson.packets(asked, "what kubectl asked, on the wires (TLS: the rest is not for us)")
        lesson.check_that(
            "no Service led it there: the address it asked is the address that answered",
            asked.served.dst == asked.asked.dst,
            expected=str(asked.asked.dst),
            seen=asked.served.dst,
        )
        for deployment in ("backendflask", "frontend"):
            said = admin.kubectl(f"rollout status deployment/{deployment}")
            lesson.check_says(f"{deployment} is rolled out", "successfully rolled out", seen=said)
        found = {row["NAME"]: row for row in admin.rows("get services")}
        objects = lesson.lab.client.list("Service", "default")[0]
        lesson.check(
            "each Service has the type and the address that the API's object holds",
            expected=shown(
                (o["metadata"]["name"], o["spec"]["type"], o["spec"]["clusterIP"]) for o in objects
            ),
            seen=shown((name, row["TYPE"], row["CLUSTER-IP"]) for name, row in found.items()),
        )
        lesson.check(
            "frontend-node has the port that the file asks for",
            expected=f"80:{NODE_PORT}/TCP",
            seen=found["frontend-node"]["PORT(S)"],
        )


def port_forward(lesson: Lesson, admin: Administrator) -> None:
    from scenarios.beside import Beside
    from scenarios.minikube import on_links, used

    with lesson.step("kubectl port-forward: to a pod, past every Service"):
        lesson.quote(
            "Previously, we have made the app available via kubectl port-forward by forwarding the Pods’ IP "
            "to localhost."
        )
        with lesson.watch() as seen, Beside(admin, admin.popen, "Forwarding from 127.0.0.1") as forward:
            lesson.run(forward, f"kubectl port-forward deployment/frontend {PORT}:{PORT}")
            answer = lesson.run(lesson.lab.outside(), f"{CURL} http://localhost:{PORT}/{HEALTH}")
        lesson.check("the frontend answers on client1's localhost", expected="200", seen=answer.stdout)
        lesson.say(
            "The bytes go from client1's loopback into kubectl, in its TLS connection to the API server, "
            "from there to the pod's kubelet, and it dials the pod's own localhost:"
        )
        asked = seen.all_to(str(lesson.lab.node(1).ip), 6443)
        lesson.packets(asked[-1], "the connection that carried it, the last that kubectl opened")
        to_api = on_links(seen, ("client1",))
        lesson.table(
            ("between", "and", "packets on client1's link"),
            [("client1", peer, count) for peer, count in to_api.items()],
        )
        lesson.check(
            "all that client1's link carried was for the API server",
            expected=f"{lesson.lab.node(1).ip}:6443",
            seen=" ".join(to_api),
        )
        pods = lesson.lab.pods("app=frontend")
        lesson.check(
            "on the links of the frontend's pods there was no packet of it",
            expected=0,
            seen=sum(on_links(seen, [pod.link for pod in pods], port=PORT).values()),
        )
        lesson.check("no flow of a Service had a part", expected=0, seen=len(used(seen, "frontend")))
        lesson.quote(
            "However, should only be done for testing purposes and is not a reliable and stable way to "
            "enable access."
        )
        answer = lesson.run(lesson.lab.outside(), f"{CURL} http://localhost:{PORT}/{HEALTH}")
        lesson.check_that(
            "and with kubectl it has ended",
            answer.returncode != 0,
            expected="curl fails",
            seen=answer.stderr,
        )


def scaled(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl scale: new pods, new addresses, the same Service"):
        lesson.quote(
            "For example, if an application is scaled up or down, there will be new IPs associated with each "
            "new Pod."
        )
        before = {row["IP"] for row in admin.rows("get pods -l app=frontend -o wide")}
        said = admin.kubectl("scale deployment frontend --replicas=3")
        lesson.check_says("it is scaled", "deployment.apps/frontend scaled", seen=said)
        lesson.lab.settle()
        after = {row["IP"] for row in admin.rows("get pods -l app=frontend -o wide")}
        lesson.check_that(
            "the old pods keep their addresses, the new one has a new one",
            before < after and len(after - before) == 1,
            expected="one more",
            seen=" ".join(sorted(after - before)),
        )
        address = lesson.lab.client.get("Service", "frontend-node")["spec"]["clusterIP"]
        row = admin.rows("get service frontend-node")[0]
        lesson.check("the Service's address is what it was", expected=address, seen=row["CLUSTER-IP"])
        row = admin.rows("get endpoints frontend-node")[0]
        lesson.check(
            "and its endpoints are the pods there are now",
            expected=shown((f"{ip}:{PORT}",) for ip in after),
            seen=shown((one,) for one in row["ENDPOINTS"].split(",")),
        )
        admin.kubectl("scale deployment frontend --replicas=2")
        lesson.lab.settle()
        lesson.say(
            "To this command a cluster of 1.33 or later adds a warning: Endpoints are deprecated, ask for "
            "EndpointSlices. The book is older; kube-proxy has long followed the slices, as podwire's does."
        )


def default_services(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl get endpoints: the Service kubernetes"):
        lesson.quote(
            "Check the endpoints of the kubernetes service and the endpoints of the api-service pod within "
            "kube-system namespace. They should be the same."
        )
        endpoints = admin.rows("get endpoints kubernetes")[0]["ENDPOINTS"]
        rows = admin.rows(f"get pods -n {SYSTEM} -o wide")
        pod = next(row for row in rows if row["NAME"].startswith("kube-apiserver"))
        lesson.check("they are the same", expected=f"{pod['IP']}:6443", seen=endpoints)
        lesson.say(
            "minikube's API server listens on 8443, kubeadm's and podwire's on 6443. And minikube lists more "
            "pods here: etcd, kube-scheduler, kube-controller-manager, storage-provisioner. In podwire the "
            "first is a file, the next two are loops beside the API server, and a claim is a directory "
            "of the lab."
        )


def all_endpoints(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl get endpoints: all of them"):
        lesson.quote("It is also possible to show all endpoints of the cluster using kubectl get endpoints.")
        said = {row["NAME"]: row["ENDPOINTS"] for row in admin.rows("get endpoints")}
        everywhere = admin.rows("get endpoints -A")
        lesson.check_that(
            "`of the cluster` means of namespace default; with -A it is all",
            "kube-dns" not in said and "kube-dns" in {row["NAME"] for row in everywhere},
            expected="kube-dns only with -A",
            seen=" ".join(sorted(said)),
        )
        for name, app, port in (
            ("backendflask", "backendflask", 5000),
            ("frontend-lb", "frontend", PORT),
            ("frontend-node", "frontend", PORT),
        ):
            lesson.check(
                f"{name}: the pods labelled {app}",
                expected=shown((f"{pod.ip}:{port}",) for pod in lesson.lab.pods(f"app={app}")),
                seen=shown((one,) for one in said[name].split(",")),
            )


def described(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl describe service backendflask"):
        lesson.quote(
            "When looking at the ClusterIP service with kubectl describe service backendflask the IP address "
            "of the service to exposes, as well as the listed endpoints that connect to the "
            "database-deployments are shown. One can compare them to the IPs of the actual deployments - "
            "they are the same."
        )
        facts = admin.facts("describe service backendflask")
        pods = admin.rows("get pods -l app=backendflask -o wide")
        lesson.check(
            "its endpoints are the addresses of the pods",
            expected=shown((f"{row['IP']}:5000",) for row in pods),
            seen=shown((one,) for one in facts["Endpoints"].split(",")),
        )
        with lesson.watch() as seen:
            name = "$DB_SERVICE" if lesson.lab.config.dns != "none" else f"{facts['IP']}:5001"
            ask = f"{CURL} --local-port 40021 http://{name}/data"
            said = admin.kubectl(f"exec deploy/frontend -- sh -c '{ask}'")
        lesson.check_says("a frontend pod asks for the data, and has it", "China", seen=said)
        connection = seen.by(40021)
        lesson.packets(connection)
        asker = next(p for p in lesson.lab.pods("app=frontend") if str(p.ip) == connection.asked.src.address)
        lesson.flows(seen, asker.node, "backendflask")
        lesson.check(
            "the address that it asked is the IP that describe shows",
            expected=f"{facts['IP']}:5001",
            seen=str(connection.asked.dst),
        )
        lesson.check_that(
            "and what answered is one of the Endpoints",
            str(connection.served.dst) in facts["Endpoints"].split(","),
            expected=facts["Endpoints"],
            seen=connection.served.dst,
        )


def the_telephone_book(lesson: Lesson, admin: Administrator) -> None:
    with lesson.step("kubectl get service -n kube-system, describe svc kube-dns"):
        lesson.quote("When querying services, it necessary to specify the corresponding namespace.")
        without = {row["NAME"] for row in admin.rows("get service")}
        found = {row["NAME"]: row for row in admin.rows(f"get service -n {SYSTEM}")}
        lesson.check(
            "kube-dns is there with -n kube-system, and only so",
            expected="without: False, with: True",
            seen=f"without: {'kube-dns' in without}, with: {'kube-dns' in found}",
        )
        if lesson.lab.config.dns == "none":
            return
        lesson.quote(
            "Having a closer look using kubectl describe svc <name>, the core-dns service has only one "
            "endpoint."
        )
        wanted = "'^(Name|Selector|IP|Port|Endpoints):'"
        said = admin.kubectl(f"describe svc kube-dns -n {SYSTEM} | grep -E {wanted}")
        endpoints = [line.split()[1] for line in said.splitlines() if line.startswith("Endpoints:")]
        rows = admin.rows(f"get pods -n {SYSTEM} -l k8s-app=kube-dns -o wide")
        lesson.check(
            "one endpoint for each of its three ports: the one DNS pod",
            expected=" ".join(f"{rows[0]['IP']}:{port}" for port in (53, 53, 9153)),
            seen=" ".join(endpoints),
        )
        lesson.say("The Service of CoreDNS is called kube-dns, here and in minikube, as its predecessor was.")


def inside_a_pod(lesson: Lesson, admin: Administrator) -> None:
    if lesson.lab.config.dns == "none":
        return
    with lesson.step("In a pod: /etc/resolv.conf and nslookup"):
        lesson.quote(
            "If you want to have an even closer look, you can dive into a pod itself and check the file "
            "/etc/resolv.conf. There you find a nameserver"
        )
        said = admin.kubectl("exec deploy/frontend -- cat /etc/resolv.conf")
        server = lesson.lab.client.get("Service", "kube-dns", SYSTEM)["spec"]["clusterIP"]
        lesson.check_says("the nameserver is the Service kube-dns", f"nameserver {server}", seen=said)
        with lesson.watch() as seen:
            said = admin.kubectl("exec deploy/frontend -- nslookup backendflask")
        address = lesson.lab.client.get("Service", "backendflask")["spec"]["clusterIP"]
        lesson.check_says("a Service's name leads to its address", f"Address: {address}", seen=said)
        connection = seen.to(server, 53)
        lesson.packets(connection)
        (pod,) = lesson.lab.pods("k8s-app=kube-dns", SYSTEM)
        lesson.check("the DNS pod was asked", expected=f"{pod.ip}:53", seen=str(connection.served.dst))
        lesson.quote("Command for querying the dns: nslookup <podname>.")
        name = lesson.lab.pods("app=backendflask")[0].pod
        said = admin.kubectl(f"exec deploy/frontend -- nslookup {name}")
        lesson.check_says("a pod's name leads nowhere", "NXDOMAIN", seen=said)
        lesson.say(
            "Here the book is wrong, for every cluster: names are for Services. A pod has one only by a "
            "headless Service (lesson headless), or by its address, with dashes (lesson discovery)."
        )


def shown(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows in the order of the alphabet, to be compared and read."""
    return ", ".join(sorted(" ".join(row) for row in rows))


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
