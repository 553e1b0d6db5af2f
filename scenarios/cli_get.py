"""``./lab get``: what the API server holds, as small tables with kubectl's words.

For looking, not for scripting beyond ``-o json``; the whole of kubectl is a room of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from controller.api.errors import UsageError
from controller.api.objects import Obj
from scenarios import catalogue
from scenarios.cli_labs import age


def get(client: Any, options: argparse.Namespace) -> int:
    """``./lab get``."""
    from controller.api.kinds import KINDS

    words = {
        word: row
        for row in KINDS.values()
        for word in (row.plural, row.singular, row.resource, *row.short_names)
    }
    row = words.get(options.kind.lower())
    if row is None:
        hint = catalogue.nearest(options.kind.lower(), words)
        raise UsageError(f"the server doesn't have a resource type `{options.kind}`.{hint}")
    namespace = options.namespace if row.namespaced else None
    if options.name:
        items = [client.get(row.kind, options.name, namespace)]
    else:
        items, _ = client.list(row.kind, namespace)
    if options.output != "table":
        shown = items[0] if options.name else {"apiVersion": "v1", "kind": "List", "items": items}
        if options.output == "json":
            print(json.dumps(shown, indent=2))
        else:
            import yaml

            print(yaml.safe_dump(shown, sort_keys=False), end="")
    elif not items:
        print(f"No resources found{f' in {namespace} namespace' if namespace else ''}.", file=sys.stderr)
    elif row.kind in _HEADERS:
        _print_table([("NAME", *_HEADERS[row.kind]), *(_row(item) for item in items)])
    else:
        _print_table(_as_kubectl(row.kind, items))
    return 0


_HEADERS: dict[str, tuple[str, ...]] = {
    "Pod": ("READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"),
    "Service": ("TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"),
    "Deployment": ("READY", "UP-TO-DATE", "AVAILABLE", "AGE"),
    "Node": ("STATUS", "INTERNAL-IP", "AGE"),
    "Endpoints": ("ENDPOINTS", "AGE"),
    "EndpointSlice": ("ENDPOINTS", "AGE"),
}


def _row(obj: Obj) -> tuple[str, ...]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    old = _age_of(obj)
    cells: tuple[str, ...]
    match obj["kind"]:
        case "Pod":
            states = status.get("containerStatuses") or []
            ready = f"{sum(bool(s.get('ready')) for s in states)}/{len(spec.get('containers') or ())}"
            phase = (
                "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", "Pending")
            )
            restarts = str(sum(s.get("restartCount", 0) for s in states))
            cells = (
                ready,
                phase,
                restarts,
                old,
                status.get("podIP", "<none>"),
                spec.get("nodeName", "<none>"),
            )
        case "Service":
            ports = ",".join(
                f"{p['port']}{f':{n}' if (n := p.get('nodePort')) else ''}/{p.get('protocol', 'TCP')}"
                for p in spec.get("ports") or ()
            )
            cells = (
                spec.get("type", ""),
                spec.get("clusterIP", "<none>"),
                external_ip(obj),
                ports or "<none>",
                old,
            )
        case "Deployment":
            ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}"
            cells = (ready, *(str(status.get(k, 0)) for k in ("updatedReplicas", "availableReplicas")), old)
        case "Node":
            conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
            address = next(
                (a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), ""
            )
            cells = ("Ready" if conditions.get("Ready") == "True" else "NotReady", address, old)
        case "Endpoints" | "EndpointSlice":
            cells = (",".join(endpoint_addresses(obj)) or "<none>", old)
        case kind:
            raise ValueError(f"no columns for {kind}")
    return (obj["metadata"]["name"], *cells)


def _as_kubectl(kind: str, items: Sequence[Obj]) -> list[tuple[str, ...]]:
    """The columns that the API server's own table has for a kind."""
    from controller.api.tables import table

    made = table(kind, items, {}, datetime.now(UTC))
    shown = [index for index, one in enumerate(made["columnDefinitions"]) if not one["priority"]]
    head = tuple(made["columnDefinitions"][index]["name"].upper() for index in shown)
    return [head, *(tuple(str(row["cells"][index]) for index in shown) for row in made["rows"])]


def external_ip(service: Obj) -> str:
    """The EXTERNAL-IP column of ``kubectl get service``."""
    if service["spec"].get("type") == "ExternalName":
        return str(service["spec"].get("externalName"))
    if service["spec"].get("type") != "LoadBalancer":
        return ",".join(service["spec"].get("externalIPs") or ()) or "<none>"
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress) or "<pending>"


def endpoint_addresses(obj: Obj) -> list[str]:
    """``address:port`` of every ready endpoint of an Endpoints object or an EndpointSlice."""
    if obj["kind"] == "Endpoints":
        subsets = obj.get("subsets") or ()
        pairs = [
            (a["ip"], p["port"])
            for s in subsets
            for a in s.get("addresses") or ()
            for p in s.get("ports") or ()
        ]
    else:
        ready = [
            e for e in obj.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False
        ]
        pairs = [(a, p["port"]) for e in ready for a in e["addresses"] for p in obj.get("ports") or ()]
    return [f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address, port in pairs]


def _age_of(obj: Obj) -> str:
    made = obj["metadata"].get("creationTimestamp")
    return age(time.time() - datetime.fromisoformat(made).timestamp()) if made else "<unknown>"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
