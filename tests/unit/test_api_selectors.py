"""Label and field selectors: the texts kubectl sends and the maps objects carry."""

from __future__ import annotations

import pytest

from controller.api.errors import BadRequest
from controller.api.objects import matches, selector_text
from controller.api.selectors import parse_fields, parse_labels, predicate
from tests.unit.api_kit import pod

WEB = {"app": "web", "tier": "front", "n": "5"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("zone!=a", True),  # != matches objects without the key
        ("app in (db, web)", True),
        ("app in (db)", False),
        ("app notin (db,web)", False),
        ("zone notin (a)", True),
        ("app", True),
        ("zone", False),
        ("!zone", True),
        ("!app", False),
        ("n>4", True),
        ("n<5", False),
        ("app=web,tier in (front,back),!zone", True),
        ("app=web,tier=back", False),
        ("example.com/app", False),
    ],
)
def test_a_label_selector_text_selects(text: str, expected: bool) -> None:
    assert parse_labels(text)(WEB) is expected


@pytest.mark.parametrize("text", ["app=web=db", "in (a)", "app in a", "=web", "app in (a"])
def test_a_broken_label_selector_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="unable to parse requirement"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"app": "web"}, True),
        ({"app": "web", "tier": "back"}, False),
        ({}, True),
        (None, False),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        (
            {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]},
            False,
        ),
    ],
)
def test_a_selector_of_an_object_selects(selector: dict[str, object] | None, expected: bool) -> None:
    assert matches(selector, WEB) is expected


def test_a_label_selector_is_written_as_text_that_reads_back() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}],
    }
    text = selector_text(selector)
    assert text == "app=web,tier in (back,front)"
    assert parse_labels(text)(WEB)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.name=web", True),
        ("metadata.name!=web", False),
        ("spec.nodeName=node1", True),
        ("spec.nodeName=node1,status.phase!=Running", False),
        ("status.phase=Running,metadata.namespace=default", True),
        ("status.podIP=", True),  # an absent field is the empty text
    ],
)
def test_a_field_selector_selects_pods(text: str, expected: bool) -> None:
    obj = pod(spec={"nodeName": "node1"}, status={"phase": "Running"})
    assert parse_fields("Pod", text)(obj) is expected


def test_a_field_that_cannot_be_selected_by_is_refused() -> None:
    with pytest.raises(BadRequest, match="field label not supported"):
        parse_fields("Service", "spec.nodeName=node1")


def test_both_selectors_must_match() -> None:
    select = predicate("Pod", "app=web", "metadata.name=other")
    assert select is not None
    assert not select(pod())
    assert predicate("Pod") is None
