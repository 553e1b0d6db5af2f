"""The town of the Ingress lesson: its pods, its rules, and asking for them by host and path.

What the lesson needs beside its sentences; nothing here says or checks anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.evidence import Connection
    from scenarios.lesson import Lesson
    from scenarios.watch import Seen
    from topo.hosts import Pod

NAMESPACE, CONTROLLER = "ingress-nginx", "ingress-nginx-controller"
BACKENDS = (("shop", "node2"), ("shop", "node3"), ("cart", "node3"), ("pay", "node1"), ("blog", "node2"))
PROBE = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}


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
