"""Texts in, addresses out: what an environment variable, an argument or a script says about hosts and ports.

Pure, and knows no Service: an ``Address`` is what is written. Whether anybody has that name is ``names``,
whether it makes an edge is ``build``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

SCHEME_PORTS = {
    "http": 80, "https": 443, "ws": 80, "wss": 443, "redis": 6379, "rediss": 6379, "postgres": 5432,
    "postgresql": 5432, "mysql": 3306, "mariadb": 3306, "amqp": 5672, "amqps": 5671, "mongodb": 27017,
    "nats": 4222, "mqtt": 1883, "ldap": 389, "smtp": 25,
}  # fmt: skip
"""The port that a URL without one means."""

_HOST = r"[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9_]*[A-Za-z0-9])?)*\.?"
_URL = re.compile(r"(?P<schemes>(?:[A-Za-z][\w+.-]*:)+)//(?P<rest>.*)", re.S)
_PAIR = re.compile(rf"(?:[^@/\s]*@)?(?P<host>{_HOST}|\[[0-9A-Fa-f:]+\]):(?P<port>\d{{1,5}})(?:[/?].*)?")
_NAME = re.compile(rf"(?P<host>{_HOST}|\[[0-9A-Fa-f:]+\])")
_KEYED = re.compile(r"(?P<key>[A-Za-z][\w .-]*)=(?P<value>.+)")
_DIALLED = re.compile(r"\btcp\((?P<inner>[^()\s]+)\)")  # Go's MySQL: user:pw@tcp(host:port)/db
_RESOLVED = re.compile(r"(?:dns|passthrough):/*(?P<inner>[^/\s]+:\d+)")  # gRPC's names

_FULL = re.compile(rf"(?P<host>{_HOST}\.svc(?:\.cluster\.local)?)\.?(?::(?P<port>\d{{1,5}}))?(?:/.*)?")
_KEYED_HOST = re.compile(rf"\b(?:host|server) ?= ?(?P<host>{_HOST})(?![\w:])", re.I)
_KEYED_PORT = re.compile(r"\bport ?= ?(?P<port>\d{2,5})\b", re.I)
_TOOLS = frozenset(
    {"nc", "ncat", "telnet", "nslookup", "dig", "ping", "curl", "wget", "hosts"}
)  # getent hosts
_BETWEEN = re.compile(r"[\s\"'`<>|(){},;&=\\]+")
_LONGEST = 1000  # no host, and no URL that somebody typed, is longer
_COMMENT = re.compile(r"^\s*(?:#|//|;).*$", re.M)

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_HOST_WORDS = frozenset({
    "host", "hosts", "hostname", "addr", "addrs", "address", "addresses", "service", "svc", "server",
    "servers", "url", "urls", "uri", "uris", "endpoint", "endpoints", "upstream", "upstreams", "backend",
    "backends", "broker", "brokers", "gateway", "proxy", "peer", "peers", "seed", "seeds", "master",
    "primary", "replica", "leader", "bootstrap", "dsn",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Address:
    """A host as somebody wrote it. ``form``: ``url``, ``pair`` (host:port), ``name`` (one word that is
    the whole value) or ``text`` (met within other text). ``implied``: the port is the scheme's."""

    host: str
    port: int | None = None
    form: str
    scheme: str = ""
    implied: bool = False

    @property
    def said(self) -> str:
        """As it is written, without whatever stood around it: never a password."""
        return f"{self.host}:{self.port}" if self.port and not self.implied else self.host


def addresses(value: str) -> list[Address]:
    """Every address that a value holds, in order. Text in several words yields only what is one for sure."""
    value = value.strip().strip("\"'")
    if not value:
        return []
    if re.search(r"\s", value) or value.startswith(("{", "<", '["')):
        return list(dict.fromkeys(_in_text(_COMMENT.sub("", value))))
    found: list[Address] = []
    port = None
    for item in re.split(r"[,;]", value):
        keyed = _KEYED.fullmatch(item)
        if keyed and not _URL.match(item):
            if keyed["key"].strip().lower() == "port" and keyed["value"].isdigit():
                port = _port(keyed["value"])
                continue
            inner = _item(keyed["value"])
            if inner and (inner.form != "name" or is_host_word(keyed["key"])):
                found.append(replace(inner, form="pair" if inner.form == "name" else inner.form))
            continue
        one = _item(item)
        if one:
            found.append(one)
    if port is not None and len(found) == 1 and found[0].port is None:
        found = [replace(found[0], port=port)]
    if len(found) > 1:  # amqp://a:5672,b:5672 are hosts; a list of words is not
        found = [one for one in found if one.form != "name"] or found
    return list(dict.fromkeys(found))


