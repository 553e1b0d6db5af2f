"""Kubernetes' rules about a Service's address families: clusterIPs, ipFamilies, ipFamilyPolicy. Pure.

What holds in every cluster. Whether this one has the families that are asked for, and which address is
free, are questions to ``controller.managers.families`` and the allocator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from controller.api import rules_metadata as rules
from controller.api.status import DUPLICATE, INVALID, FieldError

HEADLESS = "None"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_FAMILIES = ("IPv4", "IPv6")
_POLICIES = (PREFER, REQUIRE, SINGLE)
_IPS, _FAMILIES_PATH, _POLICY = "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"


def family_of(address: str) -> str:
    """``IPv4`` or ``IPv6``; raises ValueError."""
    return f"IPv{ip_address(rules.decimal(address)).version}"


def related(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    """Whether the fields make sense beside each other. ``clusterIPs`` may be left out where ``clusterIP``
    is given: it is filled in at admission."""
    first, addresses = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or ())
    if not first and addresses:
        yield FieldError(_IPS, INVALID, "must be empty when `clusterIP` is not specified", addresses)
    elif first and addresses and addresses[0] != first:
        yield FieldError(_IPS, INVALID, "first value must match `clusterIP`", addresses)
    families = list(spec.get("ipFamilies") or ())
    for index, family in enumerate(families):
        yield from rules.one_of(f"{_FAMILIES_PATH}[{index}]", family, _FAMILIES)
        if family in families[:index]:
            yield FieldError(f"{_FAMILIES_PATH}[{index}]", DUPLICATE, value=family)
    yield from rules.one_of(_POLICY, spec.get("ipFamilyPolicy"), _POLICIES)
    yield from _addresses(addresses or ([first] if first else []), families)


def _addresses(addresses: list[str], families: list[str]) -> Iterator[FieldError]:
    broken = False
    for index, text in enumerate(addresses):
        if index == 0 and text == HEADLESS:
            if len(addresses) > 1:
                broken = True
                yield FieldError(_IPS, INVALID, "'None' must be the first and only value", addresses)
        else:
            wrong = rules.address(rules.decimal(text))
            broken = broken or bool(wrong)
            yield from (FieldError(f"{_IPS}[{index}]", INVALID, told, text) for told in wrong)
    if len(addresses) > 2:
        yield FieldError(_IPS, INVALID, "may only hold up to 2 values", addresses)
    if broken or addresses[:1] == [HEADLESS]:
        return
    if len(addresses) > 1 and len({family_of(text) for text in addresses}) < len(addresses[:2]):
        text = "may specify no more than one IP for each IP family"
        yield FieldError(_IPS, INVALID, text, addresses)
    for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
        if family in _FAMILIES and family_of(address) != family:
            told = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            yield FieldError(f"{_IPS}[{index}]", INVALID, told, address)


def changed(spec: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[FieldError]:
    """What may not become of a Service that has addresses: the first address and family stay, the second
    ones come and go with the policy."""
    if "ExternalName" in (spec.get("type"), old.get("type")):
        return
    was, now = old.get("clusterIP") == HEADLESS, spec.get("clusterIP") == HEADLESS
    if not (was and now):
        yield from _kept(
            spec, list(old.get("clusterIPs") or ()), list(spec.get("clusterIPs") or ()),
            path=_IPS, name="clusterIP", each=True,
        )  # fmt: skip
    if not was and not now:
        yield from _kept(
            spec, list(old.get("ipFamilies") or ()), list(spec.get("ipFamilies") or ()),
            path=_FAMILIES_PATH, name="ipFamily", each=False,
        )  # fmt: skip


def _kept(
    spec: Mapping[str, Any], before: list[str], after: list[str], *, path: str, name: str, each: bool
) -> Iterator[FieldError]:
    """``each``: the error names the place that changed, not just the list's first."""
    if len(before) == len(after):
        for index, value in enumerate(before):
            if value != after[index]:
                at = f"{path}[{index if each else 0}]"
                yield FieldError(at, INVALID, "may not change once set", after)
        return
    if before and not after:
        yield FieldError(f"{path}[0]", INVALID, f"primary {name} can not be unset", after)
    elif before and after[0] != before[0]:
        yield FieldError(f"{path}[0]", INVALID, "may not change once set", after)
    if len(before) > len(after) == 1 and spec.get("ipFamilyPolicy") != SINGLE:
        text = f"must be set to 'SingleStack' when releasing the secondary {name}"
        yield FieldError(_POLICY, INVALID, text, spec.get("ipFamilyPolicy"))
