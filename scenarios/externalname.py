"""ExternalName: a Service that is another name, and nothing on any wire.

No address, no endpoints, no flows: what the object promises and what it does not, what DNS makes of it, and
the reason to have it: the day the thing moves into the cluster, the Service changes and nobody who uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.lesson import Lesson

NODES = 2
NAME = "api.example.com"
"""A host outside of the cluster, which serves HTTP."""
CURL = "curl -sS --max-time 5"


def tell(lesson: Lesson) -> None:
    """What it is, what it is not, what is refused, and the day everything moves."""
    a_name(lesson)
    nothing_else(lesson)
    the_name_in_dns(lesson)
    what_is_refused(lesson)
    it_moves_in(lesson)
    it_moves_out(lesson)


def a_name(lesson: Lesson) -> None:
    from scenarios.objects import pod
    from topo import sandbox

    with lesson.step("A Service that is a name for another name"):
        lesson.say(
            f"Somebody else runs an API that we need, as {NAME}. Inside the cluster everybody is to call it "
            "`partner`. That is all that this object says."
        )
        lesson.apply(external_name("partner", NAME), pod("web", "node2", "partner"), pod("asker", "node1"))
        said = lesson.lab_command(f"get svc partner --lab {sandbox.name()}")
        row = said.splitlines()[-1].split()
        lesson.check(
            "it has no address of the cluster's, only that name",
            expected=f"ExternalName <none> {NAME}",
            seen=" ".join(row[1:4]),
        )


def nothing_else(lesson: Lesson) -> None:
    with lesson.step("What it does not have"):
        spec = get(lesson)["spec"]
        lesson.check("no ClusterIP", expected=None, seen=spec.get("clusterIP"))
        lesson.check("no endpoints", expected=0, seen=len(slices(lesson)))
        lesson.check("no flow in any switch", expected=0, seen=flows_of(lesson))
        variables = lesson.run(
            lesson.lab.pod("asker"), "sh -c 'env | grep ^PARTNER_ || echo none'"
        ).stdout.strip()
        lesson.check(
            "no variables in the environment of pods that are younger", expected="none", seen=variables
        )
        lesson.say(
            "So no kube-proxy takes part, ports mean nothing, and nothing is translated. Whoever follows the "
            "name talks to the address that it leads to, directly. A server that looks at names (HTTP's "
            "Host, TLS) is asked for `partner`, which it may not know."
        )


def the_name_in_dns(lesson: Lesson) -> None:
    """A CNAME, and the way on to a host outside."""
    with lesson.step("Where the name is answered"):
        lesson.say(f"The cluster's DNS answers partner.default.svc.cluster.local with a CNAME: {NAME}.")
        spec = get(lesson)["spec"]
        lesson.check("the object has no more to tell", expected=NAME, seen=spec["externalName"])
        if not lesson.names_resolve():
            return
        answer = dig(lesson)
        lesson.check_says("DNS says so", f"CNAME {NAME}.", seen=answer)
        with lesson.watch() as seen:
            page = lesson.run(lesson.lab.pod("asker"), f"{CURL} http://partner/")
        lesson.check_says("by that name the host outside answers", "Example Domain", seen=page.stdout)
        connection = next(one for one in seen.connections if one.asked.dst.port == 80)
        lesson.packets(connection)
        lesson.check(
            "its address was asked for, and never translated",
            expected=str(connection.asked.dst),
            seen=str(connection.served.dst),
        )
        lesson.check(
            "it sees the pod's node, as with everything that leaves the cluster",
            expected=str(lesson.lab.node(1).ip),
            seen=connection.served.src.address,
        )


def what_is_refused(lesson: Lesson) -> None:
    with lesson.step("What is no name"):
        said = lesson.refused(external_name("nothing", ""))
        lesson.check_says("no name at all is refused", "spec.externalName: Required value", seen=said)
        said = lesson.refused(external_name("wrong", "Not_A_Name"))
        lesson.check_says("a name that DNS could not have is refused", "RFC 1123 subdomain", seen=said)
        (made,) = lesson.apply(external_name("trap", "198.51.100.11"))
        lesson.check(
            "an address passes for a name of four labels, and leads nowhere",
            expected="198.51.100.11",
            seen=made["spec"]["externalName"],
        )
        lesson.say(
            "For an address outside of the cluster write an EndpointSlice by hand: see lesson headless."
        )


def it_moves_in(lesson: Lesson) -> None:
    from ipaddress import IPv4Address

    from controller.api.wiring import SERVICE_NET

    with lesson.step("It moves in"):
        lesson.say(
            "The same Service becomes a ClusterIP. Its name is what it was; nobody's manifest changes."
        )
        port = {"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"}
        inside = {"type": "ClusterIP", "externalName": None, "selector": {"app": "partner"}, "ports": [port]}
        lesson.patch("Service", "partner", {"spec": inside})
        address = get(lesson)["spec"].get("clusterIP")
        lesson.check_that(
            "now it has an address",
            bool(address) and IPv4Address(address) in SERVICE_NET,
            expected="one of 10.96.0.0/12",
            seen=address,
        )
        lesson.check("and an endpoint", expected=1, seen=len(slices(lesson)))
        with lesson.watch() as seen:
            done = lesson.run(lesson.lab.pod("asker"), f"{CURL} --local-port 40001 http://{address}/hostname")
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "partner")
        lesson.check("the pod in the cluster answers", expected="web", seen=done.stdout)
        if lesson.names_resolve():
            lesson.check_says("and the name leads to it now", f" {address}", seen=dig(lesson))


def it_moves_out(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("And out again"):
        old = get(lesson)["spec"]["clusterIP"]
        outside = {"type": "ExternalName", "externalName": NAME, "selector": None, "ports": None}
        lesson.patch("Service", "partner", {"spec": outside})
        lesson.check("the address is given back", expected=None, seen=get(lesson)["spec"].get("clusterIP"))
        lesson.check("the flows are gone", expected=0, seen=flows_of(lesson))
        lesson.check(
            "its slice is left behind, as in Kubernetes: without selector no controller minds it, and no "
            "switch heeds it",
            expected=1,
            seen=len(slices(lesson)),
        )
        with lesson.watch() as seen:
            answer = ask(lesson.lab.pod("asker"), old, 80, source_port=40002, timeout=0.4)
        lesson.packets(seen.by(40002))
        lesson.check("who kept the address talks to nobody", expected="dropped", seen=answer.fate)


def dig(lesson: Lesson) -> str:
    """What DNS says of partner, in one line."""
    command = "dig +noall +answer partner.default.svc.cluster.local A"
    return " ".join(lesson.run(lesson.lab.pod("asker"), command).stdout.split())


def external_name(name: str, target: str) -> Obj:
    spec = {"type": "ExternalName", "externalName": target}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def get(lesson: Lesson) -> Any:
    return lesson.lab.client.get("Service", "partner")


def slices(lesson: Lesson) -> list[Any]:
    """Endpoints in partner's EndpointSlices."""
    found = lesson.lab.client.list("EndpointSlice", "default", labels="kubernetes.io/service-name=partner")[0]
    return [endpoint for one in found for endpoint in one.get("endpoints") or ()]


def flows_of(lesson: Lesson) -> int:
    """How many flows all switches have for partner."""
    from scenarios import flows

    found = flows.read(lesson.lab.client, [node.name for node in lesson.lab.plan.nodes])
    return sum(flow.concerns("default", "partner") for rows in found.values() for flow in rows)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
