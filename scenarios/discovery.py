"""Service discovery: a name for every Service, and who keeps the telephone book.

The lesson of section 5.3.2 of the book, sentence by sentence: the registry and its one endpoint, the
nameserver in a pod's resolv.conf, namespaces, what nslookup says, and what a name costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.lesson import Lesson
    from scenarios.probes.dns_ask import Walk

NODES = 2
DNS = "10.96.0.10"
SYSTEM = "kube-system"
CURL = "curl -sS --max-time 5"
BACKEND = "backendflask"
WHOLE = f"{BACKEND}.default.svc.cluster.local"


def tell(lesson: Lesson) -> None:
    """The whole section, in the order of the book."""
    if not stable(lesson):
        return
    telephone_book(lesson)
    registered(lesson)
    who_keeps_it(lesson)
    nameserver_of_a_pod(lesson)
    other_namespaces(lesson)
    names_of_pods(lesson)
    what_it_costs(lesson)


def stable(lesson: Lesson) -> bool:
    with lesson.step("Not the address of a pod"):
        lesson.quote(
            "If a client wants to communicate with the application, it should not use the IP of an "
            "individual Pod. Instead, we should rely on services as they have a stable IP address."
        )
        lesson.apply("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
        asker, before = frontend(lesson), pods_of_backend(lesson)
        address, victim = service(lesson)["spec"]["clusterIP"], min(before)
        lesson.delete("Pod", victim, grace=0)
        after = pods_of_backend(lesson)
        lesson.table(
            ("", "pods", "Service"),
            [
                ("before", " ".join(sorted(before.values())), address),
                ("after", " ".join(sorted(after.values())), service(lesson)["spec"]["clusterIP"]),
            ],
        )
        gone = lesson.run(asker, f"curl -sS --max-time 0.5 http://{before[victim]}:5000/data")
        lesson.check_that(
            "who kept the address of the pod that died talks to nobody",
            gone.returncode != 0,
            expected="curl fails",
            seen=gone.stderr,
        )
        lesson.check_that(
            "its successor has another address",
            before[victim] not in after.values() and len(after) == len(before),
            expected=f"not {before[victim]}",
            seen=" ".join(sorted(after.values())),
        )
        answer = lesson.run(asker, f"{CURL} http://{address}:5001/data")
        lesson.check_says("the Service's address is what it was, and answers", '"China"', seen=answer.stdout)
        return lesson.names_resolve()


def telephone_book(lesson: Lesson) -> None:
    with lesson.step("A name instead of a number"):
        lesson.quote(
            "Service Discovery is a mechanism that lets applications and microservices locate each other "
            "on a network."
        )
        asker = frontend(lesson)
        variable = lesson.run(asker, "printenv DB_SERVICE").stdout.strip()
        lesson.check("all that the frontend was told is a name", expected=f"{BACKEND}:5001", seen=variable)
        answer = lesson.run(asker, f"{CURL} http://{variable}/data")
        lesson.check_says("by it, it finds the backend", '"India"', seen=answer.stdout)
        lesson.quote(
            "A DNS translates a domain names to an IP address, just one lookes up a number in a telephone "
            "book, so it’s much easier to reference to a resource online."
        )
        lesson.check(
            "the name leads to the Service's address, not to a pod's",
            expected=service(lesson)["spec"]["clusterIP"],
            seen=dig(lesson, WHOLE),
        )


def registered(lesson: Lesson) -> None:
    from scenarios.objects import service as make

    with lesson.step("Every new Service is registered"):
        lesson.quote(
            "Whenever a service is created, it is registered in the service registry with the service name "
            "and the service IP."
        )
        name = "newcomer.default.svc.cluster.local"
        lesson.check("before, the name does not exist", expected="NXDOMAIN", seen=status(lesson, name))
        (made,) = lesson.apply(make("newcomer", BACKEND, port=5001, target=5000))
        lesson.check(
            "created, it has its Service's address",
            expected=lesson.lab.client.get("Service", made["metadata"]["name"])["spec"]["clusterIP"],
            seen=dig(lesson, name),
        )
        port = dig(lesson, f"_tcp._tcp.{name}", "SRV").split()[2:]
        lesson.check("its named port is there, too", expected=f"5001 {name}.", seen=" ".join(port))
        lesson.delete("Service", "newcomer")
        lesson.check("deleted, it is struck out", expected="NXDOMAIN", seen=status(lesson, name))


def who_keeps_it(lesson: Lesson) -> None:
    from topo import sandbox

    with lesson.step("CoreDNS, behind a Service like any other"):
        lesson.quote(
            "Most clusters use CoreDNS as a service registry (this would be the telephone book itself). When "
            "having a look at the minikube cluster one should see are core-dns service running."
        )
        lab = f"--lab {sandbox.name()}"
        said = lesson.lab_command(f"get pods -n {SYSTEM} {lab}")
        rows = [line.split() for line in said.splitlines() if line.startswith("coredns-")]
        lesson.check("one pod of it runs", expected=["Running"], seen=[row[2] for row in rows])
        lesson.quote("When querying services, it necessary to specify the corresponding namespace.")
        without = lesson.lab_command(f"get service {lab}")
        lesson.check_that(
            "without the namespace it is not listed",
            "kube-dns" not in without,
            expected="no kube-dns",
            seen=without,
        )
        said = lesson.lab_command(f"get service -n {SYSTEM} {lab}")
        row = next((line.split() for line in said.splitlines() if line.startswith("kube-dns")), [""] * 6)
        lesson.check(
            "with -n kube-system it is: kube-dns",
            expected=f"ClusterIP {DNS} 53/UDP,53/TCP,9153/TCP",
            seen=f"{row[1]} {row[2]} {row[4]}",
        )
        lesson.quote(
            "Having a closer look using kubectl describe svc <name>, the core-dns service has only one "
            "endpoint."
        )
        server = dns_pod(lesson)
        endpoints = lesson.lab.client.get("Endpoints", "kube-dns", SYSTEM)["subsets"]
        lesson.check(
            "its one endpoint is that pod",
            expected=[str(server.ip)],
            seen=sorted({a["ip"] for subset in endpoints for a in subset["addresses"]}),
        )


def nameserver_of_a_pod(lesson: Lesson) -> None:
    with lesson.step("What a pod knows of it"):
        lesson.quote(
            "If you want to have an even closer look, you can dive into a pod itself and check the file "
            "/etc/resolv.conf. There you find a nameserver"
        )
        asker = frontend(lesson)
        text = lesson.run(asker, "cat /etc/resolv.conf").stdout
        lines = dict(line.partition(" ")[::2] for line in text.splitlines())
        lesson.check("the nameserver is the Service kube-dns", expected=DNS, seen=lines.get("nameserver"))
        lesson.check(
            "and names are searched for in the pod's own namespace first",
            expected="default.svc.cluster.local svc.cluster.local cluster.local",
            seen=lines.get("search"),
        )
        with lesson.watch() as seen:
            done = lesson.run(asker, f"nslookup {BACKEND}")
        address = service(lesson)["spec"]["clusterIP"]
        lesson.check_says("so the short name is enough", f"Address: {address}", seen=done.stdout)
        connection = seen.to(DNS, 53)
        lesson.packets(connection)
        lesson.flows(seen, asker.node, f"{SYSTEM}/kube-dns")
        lesson.check(
            "the question was translated to the DNS pod, like anything that is sent to a Service",
            expected=f"{dns_pod(lesson).ip}:53",
            seen=str(connection.served.dst),
        )
        lesson.check(
            "and the answer seems to come from the nameserver that was asked",
            expected=f"{DNS}:53",
            seen=str(connection.reply.hops[-1].src),
        )


def other_namespaces(lesson: Lesson) -> None:
    from scenarios.objects import pod

    with lesson.step("From another namespace"):
        lesson.say("A short name means a Service of one's own namespace. `visitor` lives in `shop`.")
        visitor = pod("visitor", "node2")
        visitor["metadata"]["namespace"] = "shop"
        lesson.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, visitor)
        asker = lesson.lab.pod("visitor", "shop")
        address = service(lesson)["spec"]["clusterIP"]
        forms = (BACKEND, f"{BACKEND}.default", f"{BACKEND}.default.svc", WHOLE, f"{WHOLE}.")
        found = {}
        for form in forms:
            lines = asker.run(["getent", "ahostsv4", form]).stdout.split()
            found[form] = lines[0] if lines else "not found"
        lesson.table(("name, asked for in namespace shop", "leads to"), list(found.items()))
        lesson.check("the bare name means nothing there", expected="not found", seen=found[BACKEND])
        for form in forms[1:]:
            lesson.check(f"{form} works from everywhere", expected=address, seen=found[form])
        answer = lesson.run(asker, f"{CURL} http://{BACKEND}.default:5001/data")
        lesson.check_says("and by such a name the backend is reached", '"China"', seen=answer.stdout)


def names_of_pods(lesson: Lesson) -> None:
    from scenarios.objects import pod
    from scenarios.objects import service as make

    with lesson.step("nslookup <podname>"):
        lesson.quote("Yet, each pod has also an individual DNS (Domain Name System).")
        asker, name = frontend(lesson), min(pods_of_backend(lesson))
        address = pods_of_backend(lesson)[name]
        done = lesson.run(asker, f"nslookup {name}")
        lesson.check_says("the book's command finds nothing", "NXDOMAIN", seen=done.stdout)
        lesson.say(
            "Nor does it in a real cluster: a pod's name is no name in DNS. What a pod has is its address "
            "with dashes; and a name of its own where it asks for one, by hostname and subdomain, and a "
            "headless Service is called like the subdomain."
        )
        dashed = f"{address.replace('.', '-')}.default.pod.cluster.local"
        lesson.check("its address with dashes leads to itself", expected=address, seen=dig(lesson, dashed))
        lesson.apply(
            pod("db", "node2", hostname="primary", subdomain="database"),
            make("database", "db", clusterIP="None"),
        )
        full = "primary.database.default.svc.cluster.local"
        own = str(lesson.lab.pod("db").ip)
        lesson.check("hostname and subdomain make a name", expected=own, seen=dig(lesson, full))
        pointer = lesson.run(asker, f"dig +short -x {own}").stdout.strip()
        lesson.check("which is found by the address, too", expected=f"{full}.", seen=pointer)


def what_it_costs(lesson: Lesson) -> None:
    with lesson.step("What a name costs"):
        lesson.say(
            "ndots:5 in resolv.conf: whatever has fewer than five dots is searched for in every domain of "
            "the list before it is asked for as it is, each time for IPv4 and for IPv6."
        )
        with lesson.watch() as seen:
            searched = walked(lesson, "www.example.com")
        lesson.table(("question", "type", "answer"), [(a.name, a.type, a.says) for a in searched.answers])
        packets = [j for c in seen.connections if c.asked.src.port in searched.ports() for j in c.journeys]
        lesson.check("www.example.com: questions", expected=8, seen=searched.questions)
        lesson.check("each one is two packets on the wires", expected=16, seen=len(packets))
        lesson.check(
            "six of them in vain",
            expected=6,
            seen=sum(answer.rcode == "NXDOMAIN" for answer in searched.answers),
        )
        dotted = walked(lesson, "www.example.com.")
        lesson.check("with a dot at its end", expected=2, seen=dotted.questions)
        lesson.check("and both lead to the same", expected=searched.addresses, seen=dotted.addresses)
        whole, short = walked(lesson, WHOLE), walked(lesson, BACKEND)
        lesson.check("a Service by its short name", expected=2, seen=short.questions)
        lesson.check("by its whole name, without a dot", expected=8, seen=whole.questions)


def walked(lesson: Lesson, name: str) -> Walk:
    """A name from the frontend's pod, as its own resolver would ask for it."""
    from scenarios.probes.dns_ask import Asker, walk
    from topo.images.resolver import ResolvConf

    asker = frontend(lesson)
    conf = ResolvConf.parse(asker.run(["cat", "/etc/resolv.conf"]).stdout)
    return walk(name, conf, Asker(make_socket=lambda kind: asker.socket(kind=kind), servers=conf.nameservers))


def frontend(lesson: Lesson) -> Any:
    """A pod that asks: one that is not on the node of the DNS pod, if there is one."""
    pods = lesson.lab.pods("app=frontend")
    return next((pod for pod in pods if pod.node != "node1"), pods[0])


def pods_of_backend(lesson: Lesson) -> dict[str, str]:
    """Addresses by name."""
    return {pod.name: str(pod.ip) for pod in lesson.lab.pods(f"app={BACKEND}")}


def dns_pod(lesson: Lesson) -> Any:
    return lesson.lab.pods("k8s-app=kube-dns", SYSTEM)[0]


def service(lesson: Lesson) -> Obj:
    found: Obj = lesson.lab.client.get("Service", BACKEND)
    return found


def dig(lesson: Lesson, name: str, type: str = "A") -> str:
    """What a whole name leads to."""
    return str(lesson.run(frontend(lesson), f"dig +short {name} {type}").stdout.strip())


def status(lesson: Lesson, name: str) -> str:
    """NOERROR or NXDOMAIN, as dig says it."""
    text = lesson.run(frontend(lesson), f"dig +noall +comments {name} A").stdout
    return next(
        (line.split("status: ")[1].split(",")[0] for line in text.splitlines() if "status:" in line), text
    )


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
