"""Microservices: the book's application end to end, opened in a real browser from outside.

Section 5.3.1.5 of the book: a Streamlit frontend and a Flask database, two pods each, linked by a ClusterIP
and shown to the world by a LoadBalancer. Programs, names, packets and browser are real; `./lab` installs
them for this lesson. Without them light stand-ins answer curl, and the lesson says so.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.surfing import Browser
    from scenarios.watch import Seen
    from topo.hosts import Node, Pod

NODES = 2
MANIFESTS = ("services_backend-deployment.yaml", "services_frontend-deployment.yaml")
SERVICES = {"backendflask": "backendflask", "frontend-lb": "frontend", "frontend-node": "frontend"}
"""With the ``app`` label that each selects."""
DB_SERVICE = "backendflask:5001"
CURL = "curl -sS --max-time 20"
STREAM = b"GET /_stcore/stream"
DNS = "10.96.0.10"


def prepare() -> None:
    """The pods run the real programs, if they are installed and there is a browser to look at them."""
    from scenarios import surfing
    from topo.images import demo

    if surfing.present():
        demo.ask()


def real() -> bool:
    from topo.images import demo

    return demo.wanted()


def population() -> dict[str, str]:
    """What the database holds."""
    from topo.images.population import POPULATION

    return POPULATION


def tell(lesson: Lesson) -> None:
    """The whole lesson."""
    from controller.api.errors import UsageError

    if lesson.lab.config.dns == "none":
        raise UsageError("--dns none: the pods of this lesson find each other by name")
    two_deployments(lesson)
    described(lesson)
    if not real():
        without_a_browser(lesson)
        return
    from scenarios import surfing

    url = f"http://{external(lesson)}/"
    with surfing.browser(lesson.lab.outside(), url, [DB_SERVICE, *population().values()]) as browser:
        stream = the_page(lesson, browser, url)
        one_stream(lesson, browser, stream)
        a_pod_goes(lesson, browser, stream)


def two_deployments(lesson: Lesson) -> None:
    with lesson.step("Two Deployments and their Services"):
        lesson.quote("The following example show the deployment and linking of two different deployments.")
        lesson.lab.start_cloud()
        lesson.apply(*MANIFESTS)
        lesson.names_resolve()
        if not real():
            lesson.say(
                "Streamlit, Flask and Chromium are not installed (`./lab setup microservices`): light "
                "stand-ins serve the same page and the same data, and curl reads them."
            )
        for app, program in (("backendflask", "demo_backend"), ("frontend", "streamlit run")):
            for pod in pods(lesson, app) if real() else ():
                words = lesson.run(pod, "ps -o user,args -u nobody").stdout
                lesson.check_says(f"{pod.pod} is a real process in its own box", program, seen=words)
        lesson.say(
            "The manifests have no readinessProbe: a pod is Ready, and an endpoint, as soon as its process "
            "runs. Until Streamlit listens, its kernel refuses."
        )
        begun = time.monotonic()
        ports = {"backendflask": "5000/readiness", "frontend": "8501/_stcore/health"}
        for app, path in ports.items():
            for pod in pods(lesson, app):
                ask = ["curl", "-s", "--max-time", "2", "-o", "/dev/null", f"http://{pod.ip}:{path}"]
                listens = partial(answers, lesson.lab.node(pod.node), ask)
                lesson.until(listens, f"{pod.pod} listens", 60)
        lesson.say(f"All four listen; that took {time.monotonic() - begun:.1f} s more.")
        for app in ports:
            lesson.check(f"{app} has two pods", expected=2, seen=len(pods(lesson, app)))


def described(lesson: Lesson) -> None:
    with lesson.step("What kubectl describe service shows"):
        lesson.quote(
            "When looking at the ClusterIP service with kubectl describe service backendflask the IP address "
            "of the service to exposes, as well as the listed endpoints that connect to the "
            "database-deployments are shown. One can compare them to the IPs of the actual deployments - "
            "they are the same."
        )
        for name, app in SERVICES.items():
            facts = describe(lesson, name)
            service = lesson.lab.client.get("Service", name)
            port = service["spec"]["ports"][0]
            addresses = sorted(f"{pod.ip}:{port['targetPort']}" for pod in pods(lesson, app))
            lesson.check(
                f"the endpoints of {name} are the addresses of its pods",
                expected=", ".join(addresses),
                seen=", ".join(sorted(facts["Endpoints"].split(","))),
            )
            lesson.check(f"{name} has its ClusterIP", expected=service["spec"]["clusterIP"], seen=facts["IP"])
            if "nodePort" in port:
                lesson.check_says(
                    f"and its node port {port['nodePort']}", str(port["nodePort"]), seen=str(facts)
                )
        lesson.check_that(
            "frontend-lb has an external address, so no kubectl port-forward is needed",
            external(lesson).startswith("203.0.113."),
            expected="one of 203.0.113.0/24",
            seen=external(lesson),
        )


def the_page(lesson: Lesson, browser: Browser, url: str) -> Connection:
    """The page, and how its data came; returns the connection of its WebSocket."""
    with lesson.step("The page in a browser"):
        lesson.quote(
            "It also exposes an external IP via a Loadbalancer Service, so the streamlit app can be accesses "
            "via the browser and without the use of kubectl port-forward."
        )
        with lesson.watch() as seen:
            shown = browser.first()
        lesson.say(
            f"Chromium {shown['browser']}, headless, in client1's network as user {shown['uid']} "
            f"({'in' if shown['sandbox'] else 'without'} its own sandbox) opened {url}"
        )
        picture(lesson, shown)
        lesson.check("the browser is not root", expected=65534, seen=shown["uid"])
        lesson.check("the title of the page", expected="Frontend Deployment", seen=shown["title"])
        lesson.check_says("it shows DB_SERVICE", f"DB_SERVICE: {DB_SERVICE}", seen=shown["text"])
        table_is_right(lesson, shown)
        stream = stream_of(lesson, seen)
        lesson.packets(stream, "the page's WebSocket")
        entry = next(hop.link for hop in stream.opening.hops if hop.link.endswith("-uplink"))
        lesson.flows(seen, entry.removesuffix("-uplink"), "frontend-lb")
    with lesson.step("The data behind the page: by name, by ClusterIP"):
        lesson.quote("The frontend accesses the flask database using a ClusterIP Service.")
        cluster_ip = lesson.lab.client.get("Service", "backendflask")["spec"]["clusterIP"]
        asked = seen.to(cluster_ip, 5001)
        frontend = pod_of(lesson, stream.served.dst.address)
        query = next(one for one in seen.all_to(DNS, 53) if one.asked.src.address == asked.asked.src.address)
        lesson.packets(query, "the question for the name")
        lesson.check(
            "the pod that serves the page asked the cluster's DNS",
            expected=str(frontend.ip),
            seen=query.asked.src.address,
        )
        lesson.check_says("for the name in DB_SERVICE", "backendflask", seen=text_of(query))
        lesson.packets(asked, "the question for the data")
        lesson.flows(seen, frontend.node, "backendflask")
        lesson.check("then it asked the ClusterIP", expected=f"{cluster_ip}:5001", seen=str(asked.asked.dst))
        lesson.check_that(
            "and a pod of the database answered",
            asked.served.dst.address in {str(pod.ip) for pod in pods(lesson, "backendflask")},
            expected="a backendflask pod, port 5000",
            seen=asked.served.dst,
        )
    return stream


def one_stream(lesson: Lesson, browser: Browser, stream: Connection) -> None:
    from scenarios.many import connect

    with lesson.step("A WebSocket stays where it is"):
        home, address = pod_of(lesson, stream.served.dst.address), external(lesson)
        lesson.say(
            "Streamlit keeps a session in the pod, and one WebSocket open to it. Twice the page is run again "
            "(key r), while forty other connections are opened to the same address."
        )
        with lesson.watch() as seen:
            for first in (41000, 41020):
                connect(lesson.lab.outside(), address, 80, range(first, first + 20))
                shown = browser.asked("rerun")
        table_is_right(lesson, shown)
        others = {
            connection.served.dst.address
            for connection in seen.all_to(address, 80)
            if connection.asked.src.port in range(41000, 41040)
        }
        lesson.check("the other connections went to both pods", expected=2, seen=len(others))
        port = stream.asked.src.port
        links = {pod.link: pod.pod for pod in pods(lesson, "frontend")}
        carried = [p for p in seen.packets if p.link in links and port in (p.src.port, p.dst.port)]
        lesson.check_that(
            "the reruns crossed the wires", len(carried) > 4, expected="packets", seen=len(carried)
        )
        lesson.check(
            "every packet of the WebSocket was at the pod it began with: conntrack chose once",
            expected=home.pod,
            seen=", ".join(sorted({links[packet.link] for packet in carried})),
        )
        lesson.check("the page used no other WebSocket", expected=1, seen=len(shown["websockets"]))


def a_pod_goes(lesson: Lesson, browser: Browser, stream: Connection) -> None:
    with lesson.step("The pod goes, and the page finds another one"):
        lesson.quote(
            "The service can connect access to a pod via an interal reference, so a change of the Pods IP "
            "will not interfere with its accessibility."
        )
        gone, address = stream.served.dst.address, external(lesson)
        home = pod_of(lesson, gone)
        lesson.say(
            f"{home.pod} is deleted: Streamlit ends and closes the WebSocket. The page asks for "
            "/_stcore/health by the Service until somebody answers, opens another WebSocket and goes on "
            "showing what it showed; the session was in the pod and is gone. Somebody presses r."
        )
        with lesson.watch() as seen:
            begun = time.monotonic()
            browser.tell("return")
            lesson.lab.client.delete("Pod", home.pod, "default")
            shown = browser.says()
            took = time.monotonic() - begun
        lesson.say(f"The table was there again {took:.1f} s after the deletion.")
        picture(lesson, shown, "page-again.png")
        table_is_right(lesson, shown)
        first, *others = shown["websockets"]
        lesson.check("the first WebSocket has ended", expected=True, seen=first["closed"])
        lesson.check("the last one is open", expected=False, seen=others[-1]["closed"])
        again = stream_of(lesson, seen)
        lesson.packets(again, "the page's new WebSocket")
        lesson.check("it goes to the same external address", expected=address, seen=again.asked.dst.address)
        ends = {e.endpoint.rpartition(":")[0] for e in seen.remembered if e.client == str(again.asked.src)}
        lesson.check_that(
            "and ends, says conntrack, at another pod",
            bool(ends) and ends <= {str(pod.ip) for pod in pods(lesson, "frontend")} - {gone},
            expected=f"a frontend pod that is not {gone}",
            seen=", ".join(ends),
        )


def without_a_browser(lesson: Lesson) -> None:
    with lesson.step("The page, by curl"):
        address = external(lesson)
        with lesson.watch() as seen:
            page = lesson.run(lesson.lab.outside(), f"{CURL} --local-port 40001 http://{address}/").stdout
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, pod_of(lesson, connection.served.dst.address).node, "backendflask")
        lesson.check_says("it shows DB_SERVICE", DB_SERVICE, seen=page)
        for country, number in population().items():
            lesson.check_says(f"it shows {country}", number, seen=page)


def table_is_right(lesson: Lesson, shown: dict[str, Any]) -> None:
    rows = {row[-2]: row[-1] for row in shown["table"][1:]}
    lesson.table(("country", "population"), list(rows.items()))
    lesson.check("the table is the database's", expected=population(), seen=rows)


def picture(lesson: Lesson, shown: dict[str, Any], name: str = "page.png") -> None:
    """Keep the screenshot, if the user wants to keep things."""
    if lesson.out:
        lesson.out.path(name).write_bytes(shown["screenshot"])
        lesson.say(f"Screenshot: {lesson.out.wrote(name)}")


def stream_of(lesson: Lesson, seen: Seen) -> Connection:
    """The last connection on which the browser asked for Streamlit's WebSocket."""
    for connection in reversed(seen.all_to(external(lesson), 80)):
        if any(j.hops[0].payload.startswith(STREAM) for j in connection.journeys if not j.reply):
            return connection
    raise LookupError("no request for a WebSocket was seen on any link")


