"""The graph as it is printed: each format of one small shop, and the command around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.api import documents
from scenarios import cli, cli_graph
from scenarios.graph import show
from scenarios.graph.build import build
from scenarios.graph.model import Graph, Tried, within

SHOP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      initContainers:
        - {name: wait, image: busybox, command: [sh, -c, "nc -z cart 7070"]}
      containers:
        - name: main
          image: shop.example/front
          env:
            - {name: CART_ADDR, value: "cart:7070"}
            - {name: CATALOG_ADDR, value: "catalog:3551"}
            - {name: RATES_URL, value: "https://rates.example.com"}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: grpc, port: 7070}]}
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{port: 3550}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: cart, image: shop.example/cart, ports: [{containerPort: 7070}]}]}
"""

TEXT = """\
cart  Deployment, 1 pod, behind Service cart
front  Deployment, 2 pods
  → cart:7070              grpc                 wait: command, CART_ADDR
  → catalog:3551           selects no workload  CATALOG_ADDR
  → rates.example.com:443  outside              RATES_URL
catalog  selects no workload

Does not fit:
  Deployment front: env CATALOG_ADDR names catalog:3551, the Service has 3550

2 workloads, 2 Services, 3 edges, 1 warning
"""
MERMAID = """\
flowchart LR
  n0["cart<br/><small>Deployment</small>"]
  n1["front<br/><small>Deployment</small>"]
  n2(["cart<br/>ClusterIP<br/>7070 grpc"])
  n3(["catalog<br/>ClusterIP<br/>3550"])
  n4{{"rates.example.com"}}
  n1 -->|"command<br/>CART_ADDR"| n2
  n1 -->|"CATALOG_ADDR"| n3
  n1 -.->|"RATES_URL"| n4
  n2 -.-> n0
  classDef doubt stroke:#c00,stroke-width:3px
  class n1 doubt
"""
DOT = """\
digraph podwire {
  rankdir=LR;
  node [fontname="sans-serif"];
  "Deployment shop/cart" [label="cart\\nDeployment", shape=box];
  "Deployment shop/front" [label="front\\nDeployment", shape=box, color=red];
  "Service shop/cart" [label="cart\\nClusterIP\\n7070 grpc", shape=oval];
  "Service shop/catalog" [label="catalog\\nClusterIP\\n3550", shape=oval];
  "outside rates.example.com" [label="rates.example.com", shape=hexagon];
  "Deployment shop/front" -> "Service shop/cart" [label="command\\nCART_ADDR"];
  "Deployment shop/front" -> "Service shop/catalog" [label="CATALOG_ADDR"];
  "Deployment shop/front" -> "outside rates.example.com" [label="RATES_URL"];
  "Service shop/cart" -> "Deployment shop/cart" [style=dashed];
}
"""


def objects(text: str) -> list[dict[str, Any]]:
    return [
        found.obj for found in documents.parse(text, "shop.yaml") if isinstance(found, documents.Document)
    ]


@pytest.fixture
def graph() -> Graph:
    return build(objects(SHOP))


@pytest.mark.parametrize(
    ("drawn", "wanted"), [("text", TEXT), ("mermaid", MERMAID), ("dot", DOT)], ids=["text", "mermaid", "dot"]
)
def test_each_format_says_the_same(graph: Graph, drawn: str, wanted: str) -> None:
    assert show.FORMATS[drawn](graph) == wanted


def test_json_has_all_of_it(graph: Graph) -> None:
    shown = json.loads(show.as_json(graph))
    assert [one["id"] for one in shown["workloads"]] == ["Deployment shop/cart", "Deployment shop/front"]
    assert shown["services"][0]["backends"] == ["Deployment shop/cart"]
    assert shown["outside"] == ["rates.example.com"]
    assert shown["edges"][0] == {
        "source": "Deployment shop/front",
        "target": "Service shop/cart",
        "hosts": ["cart"],
        "port": 7070,
        "port_name": "grpc",
        "protocol": "TCP",
        "reasons": [
            {"container": "wait", "name": "", "origin": "command", "said": "cart:7070"},
            {"container": "main", "name": "CART_ADDR", "origin": "", "said": "cart:7070"},
        ],
    }
    assert [one["kind"] for one in shown["warnings"]] == ["port"]


