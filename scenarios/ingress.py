"""Ingress: one address and many Services, chosen by host and path.

The book's wish, "one ingress and multiple services", with a real nginx as ingress controller behind one
LoadBalancer: what an Ingress says, what nginx does with it, and what is to be seen of both on the wires.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen
    from topo.hosts import Pod

NODES = 3
NAMESPACE, CONTROLLER = "ingress-nginx", "ingress-nginx-controller"
SHOP, BLOG = "shop.example.com", "me.blog.example.com"
BACKENDS = (("shop", "node2"), ("shop", "node3"), ("cart", "node3"), ("pay", "node1"), ("blog", "node2"))
SERVICES = ("shop", "cart", "pay", "blog")
PROBE = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
MANY = 12
EVIL = "/x {\n} server { listen 8080; return 200 owned;"


def prepare() -> None:
    """nginx is installed by ``./lab`` for this lesson alone."""
    from controller.api.errors import MachineError
    from topo.images.ingress_nginx import MISSING, nginx_program

    if nginx_program() is None:
        raise MachineError(MISSING)


def tell(lesson: Lesson) -> None:
    """The whole lesson."""
    one_address_each(lesson)
    the_controller(lesson)
    by_host_and_path(lesson)
    two_connections(lesson)
    requests_not_connections(lesson)
    exact_and_prefix(lesson)
    a_rule_more(lesson)
    who_is_ready(lesson)
    wrong_ones(lesson)


def one_address_each(lesson: Lesson) -> None:
    from scenarios.objects import service

    with lesson.step("A LoadBalancer for each Service"):
        lesson.quote(
            "Loadbalancers are a standard way of exposing applications to the extern, for example the "
            "internet."
        )
        lesson.lab.start_cloud()
        lesson.apply(*pods(), *(service(name, type="LoadBalancer") for name in SERVICES))
        held = {name: external(lesson, name) for name in SERVICES}
        lesson.table(("Service", "external address"), list(held.items()))
        lesson.check("four Services take four addresses", expected=4, seen=len(set(held.values())))
        lesson.say(
            "Each of them is a balancer to be paid, a name in DNS, a certificate. And none of them knows "
            "what HTTP is: it cannot tell /cart from /, nor one host name from another."
        )
        lesson.delete("Service", *SERVICES)
        lesson.apply(*(service(name) for name in SERVICES))
        lesson.check(
            "as ClusterIPs they can be reached from inside only",
            expected="<none> <none> <none> <none>",
            seen=" ".join(external(lesson, name) for name in SERVICES),
        )


def the_controller(lesson: Lesson) -> None:
    with lesson.step("An ingress controller: nginx in a pod"):
        lesson.quote(
            "However, only having one service specified per port is also a disadvantage. Having one ingress "
            "and multiple services is more desireable."
        )
        lesson.say(
            "Kubernetes itself does nothing with an Ingress: an ingress controller does, and somebody has to "
            "install it. This one is a program that reads Ingresses by the API and writes a configuration, "
            "and the nginx that it starts beside itself."
        )
        lesson.apply("ingress-nginx.yaml")
        lesson.until(lambda: bool(ready(lesson)), "the ingress controller is ready")
        lesson.lab.settle()
        pod = controller(lesson)
        cloud = lesson.lab.cloud
        assert cloud is not None
        address = IPv4Address(entrance(lesson))
        cloud.wait_for(lambda routes: routes[address] == (pod.node,))
        lesson.check_says("it is a real one", "nginx/", seen=lesson.run(pod, "nginx -v").stderr)
        lesson.check_that(
            "the one LoadBalancer of all is its Service's",
            entrance(lesson).startswith("203.0.113."),
            expected="one of 203.0.113.0/24",
            seen=entrance(lesson),
        )
        answer = lesson.run(lesson.lab.outside(), f"curl -sS -i --max-time 5 http://{entrance(lesson)}/")
        lesson.check_says("without an Ingress it knows nobody", "404 Not Found", seen=answer.stdout)


def by_host_and_path(lesson: Lesson) -> None:
    from topo import sandbox

    with lesson.step("An Ingress: rules by host and path"):
        lesson.apply("ingress.yaml")
        said = lesson.lab_command(f"get ingress --lab {sandbox.name()}")
        lesson.check_says("its address is the controller's", entrance(lesson), seen=said)
        lesson.say("client1 has no DNS for these names; --resolve says where they are.")
        for host, path, expected in (
            (SHOP, "/", "shop"),
            (SHOP, "/cart", "cart"),
            (SHOP, "/cart/checkout", "pay"),
            (BLOG, "/", "blog"),
        ):
            answer = lesson.run(lesson.lab.outside(), curl(lesson, host, path))
            lesson.check(f"{host}{path} is served by", expected=expected, seen=served_by(answer.stdout))
        lesson.say("For nginx the controller has written, among other things:")
        written = lesson.run(controller(lesson), "grep -A3 'upstream default_shop_80' /tmp/nginx/nginx.conf")
        lesson.check(
            "the shop's pods, by their own addresses and port",
            expected=[f"{address}:8080" for address in addresses(lesson, "shop")],
            seen=[line.split()[1] for line in written.stdout.splitlines() if "server" in line],
        )
        lesson.check(
            "one external address for all of it", expected=CONTROLLER, seen=" ".join(balanced(lesson))
        )


def two_connections(lesson: Lesson) -> None:
    with lesson.step("One request is two TCP connections"):
        lesson.say(
            "A Service passes packets on; nginx reads the request to its end and asks anew. So the pod it "
            "asks sees another client: nginx."
        )
        client, pod = lesson.lab.outside(), controller(lesson)
        with lesson.watch() as seen:
            answer = lesson.run(client, curl(lesson, SHOP, "/", "--local-port 40051"))
        first, second = seen.to(entrance(lesson), 80, source_port=40051), asked_by(seen, pod)
        lesson.packets(first, "the client's connection, to the LoadBalancer's address")
        lesson.flows(seen, pod.node, f"{NAMESPACE}/{CONTROLLER}")
        lesson.check("it ends at nginx", expected=f"{pod.ip}:80", seen=str(first.served.dst))
        lesson.check(
            "who sees the client itself (externalTrafficPolicy Local)",
            expected=str(client.ip),
            seen=first.served.src.address,
        )
        lesson.packets(second, "nginx' own connection, to a pod")
        shops = addresses(lesson, "shop")
        lesson.check_that(
            "nginx asks a pod of Service shop by its own address",
            second.asked.dst.address in shops,
            expected=f"one of {', '.join(shops)}",
            seen=second.asked.dst,
        )
        lesson.check(
            "nothing translates it: nginx passes by the ClusterIP, and so does not balance twice",
            expected=0,
            seen=sum(map(len, second.opening.rewrites())),
        )
        told = json.loads(answer.stdout or "{}")
        lesson.check(
            "the pod sees nginx as its client",
            expected=str(pod.ip),
            seen=str(told.get("client", "")).rpartition(":")[0],
        )
        lesson.check_says(
            "who asked, it is told in the request", f"X-Forwarded-For: {client.ip}", seen=sent(second)
        )
        lesson.check_says("and what for", f"Host: {SHOP}", seen=sent(second))


def requests_not_connections(lesson: Lesson) -> None:
    with lesson.step("Layer 7: requests are chosen for, not connections"):
        lesson.say(
            "kube-proxy chooses once a connection, by addresses and ports. Here are two requests in one "
            "connection; no packet's header says what they ask for."
        )
        client = lesson.lab.outside()
        with lesson.watch() as seen:
            words = f"{curl(lesson, SHOP, '/')} http://{SHOP}/cart"
            answer = lesson.run(client, words.replace("curl ", "curl --local-port 40052 ", 1))
        found = [served_by(one + "}") for one in answer.stdout.split("}") if one.strip()]
        lesson.check("two Services answered", expected="shop cart", seen=" ".join(found))
        lesson.check(
            "in one connection of the client", expected=1, seen=len(seen.all_to(entrance(lesson), 80))
        )
        mine = [c for c in seen.connections if c.asked.src.address == str(controller(lesson).ip)]
        lesson.check("and two of nginx", expected=2, seen=len([c for c in mine if c.asked.dst.port == 8080]))


def exact_and_prefix(lesson: Lesson) -> None:
    with lesson.step("Exact and Prefix"):
        lesson.say(
            "Prefix goes by the elements of a path, not by its letters. The longest path wins, and Exact "
            "before Prefix. A host with a star stands for one label."
        )
        rows = (
            (SHOP, "/cart/", "cart"),
            (SHOP, "/cart/7", "cart"),
            (SHOP, "/cartoon", "shop"),
            (SHOP, "/cart/checkout", "pay"),
            (SHOP, "/cart/checkout/", "cart"),
            (BLOG, "/any", "blog"),
            ("a.b.blog.example.com", "/", "404"),
            ("blog.example.com", "/", "404"),
            ("other.example.com", "/", "404"),
        )
        found = [(host, path, ask(lesson, host, path)) for host, path, _ in rows]
        lesson.table(("host", "path", "served by"), found)
        for (host, path, expected), (_, _, seen) in zip(rows, found, strict=True):
            lesson.check(f"{host}{path}", expected=expected, seen=seen)


def a_rule_more(lesson: Lesson) -> None:
    with lesson.step("One Ingress more, while it runs"):
        lesson.say("Several Ingresses, of whoever, are one table; of two that want the same the older wins.")
        before, held, host = rules_of_all_nodes(lesson), balanced(lesson), "pay.example.com"
        lesson.check(f"{host}, before", expected="404", seen=ask(lesson, host, "/"))
        lesson.apply(ingress("pay", host, "/", "pay"))
        answer = lesson.run(lesson.lab.outside(), curl(lesson, host, "/"))
        lesson.check(f"{host} is served by", expected="pay", seen=served_by(answer.stdout))
        lesson.check("no LoadBalancer more", expected=" ".join(held), seen=" ".join(balanced(lesson)))
        lesson.check(
            f"and on no node's bridge one of {len(before)} flows more or less: nginx alone was told",
            expected=0,
            seen=len(before ^ rules_of_all_nodes(lesson)),
        )


def who_is_ready(lesson: Lesson) -> None:
    with lesson.step("nginx asks only who is ready"):
        lesson.say(
            "It follows the same EndpointSlices as kube-proxy. shop-1 fails its readiness probe from now on."
        )
        both = {ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check("before, both pods answer", expected="shop-1 shop-2", seen=" ".join(sorted(both)))
        turn(lesson, "shop-1", sick=True)
        left = {ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check(f"{MANY} requests reach only the other", expected="shop-2", seen=" ".join(sorted(left)))
        turn(lesson, "shop-2", sick=True)
        answer = lesson.run(lesson.lab.outside(), curl(lesson, SHOP, "/", "-i"))
        lesson.check_says(
            "nobody is ready: nginx says so, in HTTP",
            "503 Service Temporarily Unavailable",
            seen=answer.stdout,
        )
        lesson.check("the others are not concerned", expected="cart", seen=ask(lesson, SHOP, "/cart"))
        for name in ("shop-1", "shop-2"):
            turn(lesson, name, sick=False)
        both = {ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check("healed, both answer again", expected="shop-1 shop-2", seen=" ".join(sorted(both)))


def wrong_ones(lesson: Lesson) -> None:
    with lesson.step("An Ingress that is wrong"):
        lesson.say("Some the API server refuses; what a path may hold it leaves to the controller.")
        bad = ingress("bad", "bad.example.com", "cart", "cart")
        lesson.check_says(
            "a path that does not begin at the root", "must be an absolute path", seen=lesson.refused(bad)
        )
        lesson.apply(ingress("evil", "evil.example.com", EVIL, "cart", kind="ImplementationSpecific"))
        events, _ = lesson.lab.client.list("Event", "default")
        said = [one["message"] for one in events if one["involvedObject"]["name"] == "evil"]
        lesson.table(("event of Ingress evil",), [(text,) for text in said])
        lesson.check_says("one that is a piece of nginx' configuration", "is left out", seen=" ".join(said))
        lesson.check("what it would have added is not there", expected="refused", seen=port_8080(lesson))
        lesson.check("and nobody else suffers", expected="cart", seen=ask(lesson, SHOP, "/cart"))


# The objects.


def pods() -> list[Obj]:
    from scenarios.objects import pod

    counts: dict[str, int] = {}
    made = []
    for app, node in BACKENDS:
        counts[app] = counts.get(app, 0) + 1
        container = {"image": "podwire/echo", "args": [], "readinessProbe": PROBE}
        made.append(pod(f"{app}-{counts[app]}", node, app, container=container))
    return made


def rule(host: str, path: str, service: str, kind: str = "Prefix") -> Obj:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    return {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}


def ingress(name: str, host: str, path: str, service: str, *, kind: str = "Prefix") -> Obj:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "nginx", "rules": [rule(host, path, service, kind)]},
    }


# What there is.


def external(lesson: Lesson, name: str, namespace: str = "default") -> str:
    """The EXTERNAL-IP column of ``kubectl get service``."""
    from controller.api.cells import external_ip

    return external_ip(lesson.lab.client.get("Service", name, namespace))


def entrance(lesson: Lesson) -> str:
    """The address at which everything is asked for."""
    return external(lesson, CONTROLLER, NAMESPACE)


def balanced(lesson: Lesson) -> list[str]:
    """The Services that have an external address."""
    found = lesson.lab.client.list("Service")[0]
    return [one["metadata"]["name"] for one in found if one["spec"]["type"] == "LoadBalancer"]


def ready(lesson: Lesson) -> int:
    found = lesson.lab.client.get("Deployment", CONTROLLER, NAMESPACE)
    return int((found.get("status") or {}).get("readyReplicas") or 0)


def controller(lesson: Lesson) -> Pod:
    (pod,) = lesson.lab.pods("app.kubernetes.io/component=controller", NAMESPACE)
    return pod


def addresses(lesson: Lesson, app: str) -> list[str]:
    return sorted(str(pod.ip) for pod in lesson.lab.pods(f"app={app}"))


def rules_of_all_nodes(lesson: Lesson) -> set[tuple[str, ...]]:
    """Every flow of every bridge, without its counters."""
    from scenarios import flows

    names = [node.name for node in lesson.lab.plan.nodes]
    return {
        (node, flow.table, str(flow.priority), flow.match, flow.actions)
        for node, found in flows.read(lesson.lab.client, names).items()
        for flow in found
    }


# Asking.


def curl(lesson: Lesson, host: str, path: str, options: str = "") -> str:
    words = f"curl -sS --max-time 5 {options} --resolve {host}:80:{entrance(lesson)} http://{host}{path}"
    return " ".join(words.split())


def ask(lesson: Lesson, host: str, path: str, *, pod: bool = False) -> str:
    """Which Service (or pod) answers a request of client1, or nginx' status, without a word about it."""
    words = curl(lesson, host, path, "-w \\n%{http_code}").split()
    body, _, status = lesson.lab.outside().run(words).stdout.replace("\\n", "\n").rpartition("\n")
    if status != "200":
        return str(status)
    return str(json.loads(body)["pod"]) if pod else served_by(body)


