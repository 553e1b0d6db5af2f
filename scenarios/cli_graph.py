"""``./lab graph``: reads objects from files or from a running lab, and prints who would talk to whom.

What an edge is, and how it is drawn, is ``scenarios.graph``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from controller.api.errors import NotSettled, UsageError

if TYPE_CHECKING:
    from controller.api.objects import Obj
    from scenarios.graph.model import Graph

ABOUT = (
    "Who would talk to whom: the Services that environment variables, arguments and mounted ConfigMaps name. "
    "From manifests alone (no lab, no root), or from a running lab."
)
EXAMPLES = """\
  ./lab graph my-app.yaml                      from a manifest (- for standard input)
  ./lab graph my-app.yaml -o mermaid           a picture for GitHub; -o dot | dot -Tsvg
  ./lab graph                                  of the running lab
  ./lab graph -n shop --try                    connect along every edge, from the lab's own pods"""
_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})


def add_options(parser: Any) -> Any:
    """The options of the command."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="Kubernetes YAML (a running lab's objects)")
    parser.add_argument(
        "-o", "--output", choices=("text", "mermaid", "dot", "json"), default="text", help="(text)"
    )
    parser.add_argument("--out", metavar="FILE", help="write it there")
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", help="only this namespace (all but the system's)"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="kube-system too")
    parser.add_argument(
        "--try",
        dest="attempt",
        action="store_true",
        help="resolve and connect each, from a pod of its workload",
    )
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # --out, opened outside
    return parser


def check(options: argparse.Namespace) -> None:
    """What no parser knows: which options go together."""
    if options.attempt and options.files:
        raise UsageError("--try needs a running lab's pods: leave the files out, after ./lab up FILE")
    if options.attempt and options.output not in ("text", "json"):
        raise UsageError(f"--try goes with -o text or json, not {options.output}")
    if options.namespace and options.all_namespaces:
        raise UsageError("-n and -A exclude each other")
    if options.files and options.lab:
        raise UsageError("--lab and files exclude each other: a graph is of one or of the other")


def of_files(options: argparse.Namespace) -> int:
    """From manifests alone. Kinds that the lab does not have are left out, and told of."""
    return _print(_within(graph_of_files(options.files), options), options)


def graph_of_files(files: Sequence[str]) -> Graph:
    """The graph of files; ManifestError when a document is wrong."""
    from controller.api import manifests
    from controller.api.kinds import KINDS
    from scenarios.graph.build import READ, build

    documents = manifests.load("/dev/stdin" if file == "-" else file for file in files)
    strange = sorted({str(d.obj.get("kind")) for d in documents if d.obj.get("kind") not in KINDS})
    if strange:
        print(f"left out, the lab has no such kind: {', '.join(strange)}", file=sys.stderr)
    read = [document for document in documents if document.obj.get("kind") in READ]
    manifests.check(read)
    return build(document.obj for document in read)


def of_lab(client: Any, options: argparse.Namespace) -> int:
    """From a running lab's API; with --try the exit status is 1 when an edge failed."""
    from scenarios.graph.build import READ, build

    objects = [obj for kind in READ for obj in client.list(kind)[0]]
    graph = _within(build(objects), options)
    if not options.attempt:
        return _print(graph, options)
    from scenarios.graph import attempt, show
    from topo import dns, sandbox
    from topo.lab_state import RUNTIME
    from topo.runtime_client import RuntimeClient

    def of(kind: str) -> list[Obj]:
        return [obj for obj in objects if obj["kind"] == kind]

    if any(pod["metadata"].get("labels", {}).get("k8s-app") == "kube-dns" for pod in of("Pod")):
        with contextlib.suppress(NotSettled):  # a lab just started; names that never come are shown as such
            dns.wait_ready(client, 10)
    runtime = RuntimeClient(sandbox.run_dir() / RUNTIME)
    results = attempt.attempt(graph, of("Pod"), of("ReplicaSet"), runtime)
    drawn: Callable[..., str] = {"text": show.text, "json": show.as_json}[options.output]
    _write(drawn(graph, results), options)
    return 1 if any(tried.failed for tried in results.values()) else 0


def told_of(applied: Sequence[Obj], lab: str) -> list[str]:
    """What `./lab up` says of the manifests it applied: the stand-ins, and who would talk to whom."""
    from scenarios.graph import show
    from scenarios.graph.build import READ, build
    from topo.images.table import find, split

    graph = build(obj for obj in applied if obj["kind"] in READ)
    images = dict.fromkeys(image for one in graph.workloads for image in one.images if find(image).stand_in)
    lines = []
    if images:
        names = list(dict.fromkeys(split(image)[0].rpartition("/")[2] for image in images))
        lines.append(f"stand-ins for images that podwire has no program for: {_some(names, 12, ', ')}")
    which = "" if lab == "podwire" else f" --lab {lab}"
    if graph.edges:
        lines.append(
            f"who would talk to whom (./lab graph{which}: why; ./lab graph{which} --try: whether it works)"
        )
        lines.append("  " + _some(show.short(graph), 30, "\n  "))
    if graph.warnings:
        many = len(graph.warnings)
        fits = f"{many} things do not fit" if many > 1 else "one thing does not fit"
        lines.append(f"{fits} together: see ./lab graph{which}")
    return lines


def _some(words: list[str], most: int, between: str) -> str:
    """All of them, or the first ones and how many more."""
    if len(words) <= most:
        return between.join(words)
    return f"{between.join(words[:most])}{between}and {len(words) - most} more"


def _within(graph: Graph, options: argparse.Namespace) -> Graph:
    from scenarios.graph.model import within

    if options.namespace:
        return within(graph, lambda namespace: namespace == options.namespace)
    if options.all_namespaces or options.files:
        return graph
    return within(graph, lambda namespace: namespace not in _SYSTEM)


def _print(graph: Graph, options: argparse.Namespace) -> int:
    from scenarios.graph import show

    if not graph.workloads and not graph.services:
        where = f" in namespace {options.namespace}" if options.namespace else ""
        print(f"No workloads and no Services found{where}.", file=sys.stderr)
        if options.output == "text":
            return 0
    _write(show.FORMATS[options.output](graph), options)
    return 0


def _write(text: str, options: argparse.Namespace) -> None:
    if options.out and options.fd is None:
        options.fd = open_output(options.out)
    if options.fd is None:
        print(text, end="")
        return
    with os.fdopen(options.fd, "w", encoding="utf-8") as file:
        file.write(text)


def open_output(path: str) -> int:
    """``--out``, opened where the user is."""
    from scenarios import cli_capture

    return cli_capture.open_output(path)
