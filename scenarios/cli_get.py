"""``./lab get``: what the API server holds, as the tables that it makes for kubectl.

For a look without kubectl; all the rest of kubectl is ``./lab kubectl``. Which columns a kind has, and what
stands in them, is the server's to say (``controller.api.tables``); here they are asked for and printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from controller.api.errors import UsageError
from controller.api.kinds import KINDS, Kind
from controller.api.objects import Obj
from controller.api.transport import Transport
from scenarios import catalogue

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_ALWAYS: Mapping[str, tuple[str, ...]] = {"Pod": ("IP", "Node"), "Node": ("Internal-IP",)}
"""Wide columns that are shown anyway: addresses are what a lab of packets is about."""
_GAP = "   "


class Asked(NamedTuple):
    """One kind, and which of its objects: none named means all."""

    kind: Kind
    names: tuple[str, ...] = ()


def get(socket: Path, options: argparse.Namespace) -> int:
    """``./lab get``, by the options that ``cli`` names."""
    asked = parse(options.what)
    if options.watch and (len(asked) > 1 or options.output not in ("table", "wide")):
        raise UsageError("-w follows one kind, as a table")
    if options.output in ("yaml", "json"):
        _print_objects(Transport(socket, "podwire-cli"), asked, options)
        return 0
    server = Transport(socket, "podwire-cli", headers={"Accept": _TABLE})
    printed = 0
    for one in asked:
        tables = _read(server, one, options)
        rows = [row for table in tables for row in table["rows"]]
        if options.output == "name":
            for row in rows:
                print(f"{_word(one.kind)}/{row['object']['metadata']['name']}")
        elif rows or options.watch:
            if printed:
                print()
            shape = _Shape(one.kind, tables[0], options, prefix=len(asked) > 1)
            shape.show(rows)
            if options.watch:
                _follow(server, one, options, tables[-1]["metadata"]["resourceVersion"], shape)
        printed += len(rows)
    if not printed:
        everywhere = options.all_namespaces or not any(one.kind.namespaced for one in asked)
        print(
            f"No resources found{'' if everywhere else f' in {options.namespace} namespace'}.",
            file=sys.stderr,
        )
    return 0


def parse(words: Sequence[str]) -> list[Asked]:
    """``pods``, ``svc,endpoints``, ``all``, ``pod NAME ...`` or ``pod/NAME svc/NAME ...``."""
    if any("/" in word for word in words):
        found: dict[Kind, tuple[str, ...]] = {}
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not name:
                raise UsageError(f"`{word}`: with TYPE/NAME, every word is one")
            found[_kind(kind)] = (*found.get(_kind(kind), ()), name)
        return [Asked(kind, names) for kind, names in found.items()]
    kinds = dict.fromkeys(kind for word in words[0].split(",") for kind in _kinds(word))
    return [Asked(kind, tuple(words[1:])) for kind in kinds]


def _kinds(word: str) -> list[Kind]:
    return [kind for kind in KINDS.values() if "all" in kind.categories] if word == "all" else [_kind(word)]


def _kind(word: str) -> Kind:
    known = {
        name: kind
        for kind in KINDS.values()
        for name in (kind.plural, kind.singular, kind.resource, _word(kind), *kind.short_names)
    }
    if word.lower() not in known:
        hint = catalogue.nearest(word.lower(), known)
        raise UsageError(f"the server doesn't have a resource type `{word}`.{hint}")
    return known[word.lower()]


def _word(kind: Kind) -> str:
    """As kubectl names a kind before an object's name: ``pod``, ``deployment.apps``."""
    return f"{kind.singular}.{kind.group}" if kind.group else kind.singular


def _read(server: Transport, asked: Asked, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One answer for each name, or one for all."""
    if asked.names:
        return [server.request("GET", asked.kind.path(options.namespace, name)) for name in asked.names]
    query = {"labelSelector": options.selector} if options.selector else {}
    return [server.request("GET", asked.kind.path(_namespace(options)), query=query)]


def _namespace(options: argparse.Namespace) -> str | None:
    return None if options.all_namespaces else str(options.namespace)


def _follow(
    server: Transport, asked: Asked, options: argparse.Namespace, version: str, shape: _Shape
) -> None:
    """Every change as a row, until Ctrl-C."""
    query = {"watch": "true", "resourceVersion": version}
    if asked.names:
        query["fieldSelector"] = f"metadata.name={asked.names[0]}"
    if options.selector:
        query["labelSelector"] = options.selector
    sys.stdout.flush()
    for event in server.stream(asked.kind.path(_namespace(options)), query):
        if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
            shape.show(event["object"]["rows"], head=False)
            sys.stdout.flush()


class _Shape:
    """Which columns are printed, and how wide they have become."""

    def __init__(
        self, kind: Kind, table: Mapping[str, Any], options: argparse.Namespace, *, prefix: bool
    ) -> None:
        self._prefix = f"{_word(kind)}/" if prefix else ""
        self._space = options.all_namespaces and kind.namespaced
        shown = [
            (index, column["name"].upper())
            for index, column in enumerate(table["columnDefinitions"])
            if options.output == "wide"
            or not column["priority"]
            or column["name"] in _ALWAYS.get(kind.kind, ())
        ]
        self._columns = [index for index, _ in shown]
        self._head = (["NAMESPACE"] if self._space else []) + [name for _, name in shown]
        self._widths = [0] * len(self._head)

    def show(self, rows: Iterable[Mapping[str, Any]], *, head: bool = True) -> None:
        lines = [self._head] if head else []
        lines += [self._line(row) for row in rows]
        for line in lines:
            self._widths = [max(pair) for pair in zip(self._widths, map(len, line), strict=True)]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, self._widths, strict=True))
            print(_GAP.join(padded).rstrip())

    def _line(self, row: Mapping[str, Any]) -> list[str]:
        metadata = row["object"]["metadata"]
        cells = [str(row["cells"][index]) for index in self._columns]
        if self._prefix and "NAME" in self._head:
            cells[self._head.index("NAME") - self._space] = self._prefix + metadata["name"]
        return ([metadata["namespace"]] if self._space else []) + cells


def _print_objects(server: Transport, asked: Sequence[Asked], options: argparse.Namespace) -> None:
    """The objects themselves; a List unless one was named."""
    items: list[Obj] = []
    for one in asked:
        for body in _read(server, one, options):
            found = [body] if one.names else body["items"]
            items += [{"apiVersion": one.kind.api_version, "kind": one.kind.kind, **obj} for obj in found]
    named = len(asked) == 1 and len(asked[0].names) == 1
    shown: Any = items[0] if named else {"apiVersion": "v1", "kind": "List", "items": items}
    if options.output == "json":
        print(json.dumps(shown, indent=2))
        return
    import yaml

    print(yaml.safe_dump(shown, sort_keys=False), end="")