def served_by(text: str) -> str:
    """The app of the pod that answered."""
    try:
        return str(json.loads(text)["pod"]).rpartition("-")[0]
    except (ValueError, KeyError):
        return text or "nobody"


def asked_by(seen: Seen, pod: Pod) -> Connection:
    """nginx' connection to a backend."""
    for connection in seen.connections:
        if connection.asked.src.address == str(pod.ip) and connection.asked.dst.port == 8080:
            return connection
    raise LookupError("no packet from nginx to a pod was seen on any link")


def sent(connection: Connection) -> str:
    """What the client wrote into a connection."""
    mine = [journey for journey in connection.journeys if not journey.reply and not journey.again]
    return b"".join(journey.hops[-1].payload for journey in mine).decode(errors="replace")


def turn(lesson: Lesson, name: str, *, sick: bool) -> None:
    """Make a pod fail its readiness probe, or heal it."""
    lesson.run(lesson.lab.pod(name), f"{'touch' if sick else 'rm'} /tmp/sick")
    wanted = "False" if sick else "True"

    def so(obj: Obj) -> bool:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return any(one["type"] == "Ready" and one["status"] == wanted for one in conditions)

    lesson.wait_for("Pod", name, so)


def port_8080(lesson: Lesson) -> str:
    from scenarios.asking import ask as connect

    return connect(lesson.lab.node(1), str(controller(lesson).ip), 8080).fate


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
