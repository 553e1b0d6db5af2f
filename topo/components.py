"""The lab's own processes: started beside each other, watched, restarted.

A component is a program that prints ``ready`` when it serves; the rest of what it prints goes to its log.
What a component needs (sockets, arguments) is ``topo.lab``'s matter.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from controller.api.errors import PodwireError

READY = "ready"
START_TIMEOUT = 30.0
BACK_OFF = (0.1, 0.2, 0.5, 1, 2, 5)
"""Seconds before a restart, by the number of deaths before it."""
_ROOT = Path(__file__).resolve().parent.parent


class ComponentError(PodwireError):
    """A component did not start, or ended; the text has its last words."""


class Component:
    """One process and the thread that starts it, reads it and knows when it ends.

    That thread lives as long as the lab, because PR_SET_PDEATHSIG of the process follows it.
    ``supervised`` restarts what dies with a growing back-off; otherwise ``restart`` does. ``returned`` is
    called whenever it serves again, before anyone is told so.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_file: Path,
        log: Callable[[str], None],
        supervised: bool = False,
        pass_fds: Sequence[int] = (),
        returned: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.argv, self.log_file = name, list(argv), log_file
        self._log, self._supervised, self._returned = log, supervised, returned
        self._pass_fds = tuple(pass_fds)
        self._state = threading.Condition()
        self._ready = self._wanted = self._dead = self._given_up = self._stopping = False
        self._deaths = self._lives = 0
        self._process: subprocess.Popen[str] | None = None
        self._last: collections.deque[str] = collections.deque(maxlen=3)
        self._thread = threading.Thread(target=self._run, name=f"component-{name}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it serves now."""
        with self._state:
            return self._ready

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process else None

    def start(self) -> None:
        """Begin; ``wait_ready`` says how it went."""
        self._wanted = True
        self._thread.start()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Until it serves; ComponentError with its last lines when it ends or takes too long."""
        with self._state:
            came = self._state.wait_for(lambda: self._ready or self._given_up, timeout)
            if self._ready:
                return
        how = "ended while starting" if came else f"was not ready after {timeout:g} s"
        raise ComponentError(f"{self.name} {how}: {self.last_words()} (log: {self.log_file})")

    def kill(self) -> None:
        """End it at once, as a crash would; it is dead at return and stays so until ``restart``."""
        with self._state:
            self._wanted = False
            process = self._process
            if process is not None and not self._dead:
                process.kill()
            self._state.wait_for(lambda: self._dead)

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Start it again (ending it first); it serves at return."""
        if not self._dead:
            self.kill()
        with self._state:
            self._wanted, self._dead, self._given_up, self._deaths = True, False, False, 0
            self._state.notify_all()
        self.wait_ready(timeout)

    def stop(self) -> None:
        """Ask it to end (``join`` waits), for good."""
        with self._state:
            self._stopping, self._wanted = True, False
            if self._process is not None and not self._dead:
                self._process.terminate()
            self._state.notify_all()

    def join(self, timeout: float = 2.0) -> None:
        """Wait for its end after ``stop``; what does not end in time is killed."""
        if self._thread.ident is None:
            return
        self._thread.join(timeout)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join()

    def last_words(self) -> str:
        return " | ".join(self._last) or "it said nothing"

    def _run(self) -> None:
        while True:
            how = self._live()
            with self._state:
                died_young = not self._ready
                asked = not self._wanted
                self._dead, self._ready = True, False
                again = self._supervised and not died_young and not asked and not self._stopping
                pause = BACK_OFF[min(self._deaths, len(BACK_OFF) - 1)]
                if not asked:
                    more = f" ({self.last_words()}); starting it again in {pause:g} s" if again else ""
                    self._log(f"{self.name} ended {how}{more or ': ' + self.last_words()}")
                self._given_up = not again
                self._state.notify_all()
                if again:
                    self._deaths += 1
                    self._state.wait_for(lambda: self._stopping, pause)
                    self._dead = False
                self._state.wait_for(lambda: self._stopping or (self._wanted and not self._dead))
                if self._stopping:
                    return

    def _live(self) -> str:
        """One life of the process; how it ended."""
        with open(self.log_file, "a", encoding="utf-8") as file:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={
                    **os.environ,
                    "PYTHONPATH": str(_ROOT),
                },  # wherever the lab was started from, and however
                pass_fds=self._pass_fds,
                process_group=0,  # a Ctrl-C is the lab's, which then stops us in order
            )
            self._lives += 1
            with self._state:
                self._process = process
                if self._stopping:
                    process.terminate()
            assert process.stdout
            for line in process.stdout:
                if line.strip() == READY:
                    if self._lives > 1:
                        try:
                            self._returned()
                        except PodwireError as error:
                            self._log(f"{self.name} serves again, but: {error}")
                    with self._state:
                        self._ready = True
                        self._state.notify_all()
                    continue
                self._last.append(line.rstrip())
                file.write(line)
                file.flush()
            process.stdout.close()
            code = process.wait()
        return f"by signal {-code}" if code < 0 else f"with exit status {code}"


def python(module: str, *args: str) -> list[str]:
    """A module of ours as a program, by the interpreter that runs the lab."""
    return [sys.executable, "-m", module, *args]
