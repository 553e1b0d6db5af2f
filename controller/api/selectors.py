"""Label and field selectors: which objects a list, a watch or a controller means.

Pure. One grammar for labels (Kubernetes' ``k=v, k!=v, k in (a,b), k notin (a), k, !k, k>1``) and one
table of the fields each kind may be selected by; any other field is refused, as Kubernetes does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from controller.api.errors import BadRequest

Labels = Mapping[str, str]
Predicate = Callable[[Mapping[str, Any]], bool]
"""Takes a whole object."""

_KEY = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_.]*(?:/[A-Za-z0-9][-A-Za-z0-9_.]*)?)"
_VALUE = r"[-A-Za-z0-9_.]*"
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<absent>!)\s*{_KEY}"
    rf"|{_KEY.replace('<key>', '<set_key>')}\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|{_KEY.replace('<key>', '<op_key>')}\s*(?P<op>==|=|!=|>|<)\s*(?P<value>{_VALUE})"
    rf"|{_KEY.replace('<key>', '<bare>')})\s*(?:,|$)"
)

_Test = Callable[[Labels], bool]


def _test(key: str, operator: str, values: frozenset[str]) -> _Test:
    """One requirement. ``notin`` and ``!=`` also match objects without the key (Kubernetes' rule)."""
    if operator == "in":
        return lambda labels: labels.get(key) in values
    if operator == "notin":
        return lambda labels: labels.get(key) not in values
    if operator == "exists":
        return lambda labels: key in labels
    if operator == "absent":
        return lambda labels: key not in labels
    (limit,) = values
    if not limit.lstrip("-").isdigit():
        raise BadRequest(f'for operator {operator!r} the value must be an integer, not "{limit}"')
    above = operator == ">"

    def compare(labels: Labels) -> bool:
        text = labels.get(key, "")
        if not text.lstrip("-").isdigit():
            return False
        return int(text) > int(limit) if above else int(text) < int(limit)

    return compare


def parse_labels(text: str) -> _Test:
    """A test of a label map from a ``labelSelector`` text; the empty text matches everything."""
    tests: list[_Test] = []
    at = 0
    while at < len(text.rstrip()):
        found = _REQUIREMENT.match(text, at)
        if not found:
            raise BadRequest(f'unable to parse requirement: invalid label selector "{text}"')
        at = found.end()
        if found["absent"]:
            tests.append(_test(found["key"], "absent", frozenset()))
        elif found["set"]:
            values = frozenset(value.strip() for value in found["values"].split(","))
            tests.append(_test(found["set_key"], found["set"], values))
        elif found["op"]:
            operator = {"=": "in", "==": "in", "!=": "notin"}.get(found["op"], found["op"])
            tests.append(_test(found["op_key"], operator, frozenset([found["value"]])))
        else:
            tests.append(_test(found["bare"], "exists", frozenset()))
    return lambda labels: all(test(labels) for test in tests)


_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}


def matches(selector: str | Mapping[str, Any] | None, labels: Labels | None) -> bool:
    """Whether labels satisfy a selector.

    ``selector`` is a selector text, a plain map (``Service.spec.selector``) or a LabelSelector
    (``matchLabels`` / ``matchExpressions``). An empty one matches everything, None matches nothing;
    what a missing Service selector means is the caller's business.
    """
    if selector is None:
        return False
    labels = labels or {}
    if isinstance(selector, str):
        return parse_labels(selector)(labels)
    wanted: Mapping[str, Any] = selector
    if isinstance(selector.get("matchLabels"), Mapping) or isinstance(selector.get("matchExpressions"), list):
        for rule in selector.get("matchExpressions") or ():
            test = _test(rule["key"], _OPERATORS[rule["operator"]], frozenset(rule.get("values") or ()))
            if not test(labels):
                return False
        wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector or plain map as text, as ``Scale.status.selector`` wants it."""
    selector = selector or {}
    rules = selector.get("matchExpressions") or ()
    plain = selector.get("matchLabels") or {}
    if not rules and not isinstance(selector.get("matchLabels"), Mapping):
        plain = {key: value for key, value in selector.items() if isinstance(value, str)}
    parts = [f"{key}={value}" for key, value in sorted(plain.items())]
    for rule in rules:
        word, values = rule["key"], ",".join(sorted(rule.get("values") or ()))
        texts = {"In": f"{word} in ({values})", "NotIn": f"{word} notin ({values})",
                 "Exists": word, "DoesNotExist": f"!{word}"}  # fmt: skip
        parts.append(texts[rule["operator"]])
    return ",".join(parts)


_EVERY_KIND = ("metadata.name", "metadata.namespace")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
            "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
    "Node": ("spec.unschedulable",),
    "Namespace": ("status.phase",),
    "Service": ("spec.clusterIP", "spec.type"),
    "ReplicaSet": ("status.replicas",),
    "Event": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
              "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
              "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
    "Secret": ("type",),
    "Job": ("status.successful",),
}  # fmt: skip
"""The fields a kind may be selected by, beside its name and namespace."""

_FIELD = re.compile(r"([A-Za-z.]+)(==|=|!=)(.*)", re.DOTALL)


def parse_fields(kind: str, text: str) -> Predicate:
    """A test of an object from a ``fieldSelector`` text like ``spec.nodeName=node1,status.phase!=Failed``."""
    tests: list[tuple[tuple[str, ...], bool, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _FIELD.fullmatch(part)
        if not found:
            raise BadRequest(f"invalid field selector {text!r}; can't understand {part!r}")
        path, operator, value = found.groups()
        if path not in _EVERY_KIND and path not in FIELDS.get(kind, ()):
            raise BadRequest(f'field label not supported: "{path}" (kind {kind})')
        tests.append((tuple(path.split(".")), operator != "!=", value))
    return lambda obj: all((_field(obj, path) == value) is wanted for path, wanted, value in tests)


def _field(obj: Mapping[str, Any], path: tuple[str, ...]) -> str:
    at: Any = obj
    for step in path:
        at = at.get(step) if isinstance(at, Mapping) else None
    if path == ("source",) and isinstance(at, Mapping):  # Event: the component stands for the source
        at = at.get("component")
    if isinstance(at, bool):
        return "true" if at else "false"
    return "" if at is None else str(at)


def predicate(kind: str, labels: str = "", fields: str = "") -> Predicate | None:
    """Both selectors as one test of an object; None when they select everything."""
    by_label = parse_labels(labels) if labels.strip() else None
    by_field = parse_fields(kind, fields) if fields.strip() else None
    if by_label is None:
        return by_field
    label_test = by_label

    def both(obj: Mapping[str, Any]) -> bool:
        if by_field is not None and not by_field(obj):
            return False
        return label_test(obj["metadata"].get("labels") or {})

    return both
