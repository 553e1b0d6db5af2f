"""Which address families a Service has, in this cluster: defaults, upgrade to dual stack, downgrade.

The part of admission that comes before addresses are handed out (``allocator``). ipFamilyPolicy is the
user's intent and never follows a change of the cluster by itself (KEP-563). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.api.objects import Obj
from controller.api.rules_families import HEADLESS, PREFER, REQUIRE, SINGLE, changed, family_of, related
from controller.api.status import INVALID, FieldError

_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}
_POLICY = "spec.ipFamilyPolicy"
_DUAL = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"


def choose(spec: Obj, old: Mapping[str, Any], there: Sequence[str]) -> list[FieldError]:
    """Fill in ``ipFamilyPolicy`` and ``ipFamilies``, in place; what is wrong, if anything.

    ``old``: the spec that is replaced, empty on create. ``there``: the cluster's families, the primary one
    first. Afterwards ``clusterIPs`` may be shorter than ``ipFamilies``: those are to be allocated.
    """
    if _is_untouched(spec, old):
        return []
    elsewhere = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = old.get("ipFamilyPolicy") or (REQUIRE if elsewhere else SINGLE)
    found = list(related(spec))
    if found:
        return found
    found = [*_fitted(spec, old), *_inferred(spec, there)]
    if found:
        return found
    if not elsewhere:
        found = list(_missing(spec, there))
        if found:
            return found
    families = spec.get("ipFamilies") or [there[0]]
    if len(families) == 1 and spec["ipFamilyPolicy"] != SINGLE and (elsewhere or len(there) == 2):
        families = [families[0], _OTHER[families[0]]]
    spec["ipFamilies"] = families
    return list(changed(spec, old)) if old else []


def _is_untouched(spec: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """A PreferDualStack Service of which nobody changed the families stays as it is, whatever the cluster
    has come to be."""
    return (
        old.get("ipFamilyPolicy") == spec.get("ipFamilyPolicy") == PREFER
        and spec.get("type") == old.get("type")
        and all(spec.get(word) == old.get(word) for word in ("clusterIP", "clusterIPs", "ipFamilies"))
    )


def _fitted(spec: Obj, old: Mapping[str, Any]) -> Iterator[FieldError]:
    """SingleStack alone is enough to let the second ones go; nothing else is."""
    policy = spec["ipFamilyPolicy"]
    for word, name, several in (
        ("clusterIPs", "cluster IP", "cluster IPs"), ("ipFamilies", "IP family", "IP families")
    ):  # fmt: skip
        before, after = list(old.get(word) or ()), list(spec.get(word) or ())
        if policy == SINGLE:
            if len(after) == 2 and after == before:
                spec[word] = after[:1]
            elif len(after) == 2:
                yield FieldError(_POLICY, INVALID, _DUAL.format(several), policy)
        elif len(before) == 2 and len(after) == 1:
            text = f"must be 'SingleStack' to release the secondary {name}"
            yield FieldError(_POLICY, INVALID, text, policy)


def _inferred(spec: Obj, there: Sequence[str]) -> Iterator[FieldError]:
    """An address tells its family."""
    addresses = spec.get("clusterIPs") or ()
    for index, address in enumerate(addresses):
        if address != HEADLESS and index >= len(spec.get("ipFamilies") or ()):
            family = family_of(address)
            if family in there:
                spec["ipFamilies"] = [*(spec.get("ipFamilies") or ()), family]
            else:
                text = f"{family} is not configured on this cluster"
                yield FieldError(f"spec.clusterIPs[{index}]", INVALID, text, addresses)


def _missing(spec: Mapping[str, Any], there: Sequence[str]) -> Iterator[FieldError]:
    if spec["ipFamilyPolicy"] == REQUIRE and len(there) < 2:
        yield FieldError(_POLICY, INVALID, "this cluster is not configured for dual-stack services", REQUIRE)
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in there:
            yield FieldError(f"spec.ipFamilies[{index}]", INVALID, "not configured on this cluster", family)
