"""seblum/mlops-public:backend-flask: the little database of the mission's example, written anew."""

from __future__ import annotations

from topo.images.image import Container
from topo.images.light import Host
from topo.images.population import PAGES, POPULATION
from topo.images.web import Request, Response, as_json

PORT = 5000


class BackendFlask:
    """``KILL_IN_SECONDS`` in the environment makes the program end itself after so many seconds."""

    async def serve(self, host: Host) -> None:
        await host.http(PORT, self.answer)
        seconds = host.container.env.get("KILL_IN_SECONDS", "")
        if seconds:
            try:
                host.after(float(seconds), lambda: host.exit(1, f"KILL_IN_SECONDS={seconds} is over"))
            except ValueError:
                host.exit(1, f"KILL_IN_SECONDS: {seconds!r} is not a number")

    async def answer(self, request: Request) -> Response:
        if request.path == "/data":
            if request.method not in ("GET", "HEAD", "POST"):
                return Response(body="Method Not Allowed\n", status=405)
            return as_json(POPULATION)
        page = PAGES.get(request.path)
        if page is None:
            return Response(body="<h1>Not Found</h1>\n", status=404, content_type="text/html")
        return Response(body=page, content_type="text/html")


def program(container: Container) -> BackendFlask:
    return BackendFlask()