def text_of(connection: Connection) -> str:
    return str(connection.opening.hops[0].payload)


def describe(lesson: Lesson, service: str) -> dict[str, str]:
    """What `kubectl describe service` says, by its labels; from the real kubectl where there is one."""
    from pathlib import Path

    from controller.api.errors import MachineError
    from scenarios.administrator import Administrator

    try:
        administrator = Administrator(lesson, Path("/"))
    except MachineError as error:
        lesson.say(f"{error}. Its facts are taken from the API instead.")
        return {"IP": "", "Endpoints": ""} | from_api(lesson, service)
    return administrator.facts(f"describe service {service}")


def from_api(lesson: Lesson, service: str) -> dict[str, str]:
    client = lesson.lab.client
    spec = client.get("Service", service)["spec"]
    subsets = client.get("Endpoints", service).get("subsets", [])
    ends = [f"{a['ip']}:{s['ports'][0]['port']}" for s in subsets for a in s["addresses"]]
    return {"IP": spec["clusterIP"], "Endpoints": ",".join(ends), "ports": str(spec["ports"])}


def answers(node: Node, command: list[str]) -> bool:
    return not node.run(command).returncode


def external(lesson: Lesson) -> str:
    from controller.api.cells import external_ip

    return external_ip(lesson.lab.client.get("Service", "frontend-lb"))


def pods(lesson: Lesson, app: str) -> list[Pod]:
    return lesson.lab.pods(f"app={app}")


def pod_of(lesson: Lesson, address: str) -> Pod:
    return next(pod for pod in lesson.lab.pods() if str(pod.ip) == address)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
