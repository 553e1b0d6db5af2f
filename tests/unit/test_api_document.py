"""The book of the API server (``controller/api/README.md``) says what is really served.

What stands between ``<!-- made: ... -->`` and ``<!-- end -->`` is made here from the server's own tables.
After a wanted change: ``PODWIRE_GOLDEN=write pytest tests/unit/test_api_document.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from controller.api import access, older
from controller.api.kinds import KINDS, Kind

README = Path(__file__).parents[2] / "controller" / "api" / "README.md"
PART = re.compile(r"(<!-- made: (.+?) -->\n)(.*?)(<!-- end -->\n)", re.S)


def rows(*head: str, lines: Sequence[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, ("---",) * len(head), *lines))


def code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def kinds() -> str:
    def line(row: Kind) -> tuple[str, ...]:
        acts = "acts" if row.behaviour else "stored"
        where = "" if row.namespaced else "cluster"
        return (
            row.kind, f"`{row.api_version}`", code((row.plural, *row.short_names)), where, acts,
            code(row.subresources),
        )  # fmt: skip

    head = ("kind", "version", "names", "scope", "the lab", "subresources")
    return rows(*head, lines=[line(row) for row in KINDS.values()])


def older_versions() -> str:
    lines = [
        (
            f"`{old.api_version}` {old.kind.kind}", f"`{old.kind.api_version}`", code(old.methods),
            "yes" if old.listed else "no",
        )
        for old in older.OLDER
    ]  # fmt: skip
    return rows("asked for", "served as", "methods", "in plain discovery", lines=lines)


def rules() -> str:
    lines = [
        (
            rule.account or "every service account",
            rule.namespace or "all",
            code(rule.resources),
            code(rule.verbs),
        )
        for rule in access.RULES
    ]
    lines.append(("every service account", "", code(access.AUTHENTICATED), code(("get",))))
    lines.append(("without a token", "", code(access.EVERYBODY), code(("get",))))
    return rows("who", "namespace", "what", "verbs", lines=lines)


MAKERS = {"kinds": kinds, "older": older_versions, "access": rules}


def test_what_is_made_stands_in_the_document_as_it_would_be_made_now() -> None:
    before = README.read_text()
    now = PART.sub(lambda m: m[1] + MAKERS[m[2]]() + m[4], before)
    if os.environ.get("PODWIRE_GOLDEN") == "write":
        README.write_text(now)
        before = now
    assert before == now
    assert {m[2] for m in PART.finditer(before)} == set(MAKERS)


def test_every_module_is_named() -> None:
    modules = {path.name for path in README.parent.glob("*.py")} - {"__init__.py"}
    named = re.findall(r"`(\w+\.py)`", README.read_text().split("## Modules")[1])
    assert len(named) == len(set(named))
    assert modules == set(named)


def test_every_link_leads_somewhere() -> None:
    text = README.read_text()
    titles = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#(.+?)\)", text)) <= titles
