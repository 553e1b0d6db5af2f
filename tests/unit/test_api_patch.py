"""Patches and who owns what: strategic merge, server-side apply, protobuf bodies, pages; all pure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from controller.api import fieldset, managed, protobuf, verbs
from controller.api.errors import ApiError, BadRequest, Conflict
from controller.api.objects import Obj, copy
from controller.api.patch import SHORT
from controller.api.patch_strategic import strategic_merge
from controller.api.registry import Registry
from controller.api.routes import parse_path
from controller.api.store import Store
from controller.api.views import PLAIN, asked, list_body
from tests.unit.api_kit import config_map, deployment, pod, service

NOW = "2026-01-01T00:00:00Z"


def containers(*names: str) -> Obj:
    return pod(spec={"containers": [{"name": name, "image": "i"} for name in names]})


def names(obj: Obj) -> list[str]:
    return [one["name"] for one in obj["spec"]["containers"]]


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ([{"name": "c", "image": "x"}], ["a", "b", "c"]),
        ([{"name": "a", "$patch": "delete"}], ["b"]),
        ([{"$patch": "replace"}, {"name": "z", "image": "x"}], ["z"]),
    ],
)
def test_a_strategic_merge_merges_containers_by_name(patch: list[Obj], left: list[str]) -> None:
    assert names(strategic_merge(containers("a", "b"), {"spec": {"containers": patch}})) == left


def test_a_strategic_merge_heeds_the_other_directives() -> None:
    ordered = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    assert names(strategic_merge(containers("a", "b"), ordered)) == ["b", "a"]
    held = {**pod(), "metadata": {"name": "web", "finalizers": ["x/a", "x/b"]}}
    taken = strategic_merge(held, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"]}})
    assert taken["metadata"]["finalizers"] == ["x/b"]
    assert strategic_merge(held, {"metadata": {"finalizers": ["x/c"]}})["metadata"]["finalizers"][-1] == "x/c"
    old = deployment(spec={"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}})
    new = strategic_merge(old, {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})
    assert new["spec"]["strategy"] == {"type": "Recreate"}
    atomic = strategic_merge(service(), {"spec": {"selector": {"app": None, "b": "c"}}})
    assert atomic["spec"]["selector"] == {"b": "c"}
    assert strategic_merge(pod(), {"$patch": "replace", "kind": "Pod"}) == {"kind": "Pod"}
    with pytest.raises(BadRequest, match="merge key"):
        strategic_merge(pod(), {"spec": {"containers": [{"image": "x"}]}})


def test_fields_are_written_as_kubernetes_writes_them() -> None:
    paths = fieldset.values(service(spec={"ports": [{"port": 80}]}))
    told = fieldset.to_fields(paths)
    assert told["f:spec"]["f:ports"] == {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}
    assert frozenset(fieldset.from_fields(told)) == frozenset(paths)
    (shown,) = {fieldset.shown(path) for path in paths if path[-1] == "f:port"}
    assert shown == '.spec.ports[port=80,protocol="TCP"].port'


WORDS = some.sampled_from(("a", "b", "c"))
DATA = some.dictionaries(WORDS, some.sampled_from(("1", "2")), max_size=3)


def wanted(data: dict[str, str]) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


@given(some.lists(some.tuples(some.sampled_from(("x", "y")), DATA), min_size=1, max_size=6))
def test_after_forced_applies_an_object_is_what_its_owners_last_said(turns: list[tuple[str, Any]]) -> None:
    live: Obj | None = None
    said: dict[str, dict[str, str]] = {}
    for manager, data in turns:
        for other in said.values():  # force takes what differs away from the others
            for word in [word for word, value in other.items() if data.get(word, value) != value]:
                del other[word]
        said[manager] = dict(data)
        live = managed.applied(live, wanted(data), manager, NOW, force=True)
    assert live is not None
    assert (live.get("data") or {}) == {word: text for data in said.values() for word, text in data.items()}
    assert managed.applied(live, wanted(said[manager]), manager, "later", force=True) == live


def test_an_apply_conflicts_with_whoever_set_another_value() -> None:
    registry = Registry(Store())
    registry.ensure_system_namespaces()
    registry.apply(
        {**wanted({"a": "1"}), "metadata": {"name": "settings", "namespace": "default"}}, manager="x"
    )
    registry.patch("ConfigMap", "default", "settings", {"data": {"a": "2", "b": "3"}}, manager="hand")
    again = {**wanted({"a": "1"}), "metadata": {"name": "settings", "namespace": "default"}}
    with pytest.raises(
        Conflict, match=r'Apply failed with 1 conflict: conflict with "hand" using v1: \.data\.a'
    ):
        registry.apply(again, manager="x")
    made, created = registry.apply(again, manager="x", force=True)
    assert (made["data"], created) == ({"a": "1", "b": "3"}, False)
    version = made["metadata"]["resourceVersion"]
    assert registry.apply(again, manager="x")[0]["metadata"]["resourceVersion"] == version


def test_who_does_not_name_itself_owns_nothing() -> None:
    registry = Registry(Store())
    registry.ensure_system_namespaces()
    assert "managedFields" not in registry.create(config_map())["metadata"]


def _varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


def _part(number: int, body: bytes | str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _envelope(version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + _part(1, _part(1, version) + _part(2, kind)) + _part(2, raw)


def test_protobuf_is_read_as_the_json_it_stands_for() -> None:
    port = _part(1, "") + b"\x18" + _varint(80) + _part(4, b"\x08\x01" + _part(3, "http"))
    meta = _part(1, "web") + _part(11, _part(1, "a") + _part(2, "b"))
    body = _envelope("v1", "Service", _part(1, meta) + _part(2, _part(1, port)))
    assert protobuf.decode(body) == {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"k8s\x00", b"k8s\x00\xff\xff", _envelope("v9", "Potato", b""),
     _envelope("v1", "Service", _part(99, "new")), _envelope("v1", "Service", b"\x0a\xff")],
)  # fmt: skip
def test_protobuf_that_cannot_be_read_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        protobuf.decode(body)


@given(some.binary(max_size=60))
def test_no_bytes_make_the_protobuf_reader_fall_over(raw: bytes) -> None:
    for body in (b"k8s\x00" + raw, _envelope("v1", "Pod", raw)):
        try:
            protobuf.decode(body)
        except BadRequest:
            pass


def test_pages_are_every_object_once() -> None:
    store = Store()
    registry = Registry(store)
    registry.ensure_system_namespaces()
    for number in range(7):
        registry.create(config_map(f"c{number}"))
    target, token, found = parse_path("/api/v1/configmaps"), "", []
    for _ in range(4):
        page = json.loads(list_body(store, target, {"limit": "2", "continue": token}, PLAIN))
        found += [obj["metadata"]["name"] for obj in page["items"]]
        token = page["metadata"].get("continue", "")
        assert page["metadata"].get("remainingItemCount", 0) == 7 - len(found)
    assert found == [f"c{number}" for number in range(7)]
    assert not token
    with pytest.raises(BadRequest, match="continue key is not valid"):
        list_body(store, target, {"limit": "2", "continue": "!"}, PLAIN)


def test_the_first_shape_an_accept_header_names_is_served() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert asked(table, {}).shape == "Table"
    assert asked("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", {}).shape.startswith(
        "Part"
    )
    assert asked("application/vnd.kubernetes.protobuf,application/json", {}) == PLAIN
    assert asked("", {}) == PLAIN


BODIES: list[Obj] = [
    pod(), service(), deployment(), config_map(), {"kind": "Eviction", "metadata": {"name": "web"}},
    {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}, {"spec": {"replicas": 1}},
]  # fmt: skip
WORDS_OF_OURS = ("$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/x",
                 "managedFields", "name", "spec", "metadata", "ports")  # fmt: skip
ODD = some.sampled_from(
    ["null", "true", "-1", '"x"', "[]", "{}", '[1,"a",null]', '{"a":{"b":[{}]}}', '[{"name":"web"}]',
     '[{"$patch":"delete"}]', '[{"op":"add","path":"/spec/x","value":1}]', '[{"op":"move","from":"/a"}]']
)  # fmt: skip


@some.composite
def bodies(draw: some.DrawFn) -> Any:
    """A sound body with something odd somewhere in it, or something odd alone."""
    made: Any = copy(draw(some.sampled_from(BODIES)))
    for _ in range(draw(some.integers(0, 3))):
        at, odd = made, json.loads(draw(ODD))
        while True:
            steps = sorted(at) if isinstance(at, dict) else [*range(len(at))]
            step = draw(some.sampled_from(steps)) if steps else None
            if step is None or not at[step] or not isinstance(at[step], dict | list) or draw(some.booleans()):
                break
            at = at[step]
        if step is not None:
            at[step] = odd
        if isinstance(at, dict) and draw(some.booleans()):
            at[draw(some.sampled_from(WORDS_OF_OURS))] = odd
    return draw(some.sampled_from([made, json.loads(draw(ODD))]))


PATHS = [
    *(f"/api/v1/namespaces/default/{rest}" for rest in (
        "pods", "pods/web", "services/web", "configmaps/settings", "pods/web/eviction", "pods/web/status",
        "pods/web/binding")),
    "/apis/apps/v1/namespaces/default/deployments/web",
    "/apis/apps/v1/namespaces/default/deployments/web/scale",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices",
]  # fmt: skip
TYPES = ["application/json", "application/yaml", *SHORT.values()]
QUERIES: list[dict[str, str]] = [
    {}, {"fieldManager": "m"}, {"fieldManager": "m", "force": "true"}, {"dryRun": "All"}, {"limit": "-1"},
    {"limit": "1", "continue": "e30="}, {"fieldValidation": "Strict"},
]  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(some.data(), bodies())
def test_whatever_is_sent_is_answered_or_refused_with_a_status(data: some.DataObject, body: Any) -> None:
    registry = Registry(Store())
    registry.ensure_system_namespaces()
    for obj in BODIES[:4]:
        registry.create(obj)
    call = verbs.Call(
        method=data.draw(some.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET"])),
        path=data.draw(some.sampled_from(PATHS)), query=data.draw(some.sampled_from(QUERIES)),
        content_type=data.draw(some.sampled_from(TYPES)), body=json.dumps(body).encode(), agent="fuzz/1",
        accept=data.draw(some.sampled_from(["", "application/json;as=Table;v=v1;g=meta.k8s.io"])),
    )  # fmt: skip
    try:
        code = verbs.answer(registry, call).code
    except ApiError as error:
        code = error.code
    assert 200 <= code < 500
