"""Make ``protobuf.json``, the field numbers of Kubernetes' protobuf messages: build time only.

    python -m controller.api.schemas.make_protobuf KUBECTL

Takes them from the descriptors that every kubectl up to 1.34 carries in its binary (k8s.io/api's
generated.proto, Apache-2.0; the numbers are frozen). Nothing at run time imports this.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.api.kinds import KINDS
from controller.api.protobuf import fields
from controller.api.schema import document

_OUT = Path(__file__).with_name("protobuf.json")
_GZIP = re.compile(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00[\x00\x02\x04]\xff")
_TYPES = {1: "d", 3: "i", 5: "i", 8: "b", 9: "s", 12: "y"}
_EXTRA = (
    "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "k8s.io.api.authorization.v1.SelfSubjectAccessReview",
    "k8s.io.api.authorization.v1.SelfSubjectRulesReview",
    "k8s.io.api.authentication.v1.SelfSubjectReview",
    "k8s.io.api.autoscaling.v1.Scale",
    "k8s.io.api.autoscaling.v1.HorizontalPodAutoscaler",
    "k8s.io.api.policy.v1.Eviction",
    "k8s.io.api.authentication.v1.TokenRequest",
)


def main(arguments: list[str]) -> int:
    published: dict[str, dict[str, Any]] = {}
    for file in _descriptors(Path(arguments[0]).read_bytes()):
        package = next((value.decode() for number, value in fields(file) if number == 2), "")
        package = package.removeprefix("k8s.io.kubernetes.vendor.")
        for number, value in fields(file):
            if number == 4:
                _message(package, value, published)
    roots = {
        f"k8s.io.{document()['kinds'][row.kind].removeprefix('io.k8s.')}": row.kind for row in KINDS.values()
    }
    waiting = [name for name in (*roots, *_EXTRA) if name in published]
    made: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name in made:
            continue
        made[name] = published[name]
        for _, kind in published[name].values():
            waiting += [word for word in kind.strip("[]{}").split(":")[-1:] if word in published]
    absent = sorted(kind for name, kind in roots.items() if name not in made)
    short = {_short(name): _inlined(name, table) for name, table in sorted(made.items())}
    _OUT.write_text(json.dumps(short, separators=(",", ":")) + "\n")
    print(f"{_OUT}: {len(short)} messages, {_OUT.stat().st_size} bytes; without any: {absent}")
    return 0


def _descriptors(binary: bytes) -> Iterator[bytes]:
    for found in _GZIP.finditer(binary):
        try:
            text = zlib.decompressobj(31).decompress(binary[found.start() : found.start() + 2_000_000])
        except zlib.error:
            continue
        if text[:1] == b"\n" and b"generated.proto" in text[:200]:
            yield text


def _message(package: str, raw: bytes, into: dict[str, dict[str, Any]]) -> None:
    """A DescriptorProto as {number: [name, type]}; ``[T]`` is a list, ``{T}`` a map of text to T."""
    parts = [*fields(raw)]
    (name,) = (value.decode() for number, value in parts if number == 1)
    entries = {}
    for number, value in parts:
        if number == 3:
            nested: dict[str, Any] = {}
            _message(f"{package}.{name}", value, nested)
            for full in nested:
                entries[full] = nested[full]["2"][1]
    table: dict[str, Any] = {}
    for number, value in parts:
        if number == 2:
            told = dict(fields(value))
            kind = _TYPES.get(told[5]) or told[6].decode().removeprefix(".")
            kind = kind.removeprefix("k8s.io.kubernetes.vendor.")
            if kind in entries:
                kind = f"{{{entries[kind]}}}"
            elif told[4] == 3:
                kind = f"[{kind}]"
            table[str(told[3])] = [told[1].decode(), kind]
    into[f"{package}.{name}"] = table


def _short(name: str) -> str:
    """``core.v1.Pod`` for ``k8s.io.api.core.v1.Pod``."""
    return name.removeprefix("k8s.io.api.").removeprefix("k8s.io.apimachinery.pkg.")


def _inlined(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """With an empty name for what Go embeds: JSON has its fields in the outer object."""
    schema = document()["definitions"].get(f"io.k8s.{name.removeprefix('k8s.io.')}") or {}
    known = schema.get("properties")
    made = {}
    for number, (word, kind) in table.items():
        kind = re.sub(r"k8s\.io\.(api\.|apimachinery\.pkg\.)", "", kind)
        embedded = known is not None and word not in known and "." in kind and kind[0] not in "[{"
        made[number] = ["" if embedded else word, kind]
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
