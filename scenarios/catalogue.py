"""Which lessons there are: every file of this folder with a ``tell`` function.

Reads sources without importing them, so that ``./lab list`` stays fast and a broken lesson does not
hide the others. A lesson's one line is the first line of its docstring.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A lesson as the list shows it."""

    name: str
    summary: str


def lessons(folder: Path = _HERE) -> list[Entry]:
    """All lessons, by name."""
    found = []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "def tell(" not in text:
            continue
        tree = ast.parse(text)
        if any(isinstance(node, ast.FunctionDef) and node.name == "tell" for node in tree.body):
            summary = (ast.get_docstring(tree) or path.stem).splitlines()[0]
            found.append(Entry(name=path.stem, summary=summary.rstrip(".")))
    return found


def nearest(word: str, words: Iterable[str]) -> str:
    """`` Did you mean `nodeport`?`` where a known word is close, else nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" Did you mean `{close[0]}`?" if close else ""
