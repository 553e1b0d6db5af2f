"""What a name asks for: the labels below a zone, read as CoreDNS' kubernetes plugin reads them. Pure.

A name is a tuple of labels without the root, as asked (case and odd bytes kept, one character a byte).
Which objects answer is ``records``'.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Name = tuple[str, ...]
Address = IPv4Address | IPv6Address

SERVICE, POD = "svc", "pod"
PIN, PREFER = "pin", "prefer"
_ZONE_LABEL = "_zone"
REVERSE_V4, REVERSE_V6 = ("in-addr", "arpa"), ("ip6", "arpa")


class NoSuchName(Exception):
    """Nothing in the zone has or can have this name: NXDOMAIN."""


def name_of(text: str) -> Name:
    """A name from its text; the root is the empty tuple. For names that hold no escapes."""
    return tuple(text.rstrip(".").split(".")) if text.strip(".") else ()


def text_of(name: Name) -> str:
    """For logs and metrics only: odd bytes are not escaped."""
    return ".".join(name) + "."


def lower(name: Name) -> Name:
    return tuple(label.lower() for label in name)


def is_below(name: Name, zone: Name) -> bool:
    """Whether the name is the zone's apex or lies under it; both in lower case."""
    return not zone or name[-len(zone) :] == zone


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the labels before ``svc.ZONE`` or ``pod.ZONE`` name, in lower case; "" where nothing is said.

    ``kind`` "" is the zone itself. ``zone`` and ``spread`` (pin or prefer) come from zonal names.
    """

    kind: str = ""
    namespace: str = ""
    service: str = ""
    endpoint: str = ""
    port: str = ""
    protocol: str = ""
    zone: str = ""
    spread: str = ""


def parse(labels: Name, *, zonal: bool = False) -> Request:
    """The labels left of the zone. NoSuchName for what no object can answer (too long, not svc or pod)."""
    words = [label.lower() for label in labels]
    if not words or words in ([SERVICE], [POD]):
        return Request()
    kind = words.pop()
    if kind not in (SERVICE, POD):
        raise NoSuchName
    namespace = words.pop()
    service = words.pop() if words else ""
    if zonal and kind == SERVICE and len(words) == 3 and words[2] == _ZONE_LABEL:
        if words[1] not in (PIN, PREFER):
            raise NoSuchName
        return Request(kind=kind, namespace=namespace, service=service, zone=words[0], spread=words[1])
    match words:
        case []:
            return Request(kind=kind, namespace=namespace, service=service)
        case [endpoint]:
            return Request(kind=kind, namespace=namespace, service=service, endpoint=endpoint)
        case [port, protocol]:
            return Request(
                kind=kind,
                namespace=namespace,
                service=service,
                port=port.removeprefix("_"),
                protocol=protocol.removeprefix("_"),
            )
    raise NoSuchName


def is_reverse(name: Name) -> bool:
    low = lower(name)
    return is_below(low, REVERSE_V4) or is_below(low, REVERSE_V6)


def reverse_address(name: Name) -> Address | None:
    """The address a whole reverse name stands for; None for every other name."""
    low = lower(name)
    try:
        if len(low) == 6 and is_below(low, REVERSE_V4):
            return IPv4Address(".".join(reversed(low[:4])))
        if len(low) == 34 and is_below(low, REVERSE_V6) and all(len(nibble) == 1 for nibble in low[:32]):
            return IPv6Address(int("".join(reversed(low[:32])), 16))
    except ValueError:
        pass
    return None


def reverse_name(address: Address | str) -> Name:
    """``10.0.96.10.in-addr.arpa`` or the nibbles under ip6.arpa."""
    return name_of(ip_address(address).reverse_pointer)


def dashed(address: Address | str) -> str:
    """The label CoreDNS makes of an endpoint without a host name: ``10-244-1-2``, ``fd00--1``."""
    return str(address).replace(".", "-").replace(":", "-")


def undashed(label: str) -> Address | None:
    """The address behind a pod's label; None when it is none."""
    separator = "." if label.count("-") == 3 and "--" not in label else ":"
    try:
        return ip_address(label.replace("-", separator))
    except ValueError:
        return None
