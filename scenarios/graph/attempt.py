"""Tries every edge in a running lab: from a pod of the workload, by name, over the wire.

A user like any other: it reads the API and runs a program (``dial``) in pods, as ``./lab exec`` does.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from controller.api.objects import Obj, controller_of, is_deleting, is_ready
from scenarios.graph import dial
from scenarios.graph.model import Edge, Graph, Id, Tried, Workload

_AT_ONCE = 4
_FINE = ("ok", "resolves", "sent")
_MAKES_NO_PODS = ("Job", "CronJob", "Ingress")


def attempt(graph: Graph, pods: Iterable[Obj], owners: Iterable[Obj], runtime: Any) -> dict[Edge, Tried]:
    """What came of each edge. ``owners``: the ReplicaSets between Deployments and pods."""
    found = _pods_of(pods, owners)
    edges: dict[Id, list[Edge]] = defaultdict(list)
    results: dict[Edge, Tried] = {}
    for edge in graph.edges:
        workload = graph.workload(edge.source)
        assert workload is not None
        reason = _why_not(graph, edge, workload, bool(found.get(edge.source)))
        if reason is None:
            edges[edge.source].append(edge)
        else:
            results[edge] = reason
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(_from_pod, graph, found[source], mine, runtime) for source, mine in edges.items()]
        for job in jobs:
            results.update(job.result())
    return results


def _why_not(graph: Graph, edge: Edge, workload: Workload, has_pod: bool) -> Tried | None:
    """Why an edge is not tried; a failure only where there ought to be somebody to try it."""
    if edge.target.startswith("outside "):
        return Tried(outcome="not tried: outside of the lab")
    if workload.kind in _MAKES_NO_PODS or workload.replicas == 0:
        return Tried(outcome=f"not tried: the lab runs no pod of this {workload.kind}")
    if not has_pod:
        return Tried(outcome="not tried: no pod of it runs", failed=True)
    return None


def _pods_of(pods: Iterable[Obj], owners: Iterable[Obj]) -> Mapping[Id, Obj]:
    """A running pod of each workload: a ready one if there is one, the first by name."""
    above = {_at(owner): owner for owner in owners}
    chosen: dict[Id, Obj] = {}
    running = [p for p in pods if (p.get("status") or {}).get("phase") == "Running" and not is_deleting(p)]
    for pod in sorted(running, key=lambda pod: (not is_ready(pod), pod["metadata"]["name"])):
        obj, namespace = pod, pod["metadata"]["namespace"]
        place = f"Pod {namespace}/{pod['metadata']['name']}"
        while (owner := controller_of(obj)) is not None:
            place = f"{owner['kind']} {namespace}/{owner['name']}"
            if place not in above:
                break
            obj = above[place]
        chosen.setdefault(place, pod)
    return chosen


def _at(obj: Obj) -> Id:
    return f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _from_pod(graph: Graph, pod: Obj, edges: list[Edge], runtime: Any) -> dict[Edge, Tried]:
    """All of one pod's edges by one program in it."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    asked = [(edge, host, _port(graph, edge)) for edge in edges for host in edge.hosts]
    targets = [[host, port, edge.protocol] for edge, host, port in asked]
    argv = ["/usr/bin/python3", "-I", "-c", Path(dial.__file__).read_text("utf-8"), json.dumps(targets)]
    try:
        done = runtime.run(name, argv, namespace=namespace, timeout=dial.SECONDS + 10)
        answers = json.loads(done.stdout) if done.returncode == 0 else None
        trouble = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        answers, trouble = None, str(error)
    if answers is None:
        failed = Tried(
            outcome=f"not tried: nothing can be run in pod {name}: {trouble}", pod=name, failed=True
        )
        return dict.fromkeys(edges, failed)
    tried: dict[Edge, Tried] = {}
    for (edge, host, port), answer in zip(asked, answers, strict=True):
        one = Tried(
            outcome=answer["outcome"],
            pod=name,
            host=host,
            port=port or None,
            address=answer.get("address", ""),
            name_ms=answer.get("name_ms"),
            ms=answer.get("ms"),
            failed=not answer["outcome"].startswith(_FINE),
        )
        if edge not in tried or (one.failed and not tried[edge].failed):
            tried[edge] = one  # of several hosts the first, unless another one fails
    return tried


def _port(graph: Graph, edge: Edge) -> int:
    """The edge's, else the Service's first, else none: then only the name is tried."""
    service = graph.service(edge.target)
    return edge.port or (service.ports[0].number if service and service.ports else 0)