def test_what_came_of_each_edge_stands_below_it(graph: Graph) -> None:
    cart, catalog, rates = graph.edges
    results = {
        cart: Tried(outcome="ok", pod="front-1", address="10.96.0.7", port=7070, name_ms=0.8, ms=1.25),
        catalog: Tried(
            outcome="refused", pod="front-1", address="10.96.0.8", port=3551, name_ms=1, ms=1, failed=True
        ),
        rates: Tried(outcome="not tried: outside of the lab"),
    }
    shown = show.text(graph, results)
    assert "      ok, 10.96.0.7:7070 from front-1, 1.2 ms, name 0.8 ms\n" in shown
    assert "      refused, 10.96.0.8:3551 from front-1, 1.0 ms, name 1.0 ms\n" in shown
    assert shown.endswith("1 warning, 1 of 2 tried edges work\n")
    assert json.loads(show.as_json(graph, results))["edges"][1]["tried"]["failed"] is True


def test_two_namespaces_are_told_apart_and_one_is_left_out() -> None:
    other = SHOP.replace("namespace: shop", "namespace: other")
    graph = build(objects(SHOP + "---" + other))
    assert show.short(graph) == [
        f"{space}/front → {space}/cart:7070, {space}/catalog:3551, rates.example.com:443"
        for space in ("other", "shop")
    ]
    assert within(graph, lambda namespace: namespace == "shop") == build(objects(SHOP))


# -- the command


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = cli.main(["graph", *argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    return path


def test_files_need_no_lab(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert run(capsys, str(file)) == (0, TEXT, "")


def test_out_writes_a_file(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    out = tmp_path / "shop.mmd"
    assert run(capsys, str(file), "-o", "mermaid", "--out", str(out)) == (0, "", "")
    assert out.read_text(encoding="utf-8") == MERMAID


def test_a_kind_that_the_lab_has_not_is_left_out_and_told_of(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    strange = "\n---\napiVersion: mesh.example/v1\nkind: Route\nmetadata: {name: a}\n"
    file.write_text(SHOP + strange, encoding="utf-8")
    assert run(capsys, str(file)) == (0, TEXT, "left out, the lab has no such kind: Route\n")


def test_a_namespace_without_anything_is_told_of(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    told = "No workloads and no Services found in namespace nowhere.\n"
    assert run(capsys, str(file), "-n", "nowhere") == (0, "", told)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["FILE", "--try"], "--try needs a running lab's pods: leave the files out, after ./lab up FILE"),
        (["--try", "-o", "dot"], "--try goes with -o text or json, not dot"),
        (["-n", "a", "-A"], "-n and -A exclude each other"),
        (["FILE", "--lab", "a"], "--lab and files exclude each other"),
        (["FILE", "-o", "png"], "invalid choice: 'png'"),
        (["/nowhere/at-all.yaml"], "/nowhere/at-all.yaml: cannot be read"),
        (["FILE", "--out", "/nowhere/at/all"], "--out /nowhere/at/all: No such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], file: Path, argv: list[str], words: str
) -> None:
    status, out, err = run(capsys, *(str(file) if word == "FILE" else word for word in argv))
    assert (status, out) == (2, "")
    assert err.startswith("podwire: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_wrong_document_is_told_with_its_field(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(SHOP.replace("replicas: 2", "replicas: two"), encoding="utf-8")
    status, _, err = run(capsys, str(file))
    assert (status, "spec.replicas" in err) == (2, True)


def test_up_tells_of_stand_ins_and_edges_and_of_nothing_when_there_are_none() -> None:
    assert cli_graph.told_of(objects(SHOP), "podwire") == [
        "stand-ins for images that podwire has no program for: cart, front",
        "who would talk to whom (./lab graph: why; ./lab graph --try: whether it works)",
        "  front → cart:7070, catalog:3551, rates.example.com:443",
        "one thing does not fit together: see ./lab graph",
    ]
    alone = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: busybox}]}"
    assert cli_graph.told_of(objects(alone), "podwire") == []


def test_the_books_manifests_have_one_edge(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(cli.__file__).parent / "manifests"
    files = [str(path) for path in sorted(folder.glob("services_*.yaml"))]
    status, out, _ = run(capsys, *files)
    assert status == 0
    assert out.splitlines()[1:3] == [
        "frontend  Deployment, 2 pods, behind Service frontend-lb, frontend-node",
        "  → backendflask:5001    DB_SERVICE",
    ]


def test_the_shop_that_comes_with_podwire_has_every_kind_of_edge() -> None:
    text = (Path(cli.__file__).parent / "manifests" / "shop.yaml").read_text("utf-8")
    graph = build(objects(text))
    assert len(graph.edges) == 23
    assert {edge.target.partition(" ")[0] for edge in graph.edges} == {"Service", "outside"}
    assert {edge.protocol for edge in graph.edges} == {"TCP", "UDP"}
    assert sorted(doubt.kind for doubt in graph.warnings) == ["port", "unknown"]
    assert "not-a-secret" not in show.as_json(graph)
