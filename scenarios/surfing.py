"""A lesson's way to a real browser: Chromium in a client's network namespace, as an ordinary user.

What it does there is ``probes/browser.py``, which runs under the demo's Python; here it is started and
asked. Nothing here knows what a page is about.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.api.errors import MachineError
from topo.images import demo

if TYPE_CHECKING:
    from topo.hosts import HostHandle

PROGRAM = Path(__file__).parent / "probes" / "browser.py"
CHROMIUM = Path("/usr/bin/chromium")
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
HOME = Path("/run/browser")
"""The browser's own, on the sandbox's tmpfs: it goes when the lab does, however that ends."""
ENVIRONMENT = ("env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", f"HOME={HOME}", f"TMPDIR={HOME}")


def present() -> bool:
    """Whether there is a browser and what drives it."""
    return CHROMIUM.exists() and demo.present()


class Browser:
    """One open page. Each answer is the dict that ``probes/browser.py`` describes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def first(self) -> dict[str, Any]:
        """Open the page; what it shows then."""
        return self.asked("open")

    def says(self) -> dict[str, Any]:
        """The next answer; MachineError, with the browser's words, when it has ended instead."""
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        if not line:
            raise MachineError(f"the browser ended: {self._process.stderr.read().strip()[-1500:]}")
        facts: dict[str, Any] = json.loads(line)
        facts["screenshot"] = base64.b64decode(facts["screenshot"])
        return facts

    def tell(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def asked(self, command: str) -> dict[str, Any]:
        """Do something on the page; what it shows then."""
        self.tell(command)
        return self.says()


@contextmanager
def browser(host: HostHandle, url: str, words: Sequence[str]) -> Iterator[Browser]:
    """Chromium for one page, which is there when it shows ``words``. It ends with the block."""
    HOME.mkdir(mode=0o700, exist_ok=True)
    os.chown(HOME, 65534, 65534)
    # As a text: the ordinary user may not be allowed to read the checkout.
    argv = [
        *("setpriv", *NOBODY, *ENVIRONMENT, str(demo.PYTHON), "-c", PROGRAM.read_text(encoding="utf-8")),
        *(url, *words),
    ]
    process = host.popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HOME,
        process_group=0,
    )
    found = Browser(process)
    try:
        yield found
        found.tell("end")
        process.wait(20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
