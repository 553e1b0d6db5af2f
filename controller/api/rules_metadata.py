"""What Kubernetes accepts as names, labels, annotations, finalizers and owners, and how it says no.

Pure generators of FieldErrors. The format checks here are used by the rules of every kind; the texts
are Kubernetes' (apimachinery's validation package), double spaces included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from controller.api.objects import Obj
from controller.api.status import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, TOO_LONG, FieldError, unsupported

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"

_IS_LABEL = re.compile(_LABEL)
_IS_LABEL_1035 = re.compile(_LABEL_1035)
_IS_SUBDOMAIN = re.compile(_SUBDOMAIN)
_IS_QUALIFIED = re.compile(_QUALIFIED)
_IS_LABEL_VALUE = re.compile(_LABEL_VALUE)

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and"
    " end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    f" '{_LABEL}')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for"
    f" validation is '{_LABEL_1035}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    f" '{_SUBDOMAIN}')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    f" '{_QUALIFIED}')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used"
    f" for validation is '{_LABEL_VALUE}')"
)
_ANNOTATIONS_LIMIT = 256 * 1024
_LINK_LOCAL_MULTICAST = (ip_network("224.0.0.0/24"), ip_network("ff02::/16"))


def _no_more_than(length: int) -> str:
    return f"must be no more than {length} characters"


def dns_label(value: str) -> list[str]:
    """What is wrong with a DNS-1123 label; an empty list when nothing is. So are all below."""
    return _dns(value, 63, _IS_LABEL, _LABEL_TEXT)


def dns_label_1035(value: str) -> list[str]:
    return _dns(value, 63, _IS_LABEL_1035, _LABEL_1035_TEXT)


def dns_subdomain(value: str) -> list[str]:
    return _dns(value, 253, _IS_SUBDOMAIN, _SUBDOMAIN_TEXT)


def _dns(value: str, limit: int, pattern: re.Pattern[str], text: str) -> list[str]:
    found = [_no_more_than(limit)] if len(value) > limit else []
    return found if pattern.fullmatch(value) else [*found, text]


def path_segment(value: str) -> list[str]:
    """Names of RBAC objects: anything that can stand in a URL path."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in value]


def qualified_name(value: str) -> list[str]:
    prefix, slash, name = value.rpartition("/")
    found: list[str] = []
    if slash and not prefix:
        found.append("prefix part must be non-empty")
    elif prefix:
        found += [f"prefix part {text}" for text in dns_subdomain(prefix)]
    if not name:
        found.append("name part must be non-empty")
    elif len(name) > 63:
        found.append("name part " + _no_more_than(63))
    return found if _IS_QUALIFIED.fullmatch(name) else [*found, _QUALIFIED_TEXT]


def label_value(value: str) -> list[str]:
    found = [_no_more_than(63)] if len(value) > 63 else []
    return found if _IS_LABEL_VALUE.fullmatch(value) else [*found, _LABEL_VALUE_TEXT]