def words_of(name: str) -> tuple[str, ...]:
    """CART_ADDR, cartAddr, --cart-addr: the words of a variable's name, in small letters."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def is_host_word(name: str) -> bool:
    """Whether a variable of that name holds a host: its last word says so (NAME only behind HOST)."""
    words = words_of(name)
    return bool(words) and (words[-1] in _HOST_WORDS or words[-2:] == ("host", "name"))


def ports_beside(name: str) -> tuple[tuple[str, ...], ...]:
    """The words of variables that would hold the port for the host in ``name``, the likeliest first."""
    words = words_of(name)
    stem = words[:-2] if words[-2:] == ("host", "name") else words[:-1]
    return (*stem, "port"), (*words, "port")


def _item(item: str) -> Address | None:
    item = item.strip()
    dialled = _DIALLED.search(item) or _RESOLVED.fullmatch(item)
    if dialled:
        return _whole(dialled["inner"], "pair")
    url = _URL.fullmatch(item)
    if url:
        return _url(url["schemes"].rstrip(":").split(":")[-1].lower(), url["rest"])
    return _whole(item, "name")


def _url(scheme: str, rest: str) -> Address | None:
    authority = re.split(r"[/?#]", rest.rpartition("@")[2] if "@" in rest.split("/")[0] else rest)[0]
    found = _whole(authority, "url")
    if found is None:
        return None
    if found.port is None and scheme in SCHEME_PORTS:
        return replace(found, form="url", scheme=scheme, port=SCHEME_PORTS[scheme], implied=True)
    return replace(found, form="url", scheme=scheme)


def _whole(text: str, otherwise: str) -> Address | None:
    """host:port, or a host alone in the form ``otherwise``."""
    pair = _PAIR.fullmatch(text)
    if pair:
        port = _port(pair["port"])
        return None if port is None else Address(host=_plain(pair["host"]), port=port, form="pair")
    name = _NAME.fullmatch(text)
    return Address(host=_plain(name["host"]), form=otherwise) if name else None


def _in_text(text: str) -> Iterator[Address]:
    words = [word.rstrip(".:") for word in _BETWEEN.split(text)]
    for word in words:
        if len(word) > _LONGEST:
            continue
        if "://" in word:
            one = _item(word)
            if one and one.form in ("url", "pair"):
                yield replace(one, form="url")
        elif "@" not in word and (found := _FULL.fullmatch(word) or _PAIR.fullmatch(word)):
            port = _port(found["port"]) if found["port"] else None
            yield Address(host=_plain(found["host"]), port=port, form="text")
    yield from _asked(words)
    keyed, port_of = _KEYED_HOST.search(text), _KEYED_PORT.search(text)
    if keyed:
        port = _port(port_of["port"]) if port_of else None
        yield Address(host=_plain(keyed["host"]), port=port, form="text")


def _asked(words: list[str]) -> Iterator[Address]:
    """``nc -z -w 2 db 5432``, ``nslookup db``: the host that a tool is given, and the port behind it."""
    tool = flag = False
    for at, word in enumerate(words):
        if word in _TOOLS:
            tool, flag = True, False
        elif tool and (word.startswith("-") or (flag and word.isdigit())):
            flag = word.startswith("-")
        elif tool:
            tool = False
            behind = words[at + 1] if at + 1 < len(words) else ""
            name = _NAME.fullmatch(word) if len(word) < _LONGEST else None
            if name:
                port = _port(behind) if behind.isdigit() and len(behind) < 6 else None
                yield Address(host=_plain(name["host"]), port=port, form="text")


def _port(text: str) -> int | None:
    return int(text) if 0 < int(text) < 65536 else None


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".")
