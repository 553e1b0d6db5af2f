"""The command line without a lab: words, help, mistakes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from controller.api.errors import UsageError
from scenarios import catalogue, cli, cli_inside, cli_labs, cli_parsers
from scenarios.cli_labs import age, how_to_reach
from scenarios.url import node_urls, serve, some_url
from topo.config import ClusterConfig
from topo.images import demo

COMMANDS = sorted(cli_parsers.commands())
LESSONS = [entry.name for entry in catalogue.lessons()]


def test_alone_it_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    for word in ("nodeport", "clusterip", "up", "down", "exec", "flows", "url", "ssh", "capture", "shell"):
        assert f"./lab {word}" in said


def test_both_lessons_are_listed_with_the_first_line_of_their_docstring(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"nodeport", "clusterip"} <= {line.split()[0] for line in lines}
    text = ast.get_docstring(ast.parse(Path(cli.__file__).with_name("nodeport.py").read_text()))
    assert text is not None
    assert any(text.splitlines()[0].rstrip(".") in line for line in lines)


@pytest.mark.parametrize("name", [name for name in COMMANDS + LESSONS if name != "bench"])
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert f"./lab {name}" in said


def test_a_cloud_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("cloud: true\n", encoding="utf-8")
    up = cli_parsers.commands()["up"]
    asked = {
        argv: cli_labs.cluster_config(up.parse_args(list(argv))).cloud
        for argv in [(), ("--cloud",), ("--config", str(file))]
    }
    assert asked == {(): False, ("--cloud",): True, ("--config", str(file)): True}


def test_real_programs_that_are_not_installed_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PYTHON", tmp_path / "python")
    assert cli.main(["up", "--real-programs"]) == 2
    said = capsys.readouterr().err
    assert "`./lab setup microservices`" in said
    assert said.count("\n") == 1


def test_every_command_has_somebody_who_does_it() -> None:
    assert set(COMMANDS) - {"bench", "conformance"} == {*cli_labs.COMMANDS, *cli_inside.COMMANDS}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nodeprt"], ["`nodeprt`", "Did you mean `nodeport`?"]),
        (["clusterpi"], ["Did you mean `clusterip`?"]),
        (["upp"], ["Did you mean `up`?"]),
        (["xyzzy"], ["there is no command or lesson `xyzzy`. `./lab` lists what there is."]),
        (["help", "xyzzy"], ["there is no command or lesson `xyzzy`"]),
        (["nodeport", "--nodes", "0"], ["--nodes", "a whole number from 1 is needed, not '0'"]),
        (["nodeport", "--nodes", "two"], ["a whole number from 1 is needed, not 'two'"]),
        (["nodeport", "--nodes", "2"], ["this lesson needs at least 3 nodes"]),
        (["nodeport", "--nodes", "1000"], ["nodes: from 1 to"]),
        (["nodeport", "--datapath", "fast"], ["--datapath", "'fast'"]),
        (["nodeport", "extra"], ["unrecognized arguments: extra"]),
        (["nodeport", "--jso"], ["unrecognized arguments: --jso"]),
        (["up", "--nodes", "-1"], ["--nodes"]),
        (["up", "/nowhere/at-all.yaml"], ["/nowhere/at-all.yaml"]),
        (["up", "--config", "/nowhere/at-all.yaml"], ["/nowhere/at-all.yaml: cannot be read"]),
        (["exec"], ["the following arguments are required: POD|NODE|CLIENT"]),
        (["flows"], ["the following arguments are required: NODE"]),
        (["capture", "-c", "x"], ["a whole number from 1 is needed"]),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_2(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("podwire: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


BAD_MANIFESTS = {
    "no YAML at all": ("kind: [", []),
    "two ports without names": (
        """
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {ports: [{port: 80}, {port: 81}]}
""",
        ["document 1", "spec.ports[0].name", "Required value"],
    ),
    "a nodePort outside the range": (
        """
apiVersion: v1
kind: Service
metadata: {name: low}
spec: {type: NodePort, ports: [{port: 80, nodePort: 29999}]}
""",
        ["provided port is not in the valid range. The range of valid ports is 30000-32767"],
    ),
    "two Services on one nodePort": (
        """
