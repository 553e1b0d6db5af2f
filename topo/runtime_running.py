"""One started container: its pids, its input and outputs, its log, and the moment of its end.

When it starts and ends is ``runtime_containers``'.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from topo.images.image import Container, Image, Program
from topo.runtime_input import Input
from topo.runtime_log import Budget, LogFile, Outputs


@dataclass
class Running:
    """One started container. ``main`` is the pid of its own process, if it has one beside its box."""

    container: Container
    image: Image
    box: int | None = None
    main: int | None = None
    program: Program | None = None
    log: LogFile | None = None
    input: Input | None = None
    outputs: Outputs | None = None
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stopping: bool = False

    def standard(self, null: int, logs: Budget) -> tuple[int, int, int]:
        """Standard input, output and error for its process: a terminal, or pipes that end in its log."""
        container = self.container
        if container.log:
            self.log = LogFile(container.log, logs)
        if container.stdin or container.tty:
            self.input = Input(tty=container.tty, log=self.log, user=container.user)
        if self.input and container.tty:
            return (self.input.theirs,) * 3
        self.outputs = Outputs(self.log, container.user)
        return (self.input.theirs if self.input else null, *self.outputs.fds())

    def close_theirs(self) -> None:
        """The process has its ends."""
        for ends in (self.input, self.outputs):
            if ends:
                ends.close_theirs()

    def close(self) -> None:
        """It has ended: what it wrote last is in its log then."""
        for one in (self.input, self.outputs, self.log):
            if one:
                one.close()
        self.input = self.outputs = self.log = None
