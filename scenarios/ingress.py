"""Ingress: one address and many Services, chosen by host and path.

The book's wish, "one ingress and multiple services", with a real nginx as ingress controller behind one
LoadBalancer: what an Ingress says, what nginx does with it, and what is to be seen of both on the wires.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.lesson import Lesson

NODES = 3
SHOP, BLOG = "shop.example.com", "me.blog.example.com"
SERVICES = ("shop", "cart", "pay", "blog")
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
    from scenarios import ingress_town as town
    from scenarios.objects import service

    with lesson.step("A LoadBalancer for each Service"):
        lesson.quote(
            "Loadbalancers are a standard way of exposing applications to the extern, for example the "
            "internet."
        )
        lesson.lab.start_cloud()
        lesson.apply(*town.pods(), *(service(name, type="LoadBalancer") for name in SERVICES))
        held = {name: town.external(lesson, name) for name in SERVICES}
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
            seen=" ".join(town.external(lesson, name) for name in SERVICES),
        )


def the_controller(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

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
        lesson.until(lambda: bool(town.ready(lesson)), "the ingress controller is ready")
        lesson.lab.settle()
        pod = town.controller(lesson)
        cloud = lesson.lab.cloud
        assert cloud is not None
        address = IPv4Address(town.entrance(lesson))
        cloud.wait_for(lambda routes: routes[address] == (pod.node,))
        lesson.check_says("it is a real one", "nginx/", seen=lesson.run(pod, "nginx -v").stderr)
        lesson.check_that(
            "the one LoadBalancer of all is its Service's",
            town.entrance(lesson).startswith("203.0.113."),
            expected="one of 203.0.113.0/24",
            seen=town.entrance(lesson),
        )
        answer = lesson.run(lesson.lab.outside(), f"curl -sS -i --max-time 5 http://{town.entrance(lesson)}/")
        lesson.check_says("without an Ingress it knows nobody", "404 Not Found", seen=answer.stdout)


def by_host_and_path(lesson: Lesson) -> None:
    from scenarios import ingress_town as town
    from topo import sandbox

    with lesson.step("An Ingress: rules by host and path"):
        lesson.apply("ingress.yaml")
        said = lesson.lab_command(f"get ingress --lab {sandbox.name()}")
        lesson.check_says("its address is the controller's", town.entrance(lesson), seen=said)
        lesson.say("client1 has no DNS for these names; --resolve says where they are.")
        for host, path, expected in (
            (SHOP, "/", "shop"),
            (SHOP, "/cart", "cart"),
            (SHOP, "/cart/checkout", "pay"),
            (BLOG, "/", "blog"),
        ):
            answer = lesson.run(lesson.lab.outside(), town.curl(lesson, host, path))
            lesson.check(f"{host}{path} is served by", expected=expected, seen=town.served_by(answer.stdout))
        lesson.say("For nginx the controller has written, among other things:")
        written = lesson.run(
            town.controller(lesson), "grep -A3 'upstream default_shop_80' /tmp/nginx/nginx.conf"
        )
        lesson.check(
            "the shop's pods, by their own addresses and port",
            expected=[f"{address}:8080" for address in town.addresses(lesson, "shop")],
            seen=[line.split()[1] for line in written.stdout.splitlines() if "server" in line],
        )
        lesson.check(
            "one external address for all of it",
            expected=town.CONTROLLER,
            seen=" ".join(town.balanced(lesson)),
        )


def two_connections(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

    with lesson.step("One request is two TCP connections"):
        lesson.say(
            "A Service passes packets on; nginx reads the request to its end and asks anew. So the pod it "
            "asks sees another client: nginx."
        )
        client, pod = lesson.lab.outside(), town.controller(lesson)
        with lesson.watch() as seen:
            answer = lesson.run(client, town.curl(lesson, SHOP, "/", "--local-port 40051"))
        first, second = seen.to(town.entrance(lesson), 80, source_port=40051), town.asked_by(seen, pod)
        lesson.packets(first, "the client's connection, to the LoadBalancer's address")
        lesson.flows(seen, pod.node, f"{town.NAMESPACE}/{town.CONTROLLER}")
        lesson.check("it ends at nginx", expected=f"{pod.ip}:80", seen=str(first.served.dst))
        lesson.check(
            "who sees the client itself (externalTrafficPolicy Local)",
            expected=str(client.ip),
            seen=first.served.src.address,
        )
        lesson.packets(second, "nginx' own connection, to a pod")
        shops = town.addresses(lesson, "shop")
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
            "who asked, it is told in the request", f"X-Forwarded-For: {client.ip}", seen=town.sent(second)
        )
        lesson.check_says("and what for", f"Host: {SHOP}", seen=town.sent(second))


def requests_not_connections(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

    with lesson.step("Layer 7: requests are chosen for, not connections"):
        lesson.say(
            "kube-proxy chooses once a connection, by addresses and ports. Here are two requests in one "
            "connection; no packet's header says what they ask for."
        )
        client = lesson.lab.outside()
        with lesson.watch() as seen:
            words = f"{town.curl(lesson, SHOP, '/')} http://{SHOP}/cart"
            answer = lesson.run(client, words.replace("curl ", "curl --local-port 40052 ", 1))
        found = [town.served_by(one + "}") for one in answer.stdout.split("}") if one.strip()]
        lesson.check("two Services answered", expected="shop cart", seen=" ".join(found))
        lesson.check(
            "in one connection of the client", expected=1, seen=len(seen.all_to(town.entrance(lesson), 80))
        )
        mine = [c for c in seen.connections if c.asked.src.address == str(town.controller(lesson).ip)]
        lesson.check("and two of nginx", expected=2, seen=len([c for c in mine if c.asked.dst.port == 8080]))


def exact_and_prefix(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

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
        found = [(host, path, town.ask(lesson, host, path)) for host, path, _ in rows]
        lesson.table(("host", "path", "served by"), found)
        for (host, path, expected), (_, _, seen) in zip(rows, found, strict=True):
            lesson.check(f"{host}{path}", expected=expected, seen=seen)


def a_rule_more(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

    with lesson.step("One Ingress more, while it runs"):
        lesson.say("Several Ingresses, of whoever, are one table; of two that want the same the older wins.")
        before, held, host = town.rules_of_all_nodes(lesson), town.balanced(lesson), "pay.example.com"
        lesson.check(f"{host}, before", expected="404", seen=town.ask(lesson, host, "/"))
        lesson.apply(town.ingress("pay", host, "/", "pay"))
        answer = lesson.run(lesson.lab.outside(), town.curl(lesson, host, "/"))
        lesson.check(f"{host} is served by", expected="pay", seen=town.served_by(answer.stdout))
        lesson.check("no LoadBalancer more", expected=" ".join(held), seen=" ".join(town.balanced(lesson)))
        lesson.check(
            f"and on no node's bridge one of {len(before)} flows more or less: nginx alone was told",
            expected=0,
            seen=len(before ^ town.rules_of_all_nodes(lesson)),
        )


def who_is_ready(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

    with lesson.step("nginx asks only who is ready"):
        lesson.say(
            "It follows the same EndpointSlices as kube-proxy. shop-1 fails its readiness probe from now on."
        )
        both = {town.ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check("before, both pods answer", expected="shop-1 shop-2", seen=" ".join(sorted(both)))
        town.turn(lesson, "shop-1", sick=True)
        left = {town.ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check(f"{MANY} requests reach only the other", expected="shop-2", seen=" ".join(sorted(left)))
        town.turn(lesson, "shop-2", sick=True)
        answer = lesson.run(lesson.lab.outside(), town.curl(lesson, SHOP, "/", "-i"))
        lesson.check_says(
            "nobody is ready: nginx says so, in HTTP",
            "503 Service Temporarily Unavailable",
            seen=answer.stdout,
        )
        lesson.check("the others are not concerned", expected="cart", seen=town.ask(lesson, SHOP, "/cart"))
        for name in ("shop-1", "shop-2"):
            town.turn(lesson, name, sick=False)
        both = {town.ask(lesson, SHOP, "/", pod=True) for _ in range(MANY)}
        lesson.check("healed, both answer again", expected="shop-1 shop-2", seen=" ".join(sorted(both)))


def wrong_ones(lesson: Lesson) -> None:
    from scenarios import ingress_town as town

    with lesson.step("An Ingress that is wrong"):
        lesson.say("Some the API server refuses; what a path may hold it leaves to the controller.")
        bad = town.ingress("bad", "bad.example.com", "cart", "cart")
        lesson.check_says(
            "a path that does not begin at the root", "must be an absolute path", seen=lesson.refused(bad)
        )
        lesson.apply(town.ingress("evil", "evil.example.com", EVIL, "cart", kind="ImplementationSpecific"))
        events, _ = lesson.lab.client.list("Event", "default")
        said = [one["message"] for one in events if one["involvedObject"]["name"] == "evil"]
        lesson.table(("event of Ingress evil",), [(text,) for text in said])
        lesson.check_says("one that is a piece of nginx' configuration", "is left out", seen=" ".join(said))
        lesson.check("what it would have added is not there", expected="refused", seen=town.port_8080(lesson))
        lesson.check("and nobody else suffers", expected="cart", seen=town.ask(lesson, SHOP, "/cart"))


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
