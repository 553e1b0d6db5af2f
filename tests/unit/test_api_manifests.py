"""Manifests as a set: every problem of every document is named, with file, document and field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.api import manifests
from controller.api.errors import ManifestError
from tests.unit.api_kit import namespace, service

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "web.yaml"
        path.write_text(text)
        return path

    return write


def told(path: Path, *more: Path) -> list[tuple[int, str, str, str]]:
    """(document, what, field, reason) of every problem."""
    with pytest.raises(ManifestError) as raised:
        manifests.read([path, *more])
    return [(error.document, error.what, error.field, error.reason) for error in raised.value.problems]


def one(kind: str = "Service", name: str = "web", spec: str = "{ports: [{port: 80}]}") -> str:
    version = "apps/v1" if kind == "Deployment" else "v1"
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def test_documents_are_numbered_as_the_dashes_divide_them(write: Write) -> None:
    path = write(f"---\n{one(name='a')}---\n# nothing here\n---\n{one(name='b')}")
    found = manifests.load([path])
    assert [(document.number, document.what) for document in found] == [(1, "Service a"), (3, "Service b")]
    manifests.check(found)


def test_a_list_is_flattened_and_its_items_keep_its_number(write: Write) -> None:
    path = write(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n"
    )
    assert [(document.number, document.what) for document in manifests.read([path])] == [
        (1, "Namespace a"), (1, "Namespace b")
    ]  # fmt: skip


def test_a_directory_means_the_manifests_in_it(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(one(name="b"))
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}')
    (tmp_path / "notes.txt").write_text("no manifest")
    assert [document.what for document in manifests.read([tmp_path])] == ["Namespace a", "Service b"]


def test_times_stay_text_and_keys_become_text(write: Write) -> None:
    path = write(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {since: 2020-01-01}}\n"
        "data: {80: x, true: y}\n"
    )
    (document,) = manifests.read([path])
    assert document.obj["metadata"]["annotations"] == {"since": "2020-01-01"}
    assert document.obj["data"] == {"80": "x", "true": "y"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [1\nb: 2\n", "broken YAML: did not find expected ',' or ']' (line 2, column 2)"),
        ("a: 1\na: 2\n", 'broken YAML: the key "a" stands twice in one mapping (line 2, column 1)'),
        ("- a\n", "an object (a mapping) is expected, not a list"),
        ("just text\n", "an object (a mapping) is expected, not 'just text'"),
        (
            "a: &x [*x]\n",
            "broken YAML: the document is too deep or too large (does an alias contain itself?)",
        ),
        ("a: !!python/object:os.system {}\n", None),
        ("a: .nan\n", "broken YAML: a float cannot stand in a Kubernetes object: nan"),
        ("kind: Service\n", "apiVersion is missing"),
        ("apiVersion: v1\n", "kind is missing"),
        ("apiVersion: v1\nkind: Servic\n", 'no matches for kind "Servic" in version "v1"'),
        (
            "apiVersion: extensions/v1beta1\nkind: Deployment\n",
            'no matches for kind "Deployment" in version "extensions/v1beta1" (it is served in apps/v1)',
        ),
        ("apiVersion: v1\nkind: Namespace\n", "Required value"),
    ],
)
def test_what_is_no_object_is_told(write: Write, text: str, reason: str | None) -> None:
    ((_, _, _, found),) = told(write(text))
    assert found == reason if reason else found.startswith("broken YAML: could not determine a constructor")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: cannot be read: No such file or directory"):
        manifests.read([tmp_path / "none.yaml"])


def test_a_single_problem_is_one_sentence_with_file_document_object_and_field(write: Write) -> None:
    path = write(one(name="a") + "---\n" + one(spec="{type: NodePort, ports: [{port: 80, nodePort: 99}]}"))
    with pytest.raises(ManifestError) as raised:
        manifests.read([path])
    assert str(raised.value) == (
        f"{path}, document 2: Service web: spec.ports[0].nodePort: Invalid value: 99: "
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    )


def test_all_problems_of_all_documents_are_told_in_order(write: Write) -> None:
    path = write(
        one(
            spec="{type: NodePort, selektor: {a: b}, "
            "ports: [{port: 80, targetport: 1}, {port: 81, nodePort: 1}]}"
        )
        + "---\n- a\n---\n"
        + one("Deployment", spec='{replicas: "2"}')
    )
    assert told(path) == [
        (1, "Service web", "spec.selektor", 'unknown field (did you mean "selector"?)'),
        (1, "Service web", "spec.ports[0].targetport", 'unknown field (did you mean "targetPort"?)'),
        (1, "Service web", "spec.ports[0].name", "Required value"),
        (1, "Service web", "spec.ports[1].name", "Required value"),
        (
            1, "Service web", "spec.ports[1].nodePort",
            "Invalid value: 1: provided port is not in the valid range. "
            "The range of valid ports is 30000-32767",
        ),
        (2, "", "", "an object (a mapping) is expected, not a list"),
        (3, "Deployment web", "spec.replicas", 'expected integer, got string "2"'),
    ]  # fmt: skip


def test_the_same_name_twice_in_a_set_is_told(write: Write) -> None:
    path = write(one() + "---\n" + one())
    assert told(path) == [(2, "Service web", "", f'a Service "web" stands in {path}, document 1 already')]


def test_two_services_of_a_set_cannot_ask_for_one_node_port(write: Write) -> None:
    spec = "{type: NodePort, ports: [{port: 80, nodePort: 30000}]}"
    assert told(write(one(name="a", spec=spec) + "---\n" + one(name="b", spec=spec))) == [
        (
            2, "Service b", "spec.ports[0].nodePort",
            "Invalid value: 30000: provided port is already allocated",
        )
    ]  # fmt: skip


def test_what_the_cluster_holds_is_taken_into_account(write: Write) -> None:
    held = service("held", spec={"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]})
    spec = "{type: NodePort, ports: [{port: 80, nodePort: 30000}]}"
    found = manifests.load([write(one(spec=spec))])
    with pytest.raises(ManifestError, match="provided port is already allocated"):
        manifests.check(found, [held])
    # The same Service again is no collision.
    manifests.check(manifests.load([write(one(name="held", spec=spec))]), [held])


def test_a_namespace_must_exist_or_come_first(write: Write) -> None:
    settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: team}\n"
    team = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
    cluster = [namespace("default")]
    with pytest.raises(ManifestError, match='namespaces "team" not found'):
        manifests.check(manifests.load([write(settings + "---\n" + team)]), cluster)
    manifests.check(manifests.load([write(team + "---\n" + settings)]), cluster)
    manifests.check(manifests.load([write(settings)]))  # without a cluster nobody can know


def test_what_families_a_service_may_ask_for_depends_on_the_clusters(write: Write) -> None:
    path = write(one(spec="{ports: [{port: 80}], ipFamilyPolicy: RequireDualStack}"))
    manifests.read([path], ip_family="dual")
    reason = 'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services'
    assert told(path) == [(1, "Service web", "spec.ipFamilyPolicy", reason)]