def port_name(value: str) -> list[str]:
    """An IANA service name, as container ports and targetPort use it."""
    found: list[str] = []
    if len(value) > 15:
        found.append(_no_more_than(15))
    if not re.fullmatch("[-a-z0-9]+", value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        found.append("must not begin or end with a hyphen")
    return found


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def address(value: str) -> list[str]:
    try:
        ip_address(value)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return []


def endpoint_address(value: str) -> list[str]:
    """An address that traffic can be sent on to: no address that each host keeps for itself."""
    wrong = address(value)
    if wrong:
        return wrong
    parsed = ip_address(value)
    if parsed.is_unspecified:
        return ["may not be unspecified (0.0.0.0 or ::)"]
    if parsed.is_loopback:
        return ["may not be in the loopback range (127.0.0.0/8, ::1/128)"]
    if parsed.is_link_local:
        return ["may not be in the link-local range (169.254.0.0/16, fe80::/10)"]
    if any(parsed in network for network in _LINK_LOCAL_MULTICAST if network.version == parsed.version):
        return ["may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"]
    return []


def decimal(value: str) -> str:
    """An IPv4 address as Kubernetes has always read it: 10.96.0.011 is 10.96.0.11, leading zeros are no
    octal numbers (CVE-2021-29923). Everything else comes back as it is."""
    parts = value.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
        return ".".join(str(int(part)) for part in parts)
    return value


def is_valid(field: str, value: Any, check: Callable[[Any], list[str]]) -> Iterator[FieldError]:
    """One error for each thing a format check finds."""
    for text in check(value):
        yield FieldError(field, INVALID, text, value)


def one_of(field: str, value: Any, allowed: tuple[str, ...]) -> Iterator[FieldError]:
    """Absent values are for defaults or for a required-check to deal with."""
    if value is not None and value not in allowed:
        yield unsupported(field, value, allowed)


def not_negative(field: str, value: int | None) -> Iterator[FieldError]:
    if value is not None and value < 0:
        yield FieldError(field, INVALID, "must be greater than or equal to 0", value)


def labels(field: str, value: Mapping[str, str] | None) -> Iterator[FieldError]:
    for key, text in (value or {}).items():
        yield from is_valid(field, key, qualified_name)
        yield from is_valid(field, text, label_value)


_SELECTOR_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def label_selector(field: str, selector: Mapping[str, Any]) -> Iterator[FieldError]:
    yield from labels(f"{field}.matchLabels", selector.get("matchLabels"))
    for index, rule in enumerate(selector.get("matchExpressions") or ()):
        path, operator, values = (
            f"{field}.matchExpressions[{index}]",
            rule.get("operator"),
            rule.get("values"),
        )
        yield from is_valid(f"{path}.key", rule.get("key") or "", qualified_name)
        if operator in ("In", "NotIn") and not values:
            yield FieldError(
                f"{path}.values", REQUIRED, "must be specified when `operator` is 'In' or 'NotIn'"
            )
        if operator in ("Exists", "DoesNotExist") and values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield FieldError(f"{path}.values", FORBIDDEN, text)
        if operator not in _SELECTOR_OPERATORS:
            yield FieldError(f"{path}.operator", INVALID, "not a valid selector operator", operator)
        for at, text in enumerate(values or ()):
            yield from is_valid(f"{path}.values[{at}]", text, label_value)


_NAMES: Mapping[str, Callable[[str], list[str]]] = {
    "Namespace": dns_label,
    "Service": dns_label_1035,
    "IPAddress": path_segment,
    "Role": path_segment,
    "RoleBinding": path_segment,
    "ClusterRole": path_segment,
    "ClusterRoleBinding": path_segment,
}
"""What a name must look like, where it is not a DNS-1123 subdomain."""


def metadata(obj: Obj, field: str = "metadata") -> Iterator[FieldError]:
    """An object's own metadata. A pod template's is checked with ``template_metadata``."""
    found = obj["metadata"]
    yield from is_valid(f"{field}.name", found["name"], _NAMES.get(obj["kind"], dns_subdomain))
    if found.get("namespace"):
        yield from is_valid(f"{field}.namespace", found["namespace"], dns_label)
    yield from template_metadata(found, field)
    for index, word in enumerate(found.get("finalizers") or ()):
        yield from is_valid(f"{field}.finalizers[{index}]", word, qualified_name)
    controllers = 0
    for index, owner in enumerate(found.get("ownerReferences") or ()):
        path = f"{field}.ownerReferences[{index}]"
        for word in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(word):
                yield FieldError(f"{path}.{word}", REQUIRED, f"{word} must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        text = "Only one reference can have Controller set to true"
        yield FieldError(f"{field}.ownerReferences", INVALID, text, found["ownerReferences"])


def no_new_finalizers(obj: Obj, old: Obj) -> Iterator[FieldError]:
    """Once an object is being deleted, finalizers can only be taken off."""
    if old["metadata"].get("deletionTimestamp"):
        held = old["metadata"].get("finalizers") or ()
        added = [word for word in obj["metadata"].get("finalizers") or () if word not in held]
        if added:
            text = (
                f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            )
            yield FieldError("metadata.finalizers", FORBIDDEN, text)


def template_metadata(found: Mapping[str, Any], field: str) -> Iterator[FieldError]:
    yield from labels(f"{field}.labels", found.get("labels"))
    size = 0
    for key, text in (found.get("annotations") or {}).items():
        yield from is_valid(f"{field}.annotations", key, lambda word: qualified_name(word.lower()))
        size += len(key) + len(text)
    if size > _ANNOTATIONS_LIMIT:
        yield FieldError(f"{field}.annotations", TOO_LONG, f"may not be more than {_ANNOTATIONS_LIMIT} bytes")


def duplicates(field: str, word: str, items: list[Obj]) -> Iterator[FieldError]:
    """Items of a list that carry a value of ``word`` an earlier one carries."""
    seen: set[Any] = set()
    for index, item in enumerate(items):
        value = item.get(word)
        if value in (None, ""):
            continue
        if value in seen:
            yield FieldError(f"{field}[{index}].{word}", DUPLICATE, value=value)
        seen.add(value)
