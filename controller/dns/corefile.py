"""The Corefile: CoreDNS' configuration, the directives a cluster's file has. Pure.

``parse`` reads text into server blocks; every mistake is a CorefileError with its line. A directive that
is not known here is a mistake, as an unknown plugin is to CoreDNS.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from controller.dns.names import Name, lower, name_of, text_of
from controller.dns.records import Options

DEFAULT = """\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""
"""kubeadm's."""
RESOLV_CONF = "/etc/resolv.conf"


class CorefileError(ValueError):
    """What is wrong, and in which line."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """``to`` are addresses with ports, or the path of a resolv.conf."""

    zone: Name = ()
    to: tuple[str, ...] = ()
    but: tuple[Name, ...] = ()
    policy: str = "random"
    force_tcp: bool = False
    max_concurrent: int = 0


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Seconds that others' answers are kept at most; zones for which they are not."""

    success: int = 3600
    denial: int = 1800
    zones: tuple[Name, ...] = ((),)
    no_success: tuple[Name, ...] = ()
    no_denial: tuple[Name, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Block:
    """One server block: what is answered for ``zones`` on ``port``."""

    zones: tuple[Name, ...] = ((),)
    port: int = 53
    kubernetes: Options | None = None
    hosts: tuple[tuple[Name, str], ...] = ()
    forwards: tuple[Forward, ...] = ()
    cache: Cache | None = None
    loadbalance: bool = False
    bufsize: int = 0
    log: bool = False
    errors: bool = False
    health: int = 0
    ready: int = 0
    prometheus: int = 0
    lameduck: float = 0


@dataclass
class Directive:
    line: int
    words: list[str]
    body: list[Directive] = field(default_factory=list)


def parse(text: str) -> tuple[Block, ...]:
    """All server blocks; CorefileError when there is none or anything is wrong."""
    blocks = tuple(block for directive in _directives(_lines(text), 0) for block in _block(directive))
    if not blocks:
        raise CorefileError("the Corefile has no server block")
    seen: set[tuple[Name, int]] = set()
    for block in blocks:
        for zone in block.zones:
            if (zone, block.port) in seen:
                raise CorefileError(f"cannot serve dns://{text_of(zone)}:{block.port}: it is already defined")
            seen.add((zone, block.port))
    return blocks


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise CorefileError(f"line {number}: {error}") from None
        if words:
            yield number, words


def _directives(lines: Iterator[tuple[int, list[str]]], depth: int) -> list[Directive]:
    found: list[Directive] = []
    for number, words in lines:
        if words == ["}"]:
            if not depth:
                raise CorefileError(f"line {number}: unexpected '}}'")
            return found
        opens = words[-1] == "{"
        made = Directive(number, words[:-1] if opens else words)
        if not made.words or "{" in made.words or "}" in made.words:
            raise CorefileError(f"line {number}: a brace out of place")
        if opens:
            made.body = _directives(lines, depth + 1)
        elif not depth:
            raise CorefileError(f"line {number}: a server block {words[0]!r} without '{{'")
        found.append(made)
    if depth:
        raise CorefileError("unexpected end of the Corefile: a '}' is missing")
    return found


def _block(directive: Directive) -> list[Block]:
    """One Block for each port the keys name."""
    by_port: dict[int, list[Name]] = {}
    for key in " ".join(directive.words).replace(",", " ").split():
        scheme, found, rest = key.rpartition("://")
        if found and scheme != "dns":
            raise CorefileError(f"line {directive.line}: {key}: only dns:// is served")
        zone, _, port = rest.partition(":") if rest.count(":") < 2 else (rest, "", "")
        by_port.setdefault(_number(directive, port or "53"), []).extend(_zones(directive, [zone]))
    values: dict[str, object] = {}
    forwards: list[Forward] = []
    zones = tuple(zone for found in by_port.values() for zone in found)
    for inner in directive.body:
        plugin = inner.words[0]
        if plugin == "forward":
            forwards.append(_forward(inner))
            continue
        if plugin not in _PLUGINS:
            raise CorefileError(f"line {inner.line}: Unknown directive '{plugin}'")
        values |= _PLUGINS[plugin](inner, zones)
    return [
        Block(zones=tuple(found), port=port, forwards=tuple(forwards), **values)  # type: ignore[arg-type]
        for port, found in by_port.items()
    ]


# -- plugins


def _kubernetes(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    values: dict[str, object] = {"zones": _zones(directive, directive.words[1:]) or zones}
    for option in directive.body:
        word, arguments = option.words[0], option.words[1:]
        match word:
            case "pods":
                values["pods"] = _choice(option, "disabled", "insecure", "verified")
            case "namespaces":
                values["namespaces"] = tuple(arguments)
            case "labels" | "namespace_labels":
                values[word] = " ".join(arguments)
            case "endpoint_pod_names" | "noendpoints" | "zonal":
                values[word] = True
            case "ttl":
                ttl = _number(option, *arguments)
                if not 0 <= ttl <= 3600:
                    raise CorefileError(f"line {option.line}: ttl must be in range [0, 3600]: {ttl}")
                values["ttl"] = ttl
            case "fallthrough":
                values["fallthrough"] = _zones(option, arguments)
            case "ignore" if arguments == ["empty_service"]:
                values["ignore_empty_service"] = True
            case "endpoint" | "tls" | "kubeconfig" | "startup_timeout" | "upstream":
                pass  # our way to the API server is the pod's own
            case _:
                raise CorefileError(f"line {option.line}: unknown property '{' '.join(option.words)}'")
    return {"kubernetes": Options(**values)}  # type: ignore[arg-type]


def _forward(directive: Directive) -> Forward:
    if len(directive.words) < 3:
        raise CorefileError(f"line {directive.line}: forward FROM TO...: not enough arguments")
    (zone,) = _zones(directive, directive.words[1:2])
    values: dict[str, object] = {
        "zone": zone,
        "to": tuple(_upstream(directive, w) for w in directive.words[2:]),
    }
    for option in directive.body:
        match option.words[0]:
            case "except":
                values["but"] = _zones(option, option.words[1:])
            case "policy":
                values["policy"] = _choice(option, "random", "round_robin", "sequential")
            case "force_tcp":
                values["force_tcp"] = True
            case "max_concurrent":
                values["max_concurrent"] = _number(option, *option.words[1:])
            case "prefer_udp" | "expire" | "max_fails" | "health_check":
                pass
            case word:
                raise CorefileError(f"line {option.line}: unknown property '{word}'")
    return Forward(**values)  # type: ignore[arg-type]


def _upstream(directive: Directive, text: str) -> str:
    if text.startswith("/"):
        return text
    scheme, found, rest = text.rpartition("://")
    if found and scheme != "dns":
        raise CorefileError(f"line {directive.line}: {text}: only dns:// is spoken")
    address, _, port = rest.rpartition(":") if rest.count(":") == 1 or "]" in rest else (rest, "", "53")
    try:
        return f"{ip_address(address.strip('[]'))} {int(port)}"
    except ValueError:
        raise CorefileError(f"line {directive.line}: not an IP address or file: {text!r}") from None


def _cache(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    values: dict[str, object] = {}
    words = directive.words[1:]
    if words and words[0].isdigit():
        seconds = int(words.pop(0))
        values = {"success": min(seconds, 3600), "denial": min(seconds, 1800)}
    values["zones"] = _zones(directive, words) or zones
    for option in directive.body:
        match option.words:
            case ["disable", "success" | "denial" as what, *of]:
                values[f"no_{what}"] = _zones(option, of) or zones
            case ["success" | "denial" as what, _, ttl, *_]:
                values[what] = _number(option, ttl)
            case ["success" | "denial" | "prefetch" | "serve_stale" | "servfail" | "keepttl", *_]:
                pass
            case _:
                raise CorefileError(f"line {option.line}: unknown property '{option.words[0]}'")
    return {"cache": Cache(**values)}  # type: ignore[arg-type]


def _hosts(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    found: list[tuple[Name, str]] = []
    for entry in directive.body:
        if entry.words[0] in ("fallthrough", "ttl", "no_reverse", "reload"):
            continue
        try:
            address = str(ip_address(entry.words[0]))
        except ValueError:
            raise CorefileError(f"line {entry.line}: not an IP address: {entry.words[0]!r}") from None
        found += [(lower(name_of(word)), address) for word in entry.words[1:]]
    return {"hosts": tuple(found)}


def _health(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    lameduck = 0.0
    for option in directive.body:
        if option.words[0] != "lameduck" or len(option.words) != 2:
            raise CorefileError(f"line {option.line}: unknown property '{option.words[0]}'")
        lameduck = _seconds(option, option.words[1])
    return {"health": _port(directive, 8080), "lameduck": lameduck}


def _bufsize(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    size = _number(directive, *directive.words[1:]) if directive.words[1:] else 1232
    if not 512 <= size <= 4096:
        raise CorefileError(f"line {directive.line}: bufsize must be within 512 - 4096, not {size}")
    return {"bufsize": size}


def _loadbalance(directive: Directive, zones: tuple[Name, ...]) -> dict[str, object]:
    if directive.words[1:] not in ([], ["round_robin"]):
        raise CorefileError(f"line {directive.line}: unknown policy: {directive.words[1]}")
    return {"loadbalance": True}


_Plugin = Callable[[Directive, tuple[Name, ...]], dict[str, object]]
_PLUGINS: Mapping[str, _Plugin] = {
    "kubernetes": _kubernetes,
    "cache": _cache,
    "hosts": _hosts,
    "health": _health,
    "bufsize": _bufsize,
    "loadbalance": _loadbalance,
    "ready": lambda directive, zones: {"ready": _port(directive, 8181)},
    "prometheus": lambda directive, zones: {"prometheus": _port(directive, 9153)},
    "log": lambda directive, zones: {"log": True},
    "errors": lambda directive, zones: {"errors": True},
    "loop": lambda directive, zones: {},  # nothing is ever forwarded to the server's own addresses
    "reload": lambda directive, zones: {},  # a changed ConfigMap is always taken at once
    "bind": lambda directive, zones: {},
}

# -- words


def _zones(directive: Directive, words: Sequence[str]) -> tuple[Name, ...]:
    """Zones in lower case; a CIDR stands for its reverse zone."""
    found = []
    for word in words:
        if "/" in word:
            found.append(_reverse_zone(directive, word))
            continue
        name = lower(name_of(word))
        if any(not 0 < len(label) < 64 for label in name) or len(word) > 253:
            raise CorefileError(f"line {directive.line}: {word!r} is not a domain name")
        found.append(name)
    return tuple(found)


def _reverse_zone(directive: Directive, word: str) -> Name:
    try:
        net: IPv4Network | IPv6Network = ip_network(word, strict=False)
    except ValueError:
        raise CorefileError(f"line {directive.line}: {word!r} is not a CIDR") from None
    bits = 8 if net.version == 4 else 4
    if net.prefixlen % bits:
        raise CorefileError(f"line {directive.line}: {word}: the prefix must be a multiple of {bits}")
    whole = name_of(net.network_address.reverse_pointer)
    return whole[(net.max_prefixlen - net.prefixlen) // bits :]


def _choice(directive: Directive, *known: str) -> str:
    if len(directive.words) != 2 or directive.words[1] not in known:
        raise CorefileError(f"line {directive.line}: {directive.words[0]}: one of {', '.join(known)}")
    return directive.words[1]


def _number(directive: Directive, *words: str) -> int:
    if len(words) != 1 or not words[0].isdigit():
        raise CorefileError(f"line {directive.line}: {directive.words[0]}: a number is needed")
    return int(words[0])


def _port(directive: Directive, default: int) -> int:
    if len(directive.words) < 2:
        return default
    return _number(directive, directive.words[1].rpartition(":")[2])


def _seconds(directive: Directive, text: str) -> float:
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit) and text.removesuffix(unit).replace(".", "", 1).isdigit():
            return float(text.removesuffix(unit)) * factor
    raise CorefileError(f"line {directive.line}: {text!r} is no duration like 5s")
