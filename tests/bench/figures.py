"""What a bench reports: figures with what each is held against, as a table and as JSON.

A figure of this machine alone says little, so each is a ratio to something measured in the same run.
How anything is measured is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a figure should be: its ``value``, or its ``ratio`` to the other one."""

    of: str
    bound: float
    at_least: bool = False

    def met(self, figure: Figure) -> bool:
        got = figure.value if self.of == "value" else figure.ratio
        return got >= self.bound if self.at_least else got <= self.bound

    def says(self, figure: Figure) -> str:
        unit = f" {figure.unit}" if self.of == "value" else ""
        return f"{'>=' if self.at_least else '<='} {self.bound:g}{unit}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Medians of what was measured in turn: ``samples`` of ours, ``against`` of what it stands beside.

    ``paired``: each sample has its neighbour in time, and the ratio is the median of theirs, which a load
    that comes and goes disturbs least.
    ``parts`` says where the time goes, or what else was seen; it is reported and not judged.
    """

    bench: str
    name: str
    unit: str
    samples: Sequence[float]
    beside: str
    against: Sequence[float]
    aims: Sequence[Aim] = ()
    paired: bool = True
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def ratio(self) -> float:
        if self.paired:
            return median(ours / other for ours, other in zip(self.samples, self.against, strict=True))
        return median(self.samples) / median(self.against)

    @property
    def met(self) -> bool | None:
        """None when nothing was aimed at."""
        return all(aim.met(self) for aim in self.aims) if self.aims else None

    def to_json(self) -> dict[str, Any]:
        return {
            "bench": self.bench,
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "samples": list(self.samples),
            "beside": {"name": self.beside, "value": median(self.against), "samples": list(self.against)},
            "ratio": self.ratio,
            "aims": [
                {"of": aim.of, "bound": aim.bound, "atLeast": aim.at_least, "met": aim.met(self)}
                for aim in self.aims
            ],
            "met": self.met,
            "parts": dict(self.parts),
        }


HEADINGS = ("", "figure", "lab", "beside it", "", "ratio", "aim", "met")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """One line of the table for each figure."""
    return [
        (
            figure.bench,
            figure.name,
            number(figure.value, figure.unit),
            number(median(figure.against), figure.unit),
            figure.beside,
            f"{figure.ratio:.2f}",
            ", ".join(aim.says(figure) for aim in figure.aims),
            {True: "yes", False: "no", None: ""}[figure.met],
        )
        for figure in figures
    ]


def table(figures: Sequence[Figure]) -> str:
    """The figures as text, in columns."""
    lines = [HEADINGS, *rows(figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def number(value: float, unit: str) -> str:
    """Three digits that count, and the unit."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()
