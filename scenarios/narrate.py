"""How a lesson looks on a console: one method an event, nothing decided here.

Lines fit the width there is; without a terminal there are no colours and 100 columns. Colour never
carries a meaning that the text does not carry too.
"""

from __future__ import annotations

import re
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text as Words

from scenarios.result import Check, Command, Event, Flows, Packets, PacketStory, Result, Step, Table, Text

_OUTPUT_LINES = 16
_COLUMNS = re.compile(r"\S {3,}\S+.*\S {3,}\S")
_COLOURS = {"DNAT": "yellow", "SNAT": "magenta", "un-DNAT": "yellow", "un-SNAT": "magenta"}


class Narrator:
    """Prints events as they happen. ``quiet`` leaves only failed checks and the summary."""

    def __init__(self, file: IO[str], *, quiet: bool = False, width: int | None = None) -> None:
        tty = file.isatty()
        self.console = Console(file=file, highlight=False, width=width or (None if tty else 100), emoji=False)
        self.quiet = quiet
        self._steps = 0

    def line(self, text: str) -> None:
        """A plain line about the lab itself, not about the lesson."""
        if not self.quiet:
            self.console.print(text, style="dim", markup=False)

    def title(self, name: str, facts: str, text: str) -> None:
        """The first line says on what the lab runs."""
        if not self.quiet:
            self.console.print(Words.assemble((f"podwire {name}", "bold"), f": {facts}"))
            self.console.print(text, markup=False)

    def step(self, step: Step) -> None:
        self._steps += 1
        if not self.quiet:
            self.console.print()
            self.console.print(Rule(f"{self._steps}. {escape(step.title)}", align="left", style="bold cyan"))

    def event(self, event: Event) -> None:
        if self.quiet and not (isinstance(event, Check) and not event.ok):
            return
        match event:
            case Text():
                style = "italic" if event.quote else ""
                text = f"“{event.text}”" if event.quote else event.text
                self._paragraph(2, Words(text, style=style))
            case Command():
                self._command(event)
            case Packets():
                self._packets(event)
            case Flows():
                self._flows(event)
            case Table():
                self._table(event)
            case Check():
                self._check(event)

    def summary(self, result: Result) -> None:
        """The end: every check on one line, where the captures are, and the verdict."""
        self.console.print()
        if not self.quiet:
            self.console.print(Rule("Summary", align="left", style="bold cyan"))
            grid = _grid("", "what was checked", "in step")
            numbers = {id(step): number for number, step in enumerate(result.steps, 1)}
            for step, check in result.checks:
                grid.add_row(_verdict(check.ok), escape(check.name), str(numbers[id(step)]))
            self.console.print(grid)
        for path in result.captures:
            self.console.print(f"  written: {path}", markup=False, soft_wrap=True)
        passed = sum(check.ok for _, check in result.checks)
        words = f"{passed} of {len(result.checks)} checks passed in {result.seconds:.1f} s"
        self.console.print(f"  {_verdict(result.ok)} podwire {result.lesson}: {words}")

    def _command(self, event: Command) -> None:
        self.console.print(
            Words.assemble("  ", (f"{event.where}$ ", "green"), (event.command, "bold")), soft_wrap=True
        )
        lines = event.output.rstrip("\n").splitlines()
        shown = (
            lines if len(lines) <= _OUTPUT_LINES else [*lines[: _OUTPUT_LINES - 1], f"… {len(lines)} lines"]
        )
        for line in shown:
            if _COLUMNS.search(line):  # of a table: read along columns, so cut and not wrapped
                room = self.console.width - 4
                self._fit(Words("    " + (line if len(line) <= room else line[: room - 1] + "…")))
            else:
                self._paragraph(4, Words(line))
        if event.status:
            self.console.print(f"    (exit status {event.status})", style="dim")

    def _packets(self, event: Packets) -> None:
        self._paragraph(2, Words(event.title, style="bold"))
        links = max((len(hop.link) for packet in event.packets for hop in packet.hops), default=0)
        for packet in event.packets:
            self._packet(packet, min(links, 34))
        if event.more:
            self.console.print(f"    … and {event.more} more packets of this connection", style="dim")

    def _packet(self, packet: PacketStory, links: int) -> None:
        what = packet.flags or (f"{packet.length} bytes" if packet.length else "no payload")
        notes = [word for word, on in (("sent again", packet.again), ("ambiguous", packet.ambiguous)) if on]
        way = "←" if packet.reply else "→"
        head = f"{way} {what}" + (f" ({', '.join(notes)})" if notes else "")
        self.console.print(Words(f"    {head:<14} {packet.hops[0].who}", style="cyan"))
        for hop in packet.hops:
            for kind, before, after, who in hop.rewrites:
                change = (f"{kind} {before} ⇒ {after}", _COLOURS[kind])
                self._fit(Words.assemble("        ⇣ ", change, f"  {who.partition(' ⇒ ')[2]}"))
            link = hop.link if len(hop.link) <= links else hop.link[: links - 1] + "…"
            self._fit(Words(f"      {link:<{links}} {hop.ms:8.3f} {hop.src} → {hop.dst}  TTL {hop.ttl}"))

    def _paragraph(self, indent: int, words: Words) -> None:
        """Wrapped to the width there is, without blanks at the ends of lines."""
        for line in words.wrap(self.console, max(20, self.console.width - indent)):
            line.rstrip()
            self._fit(Words(" " * indent) + line)

    def _fit(self, line: Words) -> None:
        """One line, whatever the width: a packet's row is read along columns."""
        self.console.print(line, no_wrap=True, overflow="ignore", crop=False)

    def _flows(self, event: Flows) -> None:
        self._paragraph(2, Words(f"the flows of {event.node} that did it", style="bold"))
        for flow in event.flows:
            head = f"{flow.table}, priority {flow.priority}, {flow.packets} packets"
            self._paragraph(4, Words.assemble((head, "cyan"), "  because ", (flow.because, "bold")))
            self._paragraph(6, Words(f"{flow.match or 'any'} ⇒ {flow.actions}"))
            if flow.why:
                self._paragraph(6, Words(flow.why, style="dim"))

    def _table(self, event: Table) -> None:
        grid = _grid(*event.columns)
        for row in event.rows:
            grid.add_row(*map(escape, row))
        self.console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def _check(self, event: Check) -> None:
        line = f"  {_verdict(event.ok)} {escape(event.name)}"
        if not event.ok:
            self.console.print(line)
            self.console.print(
                f"       expected: {event.expected}\n       seen:     {event.seen}", markup=False
            )
        elif event.seen in ("", "True"):
            self.console.print(line)
        elif len(event.name) + len(event.seen) + 9 < self.console.width:
            self.console.print(f"{line}: [dim]{escape(event.seen)}[/dim]")
        else:
            self.console.print(line + ":")
            self._paragraph(7, Words(event.seen, style="dim"))


def _verdict(ok: bool) -> str:
    return "[green]PASS[/green]" if ok else "[bold red]FAIL[/bold red]"


def _grid(*columns: str) -> Grid:
    settings: dict[str, Any] = {
        "box": None,
        "pad_edge": False,
        "padding": (0, 2, 0, 0),
        "header_style": "dim",
    }
    return Grid(*columns, **settings)
