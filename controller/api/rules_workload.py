"""Kubernetes' rules about what makes pods from a template, in Kubernetes' words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.api import rules_metadata as rules
from controller.api.objects import Obj, matches
from controller.api.rules_pod import pod_spec
from controller.api.status import FORBIDDEN, INVALID, REQUIRED, FieldError, unsupported

_PERCENT = re.compile("[0-9]+%")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%'"
    " (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)


def deployment(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    yield from _replicated(spec, old, "deployment")
    yield from _strategy(spec.get("strategy") or {})
    limit, deadline = spec.get("revisionHistoryLimit"), spec.get("progressDeadlineSeconds")
    yield from rules.not_negative("spec.revisionHistoryLimit", limit)
    yield from rules.not_negative("spec.progressDeadlineSeconds", deadline)
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        text = "must be greater than minReadySeconds"
        yield FieldError("spec.progressDeadlineSeconds", INVALID, text, deadline)


def replica_set(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    yield from _replicated(obj.get("spec") or {}, old, "replicaset")


def replication_controller(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    """Its selector is a plain map, and may be changed."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    yield from rules.not_negative("spec.replicas", spec.get("replicas"))
    yield from rules.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        yield FieldError("spec.selector", REQUIRED)
    yield from rules.labels("spec.selector", selector)
    if template is None:
        yield FieldError("spec.template", REQUIRED)
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector.items() <= labels.items():
        text = "`selector` does not match template `labels`"
        yield FieldError("spec.template.metadata.labels", INVALID, text, labels)
    yield from _template(template)


def stateful_set(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    yield from _replicated(spec, None, "statefulset")
    policies = ("OrderedReady", "Parallel")
    yield from rules.one_of("spec.podManagementPolicy", spec.get("podManagementPolicy"), policies)
    yield from _update_strategy(spec)
    first = (spec.get("ordinals") or {}).get("start")
    yield from rules.not_negative("spec.ordinals.start", first)
    if old is not None and _fixed(spec) != _fixed(old["spec"]):
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
            "'minReadySeconds' are forbidden"
        )
        yield FieldError("spec", FORBIDDEN, text)


def daemon_set(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    yield from _replicated(spec, old, "daemonset")
    yield from _update_strategy(spec)


_FIXED = ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates")


def _fixed(spec: Mapping[str, Any]) -> list[Any]:
    return [spec.get(word) for word in _FIXED]


def _update_strategy(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    kind = (spec.get("updateStrategy") or {}).get("type")
    yield from rules.one_of("spec.updateStrategy.type", kind, ("OnDelete", "RollingUpdate"))


def _replicated(spec: Mapping[str, Any], old: Obj | None, word: str) -> Iterator[FieldError]:
    yield from rules.not_negative("spec.replicas", spec.get("replicas"))
    yield from rules.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector, template = spec.get("selector"), spec.get("template") or {}
    broken: list[FieldError] = []
    if selector is None:
        yield FieldError("spec.selector", REQUIRED)
    else:
        broken = list(rules.label_selector("spec.selector", selector))
        yield from broken
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield FieldError("spec.selector", INVALID, f"empty selector is invalid for {word}", selector)
    metadata = template.get("metadata") or {}
    if selector and not broken and not matches(selector, metadata.get("labels")):
        text = "`selector` does not match template `labels`"
        yield FieldError("spec.template.metadata.labels", INVALID, text, metadata.get("labels") or {})
    claims = [(claim.get("metadata") or {}).get("name") for claim in spec.get("volumeClaimTemplates") or ()]
    yield from _template(template, claims)
    if old is not None and selector != old["spec"].get("selector"):
        yield FieldError("spec.selector", INVALID, "field is immutable", selector)


def _template(template: Mapping[str, Any], claims: Iterable[Any] = ()) -> Iterator[FieldError]:
    """``claims``: names of volumes that a StatefulSet's claim templates add."""
    yield from rules.template_metadata(template.get("metadata") or {}, "spec.template.metadata")
    yield from pod_spec(template.get("spec") or {}, "spec.template.spec", claims)
    restart = (template.get("spec") or {}).get("restartPolicy")
    if restart not in (None, "Always"):
        yield unsupported("spec.template.spec.restartPolicy", restart, ("Always",))


def _strategy(strategy: Mapping[str, Any]) -> Iterator[FieldError]:
    path, kind, rolling = "spec.strategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind not in ("Recreate", "RollingUpdate"):
        yield unsupported(path, kind, ("Recreate", "RollingUpdate"))
    if rolling is None:
        return
    if kind == "Recreate":
        text = "may not be specified when strategy `type` is 'Recreate'"
        yield FieldError(f"{path}.rollingUpdate", FORBIDDEN, text)
        return
    path += ".rollingUpdate"
    for word in ("maxUnavailable", "maxSurge"):
        value = rolling.get(word)
        if isinstance(value, str) and not _PERCENT.fullmatch(value):
            yield FieldError(f"{path}.{word}", INVALID, _PERCENT_TEXT, value)
        elif isinstance(value, int):
            yield from rules.not_negative(f"{path}.{word}", value)
    unavailable = rolling.get("maxUnavailable")
    if isinstance(unavailable, str) and _PERCENT.fullmatch(unavailable) and int(unavailable[:-1]) > 100:
        yield FieldError(f"{path}.maxUnavailable", INVALID, "must not be greater than 100%", unavailable)
    if _is_zero(unavailable) and _is_zero(rolling.get("maxSurge")):
        text = "may not be 0 when `maxSurge` is 0"
        yield FieldError(f"{path}.maxUnavailable", INVALID, text, unavailable)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")
