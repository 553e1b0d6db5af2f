"""A person with a browser: real Chromium opens a page, says what it shows, and stays until told to go.

``browser.py URL WORD ...`` reads commands, one a line: ``open``, ``rerun`` (Streamlit's key r),
``return`` (wait until another WebSocket carries the page) and ``end``. It answers each, once the
page shows every WORD, the last one in a table, by one line of JSON:
title, text, table, screenshot (PNG in base64), and what each WebSocket carried.

Runs under the demo's Python (playwright), as an ordinary user, and imports nothing of the house.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from playwright.sync_api import Error, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WAIT = 30_000
"""Milliseconds; two busy cores may need a while for Streamlit's two megabytes of JavaScript."""


class Page:
    """One tab, and the WebSockets it opened."""

    def __init__(self, page: Any, words: Iterable[str]) -> None:
        self._page, self._words = page, list(words)
        self._sockets: list[dict[str, Any]] = []
        page.on("websocket", self._opened)

    def _opened(self, socket: Any) -> None:
        seen = {"url": socket.url, "sent": 0, "received": 0, "closed": False}
        self._sockets.append(seen)
        socket.on("framesent", lambda _: seen.update(sent=seen["sent"] + 1))
        socket.on("framereceived", lambda _: seen.update(received=seen["received"] + 1))
        socket.on("close", lambda _: seen.update(closed=True))

    def open(self, url: str) -> None:
        self._page.goto(url, timeout=WAIT)
        self._shown()

    def rerun(self) -> None:
        """Ask Streamlit to run its script again, and wait until the socket has brought something new."""
        before = dict(self._sockets[-1])
        self._page.locator("body").press("r")
        self._until(lambda: all(self._sockets[-1][way] > before[way] for way in ("sent", "received")))
        self._shown()

    def come_back(self) -> None:
        """Press r until a WebSocket that was opened after this one brings something: Streamlit's page
        connects again by itself, but keeps what it shows until it is asked to run."""
        known = len(self._sockets)

        def carried() -> bool:
            newest = self._sockets[-1]
            if len(self._sockets) == known or newest["closed"]:
                return False
            self._page.locator("body").press("r")
            return bool(newest["received"])

        self._until(carried)
        self._shown()

    def _until(self, condition: Any) -> None:
        for _ in range(WAIT // 50):
            if condition():
                return
            self._page.wait_for_timeout(50)  # lets playwright deliver its events
        raise TimeoutError("the page did not come to what was waited for")

    def _shown(self) -> None:
        for word in self._words:
            self._page.get_by_text(word).last.wait_for(timeout=WAIT)
        self._page.locator("td", has_text=self._words[-1]).wait_for(timeout=WAIT)  # it fills itself in late
        # The script has run to its end: what Streamlit shows meanwhile is gone.
        self._page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=WAIT)

    def describe(self) -> dict[str, Any]:
        rows = self._page.locator("table tr").all()
        return {
            "title": self._page.title(),
            "text": self._page.locator("body").inner_text(),
            "table": [row.locator("th, td").all_inner_texts() for row in rows],
            "websockets": self._sockets,
            "screenshot": base64.b64encode(self._page.screenshot()).decode(),
        }


def sandboxed() -> bool:
    """Whether Chromium may build its own sandbox here: a user namespace of an ordinary user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp("unshare", ["unshare", "--user", "--net", "true"])
        finally:
            os._exit(127)
    return os.waitpid(pid, 0)[1] == 0


def main(url: str, *words: str) -> int:
    if os.geteuid() == 0:
        print("a browser is not run as root", file=sys.stderr)
        return 2
    sandbox = sandboxed()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                chromium_sandbox=sandbox,
                args=["--no-proxy-server", "--disable-dev-shm-usage", "--disable-gpu"],
            )
            page = Page(browser.new_page(viewport={"width": 1100, "height": 1000}), words)
            commands = {"open": lambda: page.open(url), "rerun": page.rerun, "return": page.come_back}
            for command in map(str.strip, iter(sys.stdin.readline, "")):
                if command == "end":
                    break
                commands[command]()
                facts = {
                    **page.describe(),
                    "browser": browser.version,
                    "uid": os.getuid(),
                    "sandbox": sandbox,
                }
                print(json.dumps(facts), flush=True)
            browser.close()
    except (Error, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
