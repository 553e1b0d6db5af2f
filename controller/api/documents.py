"""YAML files as documents: reading only. What is right or wrong about the objects: ``manifests``.

The text is data (a safe loader), read as kubectl reads it: keys become strings, times stay text. A
key that stands twice, a cycle or an exploding alias is refused.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.api.errors import ManifestError
from controller.api.objects import Obj

_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_DEPTH, _MAX_VALUES = 60, 500_000
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


@dataclass(frozen=True, kw_only=True)
class Document:
    """One object of a manifest. ``number`` counts the file's documents from 1, as ``---`` divides
    them; the items of a List share its number."""

    file: str
    number: int
    obj: Obj

    @property
    def what(self) -> str:
        """Kind and name as far as they are known."""
        metadata = self.obj.get("metadata")
        name = metadata.get("name") or metadata.get("generateName") if isinstance(metadata, dict) else None
        return " ".join(str(part) for part in (self.obj.get("kind"), name) if part)

    def problem(self, reason: str, field: str = "") -> ManifestError:
        return ManifestError(reason, file=self.file, document=self.number, field=field, what=self.what)


class _Loader(yaml.CSafeLoader):
    """Safe, without times (kubectl keeps them as text), and a key may stand once only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is not text", key_node.start_mark)
            if key in seen:
                text = f'the key "{key}" stands twice in one mapping'
                raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for sign, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(paths: Iterable[str | Path]) -> tuple[list[Document], list[ManifestError]]:
    """Every document of the files (a directory means the YAML and JSON files in it), and every
    problem met on the way."""
    documents: list[Document] = []
    problems: list[ManifestError] = []
    for path in paths:
        for file in _files(Path(path)):
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                problems.append(ManifestError(f"cannot be read: {why}", file=str(file)))
                continue
            for found in parse(text, str(file)):
                (documents if isinstance(found, Document) else problems).append(found)  # type: ignore[arg-type]
    return documents, problems


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)


def parse(text: str, file: str) -> Iterator[Document | ManifestError]:
    """The documents of one text, or what is wrong with them, in order."""
    number = 0
    loader = _Loader(text)
    try:
        while True:
            try:
                if not loader.check_node():
                    return
                number += 1
                node = loader.get_node()
                assert node is not None
            except yaml.YAMLError as error:
                yield ManifestError(f"broken YAML: {_told(error)}", file=file, document=max(number, 1))
                return  # nothing after it can be found
            try:
                value = _plain(loader.construct_document(node), 0, [_MAX_VALUES])
            except (yaml.YAMLError, RecursionError, ValueError) as error:
                told = _told(error) if isinstance(error, yaml.YAMLError) else str(error)
                yield ManifestError(f"broken YAML: {told}", file=file, document=number)
                continue
            yield from _objects(value, file, number)
    finally:
        loader.dispose()


def _objects(value: Any, file: str, number: int) -> Iterator[Document | ManifestError]:
    if value is None:
        return
    if not isinstance(value, dict):
        shown = "a list" if isinstance(value, list) else f"{value!r:.40}"
        yield ManifestError(f"an object (a mapping) is expected, not {shown}", file=file, document=number)
        return
    kind = value.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list):
        for item in value["items"]:
            yield from _objects(item, file, number)
        return
    yield Document(file=file, number=number, obj=value)


def _told(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"{error.problem or error.context}{where}"


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """The value as JSON would hold it."""
    left[0] -= 1
    if depth > _MAX_DEPTH or left[0] < 0:
        raise ValueError("the document is too deep or too large (does an alias contain itself?)")
    if isinstance(value, dict):
        return {_key(word): _plain(inner, depth + 1, left) for word, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1, left) for inner in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"a {type(value).__name__} cannot stand in a Kubernetes object: {value!r:.60}")


def _key(word: Any) -> str:
    if isinstance(word, bool):
        return "true" if word else "false"
    return str(word)
