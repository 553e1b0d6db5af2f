"""The pipeline document, controller/kubeproxy/README.md, against what it tells of: it cannot rot.

What stands between ``<!-- made: ... -->`` and ``<!-- end -->`` is made here from ``pipeline`` and the golden
flows, so nothing is written twice. After a wanted change:
``PODWIRE_GOLDEN=write pytest tests/unit/test_pipeline_document.py``, then mend the prose around it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

from controller.kubeproxy import pipeline
from controller.kubeproxy.fields import Part
from controller.kubeproxy.pipeline import TABLES

README = Path(pipeline.__file__).with_name("README.md")
GOLDEN = Path(__file__).parent.parent / "golden" / "kubeproxy"
PART = re.compile(r"(<!-- made: (.+?) -->\n)(.*?)(<!-- end -->\n)", re.S)
TITLE = re.compile(r"^### (?:(\d+)\. )(\w+)$", re.M)
WIDTH = 116


@cache
def golden(case: str) -> tuple[str, ...]:
    """The flows and groups of a case, a group with its buckets as one."""
    text = (GOLDEN / f"{case}.txt").read_text()
    return tuple(re.split(r"\n(?! )", text.rstrip()))


def section_of(table: str) -> str:
    """Its section of the document, up to the next heading."""
    text = README.read_text()
    found = [m for m in TITLE.finditer(text) if m[2] == table]
    assert len(found) == 1, f"{table} has {len(found)} sections"
    return re.split(r"^##", text[found[0].end() :], maxsplit=1, flags=re.M)[0]


def flows(words: str) -> str:
    """``TABLE in CASE[, CASE ...]``: its flows, numbered on, and none twice in a section."""
    table, before = words.partition(" in ")[0], list[str]()
    for part in PART.finditer(section_of(table)):
        if part[2] == f"flows {words}":
            break
        before += lines_of(part[2])
    lines = [line for line in lines_of(f"flows {words}") if line not in before]
    assert lines, f"nothing new of {table} in {words}"
    start = len(set(before)) + 1
    return fenced("\n".join(f"{number:>2} {folded(line)}" for number, line in enumerate(lines, start)))


def lines_of(words: str) -> list[str]:
    kind, _, rest = words.partition(" ")
    if kind != "flows":
        return []
    table, _, cases = rest.partition(" in ")
    found = [
        line for case in cases.split(", ") for line in golden(case) if line.startswith(f"table={table}, ")
    ]
    return list(dict.fromkeys(found))


def folded(line: str) -> str:
    """A flow on one line, or on two when it is long."""
    flow = line.partition(", ")[2]
    return flow if len(flow) <= WIDTH else flow.replace(" actions=", "\n     actions=")


def whole(case: str) -> str:
    """All that a golden file holds, flows with their tables' names."""
    lines = (
        f"{line.partition(', ')[0]}, {folded(line)}" for line in golden(case) if line.startswith("table=")
    )
    return fenced("\n".join((*lines, *(line for line in golden(case) if line.startswith("group_id=")))))


def groups(case: str) -> str:
    return fenced("\n".join(line for line in golden(case) if line.startswith("group_id=")))


def fenced(text: str) -> str:
    return f"```\n{text}\n```\n"


def tables(_: str) -> str:
    """An overview, each name leading to its section."""
    rows = (f"| {t.id} | [{t.name}](#{t.id}-{t.name.lower()}) | {t.stage} | {t.why} |\n" for t in TABLES)
    return "| id | table | stage | what for |\n|---|---|---|---|\n" + "".join(rows)


def bits(part: Part) -> str:
    last = part.low + part.bits - 1
    if part.bits == part.field.bits:
        return part.field.name
    return f"{part.field.name}[{part.low}{f'..{last}' if part.bits > 1 else ''}]"


def parts(_: str) -> str:
    """Registers and marks."""
    rows = (
        f"| {bits(p)} | {p.name} | {'' if p.bits == p.field.bits else f'{p.mask:#x}'} | {p.why} |\n"
        for p in (*pipeline.REGISTERS, pipeline.ENDPOINT_IP6, pipeline.EP_UNION, *pipeline.MARKS)
    )
    return "| bits | name | mask | what for |\n|---|---|---|---|\n" + "".join(rows)