apiVersion: v1
kind: Service
metadata: {name: first}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30000}]}
---
apiVersion: v1
kind: Service
metadata: {name: second}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30000}]}
""",
        ["document 2", "provided port is already allocated"],
    ),
    "an unknown kind": ("apiVersion: v1\nkind: Potato\nmetadata: {name: p}\n", ["Potato"]),
    "an unknown field": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {prots: [{port: 80}]}\n",
        ["prots"],
    ),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_wrong_manifest_is_refused_before_anything_starts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words = BAD_MANIFESTS[name]
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    assert cli.main(["up", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("podwire: ")
    for word in ["wrong.yaml", *words]:
        assert word in said


def test_what_follows_two_dashes_belongs_to_the_command() -> None:
    assert cli._split(["pod", "--", "ls", "--help", "--"]) == (["pod"], ["ls", "--help", "--"])
    assert cli._split(["pod"]) == (["pod"], [])


def test_a_file_without_tell_is_no_lesson(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('"""First line.\n\nMore."""\ndef tell(lesson): ...\n')
    (tmp_path / "two.py").write_text('"""Helper with "def tell(" in a string."""\n')
    assert [(e.name, e.summary) for e in catalogue.lessons(tmp_path)] == [("one", "First line")]


def test_ages_are_written_as_kubectl_writes_them() -> None:
    assert [age(s) for s in (-1, 0, 59, 60, 3600, 90000)] == ["0s", "0s", "59s", "1m", "1h", "1d"]


NODES = [
    {
        "metadata": {"name": f"node{n}"},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.49.{n + 1}"}]},
    }
    for n in (10, 2, 1)
]


def test_the_url_is_the_first_nodes_as_in_minikube() -> None:
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"port": 80, "nodePort": 30000}, {"port": 81, "nodePort": 30001}, {"port": 82}]},
    }
    assert node_urls(service, NODES) == ["http://192.168.49.2:30000", "http://192.168.49.2:30001"]


def test_a_dual_stack_service_has_a_url_of_each_family_in_its_order() -> None:
    nodes = [
        {
            "metadata": {"name": "node1"},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "192.168.49.2"},
                    {"type": "InternalIP", "address": "fd00:49::2"},
                    {"type": "Hostname", "address": "node1"},
                ]
            },
        }
    ]

    def urls(*families: str) -> list[str]:
        spec = {"ports": [{"port": 80, "nodePort": 30000}], "ipFamilies": families}
        return node_urls({"metadata": {"name": "web"}, "spec": spec}, nodes)

    assert urls("IPv4") == ["http://192.168.49.2:30000"]
    assert urls("IPv6", "IPv4") == ["http://[fd00:49::2]:30000", "http://192.168.49.2:30000"]


def test_a_service_without_node_port_has_no_url() -> None:
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
    with pytest.raises(Exception, match="service default/web has no node port"):
        node_urls(service, NODES)


def test_what_is_not_tcp_is_not_called_http() -> None:
    ports = [{"port": 53, "nodePort": 30053, "protocol": "UDP"}, {"port": 53, "nodePort": 30054}]
    service = {"metadata": {"name": "dns", "namespace": "default"}, "spec": {"ports": ports}}
    assert node_urls(service, NODES) == ["udp://192.168.49.2:30053", "http://192.168.49.2:30054"]


def test_local_has_nothing_to_pass_on_for_udp() -> None:
    with pytest.raises(UsageError, match="--local passes on TCP"):
        serve(["udp://192.168.49.2:30053"], -1)


def made(name: str, type_: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": type_, "ports": [*ports]}}


@pytest.mark.parametrize(
    ("services", "url"),
    [
        ([], ""),
        ([made("a", "ClusterIP", {"port": 80})], ""),
        ([made("a", "NodePort", {"port": 53, "nodePort": 30053, "protocol": "UDP"})], ""),
        (
            [
                made("a", "LoadBalancer", {"port": 80, "nodePort": 30431}),
                made("b", "NodePort", {"port": 80, "nodePort": 30007}),
            ],
            "http://192.168.49.2:30007",
        ),
        ([made("a", "LoadBalancer", {"port": 80, "nodePort": 30431})], "http://192.168.49.2:30431"),
    ],
)
def test_a_lab_that_is_up_names_a_node_port_only_if_something_has_one(
    services: list[dict[str, Any]], url: str
) -> None:
    assert some_url(services, NODES) == url
    said = how_to_reach("podwire", ClusterConfig(), "/run/podwire/podwire/kubeconfig", url)
    assert ("./lab exec client1 -- curl -s" in said, "./lab kubectl apply -f my-app.yaml" in said) == (
        bool(url),
        not url,
    )
    assert f"curl -s {url}/" in said or not url
    assert "curl" not in how_to_reach("podwire", ClusterConfig(clients=0), "/kubeconfig", url)
