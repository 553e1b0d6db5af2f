"""Default Services: the API server is a Service too, and every pod can ask it.

The lesson of section 5.3.1.4 of the book: ``kubernetes`` and ``kube-dns``, there before anything else; whose
endpoint the first one has; and what a pod may read there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.lesson import Lesson

NODES = 2
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
URL = "https://$KUBERNETES_SERVICE_HOST"
CURL = "curl -sS -m 10 --cacert ca.crt"
TOKEN = '-H "Authorization: Bearer $(cat token)"'
STATUS = '-o /dev/null -w "%{http_code}"'


def tell(lesson: Lesson) -> None:
    """In the order of the book, then from a pod's point of view."""
    there_before_us(lesson)
    the_same_endpoint(lesson)
    all_endpoints(lesson)
    from_a_pod(lesson)
    whom_to_trust(lesson)
    what_a_pod_may(lesson)
    a_token_dies(lesson)
    kube_dns(lesson)
    it_moves(lesson)


def there_before_us(lesson: Lesson) -> None:
    with lesson.step("Two Services that nobody made"):
        lesson.quote(
            "There are also default K8s services created automatically to access K8s with the K8s API."
        )
        said = get(lesson, "svc") + "\n" + get(lesson, "svc -n kube-system")
        for name, address in (("kubernetes", "10.96.0.1"), ("kube-dns", "10.96.0.10")):
            row = next((line.split() for line in said.splitlines() if line.startswith(name)), [])
            lesson.check(
                f"{name} is there, a ClusterIP like any other",
                expected=f"ClusterIP {address}",
                seen=" ".join(row[1:3]),
            )


def the_same_endpoint(lesson: Lesson) -> None:
    with lesson.step("The endpoint of kubernetes, and the pod of the API server"):
        lesson.quote(
            "Check the endpoints of the kubernetes service and the endpoints of the api-service pod within "
            "kube-system namespace. They should be the same."
        )
        endpoint = get(lesson, "endpoints kubernetes").splitlines()[-1].split()[1]
        pods = get(lesson, "pods -n kube-system").splitlines()
        row = next((line.split() for line in pods if line.startswith("kube-apiserver")), [])
        lesson.check("they are the same", expected=f"{row[5]}:6443", seen=endpoint)
        lesson.check(
            "and both are the address of the node: the pod is in its network (hostNetwork)",
            expected=f"{lesson.lab.node(1).ip}:6443",
            seen=endpoint,
        )
        lesson.say(
            "The Service has no selector, so no controller looks for pods. The API server writes its own "
            "address there when it starts."
        )
        service = lesson.lab.client.get("Service", "kubernetes")
        lesson.check("no selector", expected=None, seen=service["spec"].get("selector"))


def all_endpoints(lesson: Lesson) -> None:
    with lesson.step("All endpoints of the cluster"):
        lesson.quote("It is also possible to show all endpoints of the cluster using kubectl get endpoints.")
        lesson.apply("services_backend-deployment.yaml", shell("shell", "node2"), shell("other", "node1"))
        said = get(lesson, "endpoints")
        found = {line.split()[0]: line.split()[1] for line in said.splitlines()[1:]}
        pods = sorted(f"{pod.ip}:5000" for pod in lesson.lab.pods("app=backendflask"))
        lesson.check("ours is beside it", expected=",".join(pods), seen=found.get("backendflask"))
        services = sorted(one["metadata"]["name"] for one in lesson.lab.client.list("Service", "default")[0])
        lesson.check("each Service has a line", expected=", ".join(services), seen=", ".join(sorted(found)))


def from_a_pod(lesson: Lesson) -> None:
    with lesson.step("A pod asks the API server"):
        lesson.say(
            "Every pod is told where it is (by its environment) and given what it needs: a token, a "
            "certificate to know the server by, and the name of its namespace."
        )
        pod = lesson.lab.pod("shell")
        told = lesson.run(pod, f"sh -c 'ls {ACCOUNT}; env | grep KUBERNETES_SERVICE_ | sort'").stdout
        lesson.check(
            "it has all three, and the Service's address",
            expected="ca.crt namespace token KUBERNETES_SERVICE_HOST=10.96.0.1",
            seen=" ".join(told.split()[:4]),
        )
        with lesson.watch() as seen:
            done = ask(lesson, "shell", f"{CURL} --local-port 40001 {TOKEN} {STATUS} {URL}/api/v1/services")
        connection = seen.to("10.96.0.1", 443, source_port=40001)
        lesson.packets(connection)
        lesson.flows(seen, pod.node, "kubernetes")
        lesson.check("it may list Services", expected="200", seen=done)
        lesson.check(
            "the switch led it to the API server as to any pod",
            expected=f"{lesson.lab.node(1).ip}:6443",
            seen=str(connection.served.dst),
        )
        lesson.check(
            "and the API server sees the pod itself",
            expected=f"{pod.ip}:40001",
            seen=str(connection.served.src),
        )


def whom_to_trust(lesson: Lesson) -> None:
    with lesson.step("Is it really the API server?"):
        pod = lesson.lab.pod("shell")
        done = lesson.run(pod, f"sh -c 'curl -sS -m 10 {URL}/version'")
        lesson.check(
            "without the cluster's certificate curl does not believe it (exit status 60)",
            expected=60,
            seen=done.returncode,
        )
        said = ask(lesson, "shell", f"{CURL} {URL}/version")
        lesson.check_says("with it, it does", '"gitVersion"', seen=said)
        lesson.say("The authority that signed it was made when this lab started, and dies with it.")


