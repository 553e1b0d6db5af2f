"""The graph for eyes and machines: rows of text, Mermaid, Graphviz' dot, JSON. Pure.

One rule in all of them: a name stands without its namespace while there is only one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from scenarios.graph.model import Edge, Graph, Id, Service, Tried, Workload

Results = Mapping[Edge, Tried]


def short(graph: Graph) -> list[str]:
    """``frontend → backendflask:5001``, one line a workload."""
    names, lines = _Names(graph), []
    for workload in graph.workloads:
        targets = ", ".join(names.target(edge) for edge in graph.from_(workload.id))
        kind = " (Ingress)" if workload.kind == "Ingress" else ""
        lines += [f"{names.of(workload.id)}{kind} → {targets}"] if targets else []
    return lines


def text(graph: Graph, results: Results | None = None) -> str:
    """A block for each workload: what leads to it, whom it would talk to and why."""
    names, lines = _Names(graph), []
    rows = {edge: _row(graph, names, edge) for edge in graph.edges}
    widths = [max((len(row[at]) for row in rows.values()), default=0) for at in range(2)]
    for workload in graph.workloads:
        lines.append(_head(graph, names, workload))
        for edge in graph.from_(workload.id):
            cells = [cell.ljust(width) for cell, width in zip(rows[edge], widths, strict=False)]
            lines.append("  → " + "  ".join((*cells, rows[edge][2])).rstrip())
            if results is not None:
                lines.append(f"      {results[edge].text}")
    alone = [service for service in graph.services if not service.backends]
    lines += [f"{names.of(service.id)}  {_nobody(service)}" for service in alone]
    if graph.warnings:
        lines += ["", "Does not fit:"]
        lines += [f"  {_about(names, doubt.about)}: {doubt.text}" for doubt in graph.warnings]
    counts = (
        _count(len(graph.workloads), "workload"),
        _count(len(graph.services), "Service"),
        _count(len(graph.edges), "edge"),
        _count(len(graph.warnings), "warning"),
    )
    tried = [] if results is None else [_summary(results)]
    return "\n".join([*lines, "", ", ".join((*counts, *tried))]) + "\n"


def _summary(results: Results) -> str:
    failed = sum(one.failed for one in results.values())
    asked = [one for one in results.values() if one.failed or not one.outcome.startswith("not tried")]
    return f"{len(asked) - failed} of {len(asked)} tried edges work"


def mermaid(graph: Graph) -> str:
    """A flowchart that GitHub, GitLab and most editors draw."""
    names, lines = _Names(graph), ["flowchart LR"]
    ids = {id: f"n{at}" for at, id in enumerate(_all(graph))}
    for workload in graph.workloads:
        label = f"{names.of(workload.id)}<br/><small>{workload.kind}</small>"
        lines.append(f'  {ids[workload.id]}["{_safe(label)}"]')
    for service in graph.services:
        lines.append(f'  {ids[service.id]}(["{_safe(_service_label(names, service, "<br/>"))}"])')
    for host in graph.outside:
        lines.append(f'  {ids[_outside(host)]}{{{{"{_safe(host)}"}}}}')
    for edge in graph.edges:
        label = _safe("<br/>".join(dict.fromkeys(r.name or r.origin for r in edge.reasons)))
        arrow = "-.->" if edge.target.startswith("outside ") else "-->"
        lines.append(f'  {ids[edge.source]} {arrow}|"{label}"| {ids[edge.target]}')
    for service in graph.services:
        lines += [f"  {ids[service.id]} -.-> {ids[backend]}" for backend in service.backends]
        if service.outside:
            lines.append(f"  {ids[service.id]} -.-> {ids[_outside(service.outside)]}")
    doubtful = sorted({ids[doubt.about] for doubt in graph.warnings if doubt.about in ids})
    if doubtful:
        lines.append("  classDef doubt stroke:#c00,stroke-width:3px")
        lines.append(f"  class {','.join(doubtful)} doubt")
    return "\n".join(lines) + "\n"


def dot(graph: Graph) -> str:
    """For Graphviz: ``dot -Tsvg``."""
    names = _Names(graph)
    lines = ["digraph podwire {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    doubtful = {doubt.about for doubt in graph.warnings}

    def node(id: Id, label: str, shape: str) -> None:
        colour = ", color=red" if id in doubtful else ""
        lines.append(f"  {_quoted(id)} [label={_quoted(label)}, shape={shape}{colour}];")

    for workload in graph.workloads:
        node(workload.id, f"{names.of(workload.id)}\n{workload.kind}", "box")
    for service in graph.services:
        node(service.id, _service_label(names, service, "\n"), "oval")
    for host in graph.outside:
        node(_outside(host), host, "hexagon")
    for edge in graph.edges:
        label = "\n".join(dict.fromkeys(r.name or r.origin for r in edge.reasons))
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(label)}];")
    for service in graph.services:
        ends = [*service.backends, *([_outside(service.outside)] if service.outside else [])]
        lines += [f"  {_quoted(service.id)} -> {_quoted(end)} [style=dashed];" for end in ends]
    return "\n".join([*lines, "}"]) + "\n"


def as_json(graph: Graph, results: Results | None = None) -> str:
    """Everything, for a machine. ``tried`` is there when edges were."""
    edges: list[dict[str, Any]] = []
    for edge in graph.edges:
        made = {**vars(edge), "reasons": [vars(reason) for reason in edge.reasons]}
        if results is not None:
            made["tried"] = vars(results[edge])
        edges.append(made)
    shown = {
        "workloads": [{"id": one.id, **vars(one)} for one in graph.workloads],
        "services": [
            {"id": one.id, **vars(one), "ports": [vars(port) for port in one.ports]} for one in graph.services
        ],
        "outside": list(graph.outside),
        "edges": edges,
        "warnings": [vars(doubt) for doubt in graph.warnings],
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Graph], str]] = {
    "text": text,
    "mermaid": mermaid,
    "dot": dot,
    "json": as_json,
}


class _Names:
    """Names as short as they may be."""

    def __init__(self, graph: Graph) -> None:
        used = {one.namespace for one in graph.workloads} | {one.namespace for one in graph.services}
        self._one = next(iter(used)) if len(used) == 1 else None

    def of(self, id: Id) -> str:
        kind, _, where = id.partition(" ")
        namespace, _, name = where.partition("/")
        return where if kind == "outside" or namespace != self._one else name

    def target(self, edge: Edge) -> str:
        name = self.of(edge.target)
        return f"{name}:{edge.port}" if edge.port else name


def _head(graph: Graph, names: _Names, workload: Workload) -> str:
    behind = ", ".join(names.of(service.id) for service in graph.in_front_of(workload.id))
    pods = "" if workload.replicas is None else f", {_count(workload.replicas, 'pod')}"
    said = f"{names.of(workload.id)}  {workload.kind}{pods}"
    return f"{said}, behind Service {behind}" if behind else said


def _row(graph: Graph, names: _Names, edge: Edge) -> tuple[str, str, str]:
    workload = graph.workload(edge.source)
    main = workload.main if workload else ""
    texts = (f"{r.container}: {r.text}" if r.container not in ("", main) else r.text for r in edge.reasons)
    why = list(dict.fromkeys(texts))
    service = graph.service(edge.target)
    if service is None:
        return names.target(edge), "outside", ", ".join(why)
    return (
        names.target(edge),
        edge.port_name or ("" if service.backends else _nobody(service)),
        ", ".join(why),
    )


def _nobody(service: Service) -> str:
    return f"is {service.outside}" if service.outside else "selects no workload"


def _about(names: _Names, id: Id) -> str:
    return f"{id.partition(' ')[0]} {names.of(id)}"


def _service_label(names: _Names, service: Service, newline: str) -> str:
    ports = ", ".join(f"{p.number} {p.name}".strip() for p in service.ports)
    kind = "headless" if service.headless else service.type
    return newline.join(filter(None, (names.of(service.id), kind, ports)))


def _all(graph: Graph) -> list[Id]:
    ids = [*(one.id for one in graph.workloads), *(one.id for one in graph.services)]
    return [*ids, *(_outside(host) for host in graph.outside)]


def _outside(host: str) -> Id:
    return f"outside {host}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _safe(label: str) -> str:
    return label.replace('"', "#quot;")


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