def walk(_: str) -> str:
    """The tables by stage, and every way that some golden flow takes from one to another."""
    lines = ["flowchart TD"]
    for stage, several in groupby(TABLES, key=lambda t: t.stage):
        names = [t.name for t in several]
        lines += [f'  subgraph {stage}_{names[0]} ["{stage}"]', *(f"    {name}" for name in names), "  end"]
    order = {t.name: t.id for t in TABLES}
    ways = {way for case in GOLDEN.glob("*.txt") for way in ways_of(case.stem)}
    by_place = sorted(ways, key=lambda way: (order[way[0]], way[1], order[way[2]]))
    for (a, arrow), several_ways in groupby(by_place, key=lambda way: way[:2]):
        lines.append(f"  {a} {arrow} {' & '.join(b for _, _, b in several_ways)}")
    lines.append(
        "  Scheduler -. packet-in .-> kubeproxy([kubeproxy]) -. packet-out .-> SessionLearn & EndpointDNAT"
    )
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def ways_of(case: str) -> Iterator[tuple[str, str, str]]:
    onward, back = r"(?:goto_table:|ct\([^)]*?table=)(\w+)", r"resubmit\(,(\w+)"
    by_group = {
        name: {*re.findall(onward, line), *re.findall(back, line)}
        for line in golden(case)
        if line.startswith("group_id=")
        for name in re.findall(r"group_id=<(.+?)>", line)
    }
    for line in golden(case):
        if not line.startswith("table="):
            continue
        table = line.split(",")[0].removeprefix("table=")
        yield from ((table, "-->", name) for name in re.findall(onward, line))
        yield from ((table, "-- and back ---", name) for name in re.findall(back, line))
        yield from ((table, "-. learn .->", name) for name in re.findall(r"learn\(table=(\w+)", line))
        for group in re.findall(r"group:<(.+?)>", line):
            yield from ((table, "-- group -->", name) for name in by_group[group])


MAKERS = {"flows": flows, "groups": groups, "whole": whole, "tables": tables, "parts": parts, "walk": walk}


def made(words: str) -> str:
    kind, _, rest = words.partition(" ")
    return MAKERS[kind](rest)


def test_what_is_made_stands_in_the_document_as_it_would_be_made_now() -> None:
    """Registers, marks, tables, the picture, and each dump, which are whole golden flows."""
    before = README.read_text()
    now = PART.sub(lambda m: m[1] + made(m[2]) + m[4], before)
    if os.environ.get("PODWIRE_GOLDEN") == "write":
        README.write_text(now)
        before = now
    assert before == now
    kinds = [m[2].split()[0] for m in PART.finditer(before)]
    assert set(kinds) == set(MAKERS)


def test_every_table_has_its_section_in_order() -> None:
    found = [(int(m[1]), m[2]) for m in TITLE.finditer(README.read_text())]
    assert found == [(table.id, table.name) for table in TABLES]


def test_no_dump_is_written_by_hand() -> None:
    """Fields and actions stand only in what is made, so each is in a golden file."""
    rest = PART.sub("", README.read_text())
    assert not re.search(r"priority=|actions=|bucket=", rest)


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_the_prose_tells_of_every_flow_of_a_dump(table: str) -> None:
    """By its number, each once: ``**3**`` or ``**3, 4**`` or ``**3-7**``."""
    section = section_of(table)
    dumped = [
        int(n) for part in PART.finditer(section) for n in re.findall(r"^ *(\d+) ", part[3], flags=re.M)
    ]
    assert dumped == list(range(1, len(dumped) + 1))
    told: list[int] = []
    for words in re.findall(r"^- \*\*(\d[\d, -]*)\*\*", PART.sub("", section), flags=re.M):
        for one in words.split(", "):
            first, _, last = one.partition("-")
            told += range(int(first), int(last or first) + 1)
    assert sorted(told) == dumped


def test_priorities_and_zones_are_those_of_the_pipeline() -> None:
    text = README.read_text()
    names = dict(re.findall(r"^\| ([A-Z]+) \| (\d+) \|", text, flags=re.M))
    used = {
        int(p) for case in GOLDEN.glob("**/*.txt") for p in re.findall(r"priority=(\d+)", case.read_text())
    }
    assert {int(value) for value in names.values()} == used
    assert {name: getattr(pipeline, name) for name in names} == {n: int(v) for n, v in names.items()}
    dnat, snat = pipeline.zones(1)
    for zone in (f"| {dnat} |", f"| {snat} |", f"| {pipeline.FRAGMENT_ZONE} |"):
        assert zone in text


def test_values_of_registers_are_those_of_the_pipeline() -> None:
    values = (pipeline.FROM_UPLINK, pipeline.FROM_NODE, pipeline.FROM_POD)
    states = (pipeline.EP_TO_SELECT, pipeline.EP_SELECTED, pipeline.EP_NONE)
    told = " ".join(README.read_text().split())
    assert "Source is {} for the fabric, {} for the node, {} for a pod.".format(*values) in told
    assert "EndpointState is {} when one is to be selected, {} when it is, {} when".format(*states) in told


def test_every_way_that_is_declared_is_one_of_the_picture() -> None:
    taken = {(a, b) for case in GOLDEN.glob("*.txt") for a, _, b in ways_of(case.stem)}
    assert {(table.name, onward) for table in TABLES for onward in table.next} <= taken


def test_links_lead_to_headings_of_the_document() -> None:
    text = README.read_text()
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_every_module_is_named() -> None:
    modules = {path.name for path in README.parent.glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"`(\w+\.py)`", README.read_text().split("## Modules")[1])) & modules