def what_a_pod_may(lesson: Lesson) -> None:
    with lesson.step("What a pod may ask"):
        list_secrets = f"{URL}/api/v1/namespaces/default/secrets"
        rows = []
        for what, options, expected in (
            ("Services, with its token", f"{TOKEN} {URL}/api/v1/services", "200"),
            (
                "EndpointSlices, with its token",
                f"{TOKEN} {URL}/apis/discovery.k8s.io/v1/endpointslices",
                "200",
            ),
            ("Services, without a token", f"{URL}/api/v1/services", "401"),
            ("Services, with a made-up token", f'-H "Authorization: Bearer me" {URL}/api/v1/services', "401"),
            ("Secrets, with its token", f"{TOKEN} {list_secrets}", "403"),
            ("to delete itself", f"{TOKEN} -X DELETE {URL}/api/v1/namespaces/default/pods/shell", "403"),
        ):
            code = ask(lesson, "shell", f"{CURL} {STATUS} {options}", quiet=True)
            rows.append((what, code))
            lesson.check(what, expected=expected, seen=code)
        lesson.table(("asked for", "answer"), rows)
        said: Any = json.loads(ask(lesson, "shell", f"{CURL} {TOKEN} {list_secrets}"))
        lesson.check(
            "a refusal is a Status object that names who wanted what",
            expected="Status system:serviceaccount:default:default",
            seen=f"{said['kind']} {said['message'].split(chr(34))[1]}",
        )


def a_token_dies(lesson: Lesson) -> None:
    with lesson.step("A token is one pod's, and dies with it"):
        stolen = lesson.lab.pod("other").run(f"cat {ACCOUNT}/token").stdout
        header = f'-H "Authorization: Bearer {stolen}"'
        before = ask(lesson, "shell", f"{CURL} {STATUS} {header} {URL}/api/v1/services", quiet=True)
        lesson.check("with the token of pod other, pod shell is let in", expected="200", seen=before)
        lesson.delete("Pod", "other", grace=0)
        after = ask(lesson, "shell", f"{CURL} {STATUS} {header} {URL}/api/v1/services", quiet=True)
        lesson.check("once that pod is gone its token is worth nothing", expected="401", seen=after)


def kube_dns(lesson: Lesson) -> None:
    with lesson.step("kube-dns: the address that every pod knows"):
        known = lesson.run(lesson.lab.pod("shell"), "cat /etc/resolv.conf").stdout
        service = lesson.lab.client.get("Service", "kube-dns", "kube-system")
        lesson.check_says(
            "it is every pod's name server", f"nameserver {service['spec']['clusterIP']}", seen=known
        )
        ports = sorted(f"{port['port']}/{port['protocol']}" for port in service["spec"]["ports"])
        lesson.check(
            "for names by UDP and TCP, and metrics", expected="53/TCP 53/UDP 9153/TCP", seen=" ".join(ports)
        )
        if not lesson.names_resolve():
            return
        with lesson.watch() as seen:
            found = lesson.run(lesson.lab.pod("shell"), "dig +short kubernetes.default.svc.cluster.local A")
        lesson.packets(seen.to(service["spec"]["clusterIP"], 53))
        lesson.check("it knows the other one by name", expected="10.96.0.1", seen=found.stdout.strip())


def it_moves(lesson: Lesson) -> None:
    with lesson.step("The API server moves, the Service stays"):
        old, new = lesson.lab.node(1).ip, lesson.lab.node(1).readdress()
        lesson.lab.settle()
        lesson.say(
            f"node1 has moved from {old} to {new}, and the API server with it. Connections that were open to "
            "the old address are dead; the DNS server's watch was one, and needed some seconds to notice. "
            "New ones find the way."
        )
        with lesson.watch() as seen:
            code = ask(lesson, "shell", f"{CURL} --local-port 40009 {TOKEN} {STATUS} {URL}/api/v1/services")
        connection = seen.to("10.96.0.1", 443, source_port=40009)
        lesson.packets(connection)
        lesson.check("the pod asks as before, and is answered", expected="200", seen=code)
        lesson.check("at the new address", expected=f"{new}:6443", seen=str(connection.served.dst))
        endpoint = get(lesson, "endpoints kubernetes").splitlines()[-1].split()[1]
        lesson.check("which is the Service's endpoint now", expected=f"{new}:6443", seen=endpoint)


def shell(name: str, node: str) -> Obj:
    """A pod with a shell and curl."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "shell", "image": "curlimages/curl"}]},
    }


def ask(lesson: Lesson, pod: str, command: str, *, quiet: bool = False) -> str:
    """What a command line in a pod's shell prints, beside its token (``quiet``: it is not shown)."""
    host, line = lesson.lab.pod(pod), f"cd {ACCOUNT}; {command}"
    done = host.run(line) if quiet else lesson.run(host, f"sh -c '{line}'")
    return done.stdout + done.stderr


def get(lesson: Lesson, what: str) -> str:
    """``./lab get``, as from a second terminal."""
    from topo import sandbox

    return lesson.lab_command(f"get {what} --lab {sandbox.name()}")


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
