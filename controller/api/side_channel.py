"""``/podwire/v1/``: what the lab asks of its API server beside Kubernetes, and what changes no version.

Progress and settling (DESIGN 6), and the files of service accounts for a kubelet. Only the Unix socket
leads here, but for the DNS server's own progress (``access``).
"""

from __future__ import annotations

import asyncio
import contextlib

from controller.api import routes
from controller.api.aiohttp_web import web
from controller.api.bodies import parse_json
from controller.api.errors import BadRequest
from controller.api.history import encode
from controller.api.progress import Progress, not_settled
from controller.api.responses import read, respond
from controller.api.secure import SecurePort
from controller.api.store import Store

PREFIX = "/podwire/v1/"
_DEFAULT_SETTLE = 30


class SideChannel:
    """Belongs to the server's event loop; only ``report`` may be called from another thread."""

    def __init__(self, store: Store, secure: SecurePort | None) -> None:
        self._store, self._secure = store, secure
        self._progress = Progress()
        self._reported = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def report(self, component: str, version: int) -> None:
        """A component's progress (the managers call this in-process)."""
        self._loop.call_soon_threadsafe(self._report, component, version)

    def _report(self, component: str, version: int) -> None:
        self._progress.report(component, version)
        reported, self._reported = self._reported, asyncio.Event()
        reported.set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        word, method = request.path.removeprefix(PREFIX), request.method
        if word == "progress" and method == "POST":
            report = parse_json(await read(request))
            if not isinstance(report, dict) or not isinstance(report.get("resourceVersion"), int):
                raise BadRequest('progress wants {"component": text, "resourceVersion": number}')
            self._report(str(report.get("component")), report["resourceVersion"])
            return respond(200, b"{}")
        if word == "progress" and method == "GET":
            told = {"newest": self._store.newest, "components": self._progress.handled}
            return respond(200, encode(told))
        if word == "settle" and method == "GET":
            components = [name for name in request.query.get("components", "").split(",") if name]
            timeout = routes.seconds(request.query, "timeoutSeconds", _DEFAULT_SETTLE)
            version = await self._settled(components, timeout)
            return respond(200, encode({"resourceVersion": version}))
        if word == "credentials" and method == "POST":
            return respond(200, encode({"pods": await self._credentials(await read(request))}))
        raise routes.no_such_path()

    async def _credentials(self, body: bytes) -> list[dict[str, str]]:
        """The service account's files for each of ``{"pods": [[namespace, name], ...]}``."""
        asked = parse_json(body)
        if not isinstance(asked, dict) or not isinstance(asked.get("pods"), list):
            raise BadRequest('credentials wants {"pods": [[namespace, name], ...]}')
        found: list[dict[str, str]] = []
        for namespace, name in asked["pods"]:
            pod = self._store.get("Pod", namespace, name)
            found.append(await self._secure.credentials(pod) if self._secure and pod else {})
        return found

    async def _settled(self, components: list[str], timeout: float) -> int:
        """Wait until every component has handled the newest version. A write while waiting moves the
        goal, so only a report can end it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                if self._secure is not None:
                    await self._secure.caught_up()
                while True:
                    newest = self._store.newest
                    if not self._progress.laggards(components, newest):
                        return newest
                    await self._reported.wait()
        newest = self._store.newest
        raise not_settled(self._progress.laggards(components, newest), newest)
