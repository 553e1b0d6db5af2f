"""seblum/mlops-public:frontend-streamlit: a light page that shows what the backend says.

Not Streamlit itself: the same title, sidebar, environment variable and data, rendered per request.
It asks ``http://$DB_SERVICE/data`` through the pod's own resolver and shows the resolver's or the
connection's error in the data's place, with status 200 as Streamlit does.
"""

from __future__ import annotations

import json
from html import escape

from topo.images.fetch import FetchError, fetch
from topo.images.image import Container
from topo.images.light import Host
from topo.images.web import Request, Response, not_found

PORT = 8501
_PAGE = """<!DOCTYPE html>
<html><head><title>Frontend Deployment</title></head>
<body>
<aside><h2>Environment variables</h2><p>DB_SERVICE: <code>{service}</code></p></aside>
<main><h1>Frontend Deployment</h1>
<h2>Data from Backend</h2>
{data}
</main></body></html>
"""


class Frontend:
    def __init__(self, container: Container) -> None:
        self._service = container.env.get("DB_SERVICE", "")
        self._host: Host | None = None

    async def serve(self, host: Host) -> None:
        self._host = host
        await host.http(PORT, self.answer)

    async def answer(self, request: Request) -> Response:
        if request.path in ("/_stcore/health", "/healthz"):
            return Response(body="ok")
        if request.path != "/":
            return not_found()
        page = _PAGE.format(service=escape(self._service or "(not set)"), data=await self._data())
        return Response(body=page, content_type="text/html")

    async def _data(self) -> str:
        if not self._service:
            return "<p class='error'>DB_SERVICE is not set</p>"
        assert self._host is not None
        try:
            status, body = await fetch(self._host, f"http://{self._service}/data")
            if status != 200:
                return f"<p class='error'>{escape(self._service)} answered {status}</p>"
            data = json.loads(body)
        except FetchError as error:
            return f"<p class='error'>{escape(str(error))}</p>"
        except ValueError:
            return f"<p class='error'>{escape(self._service)} did not answer JSON</p>"
        return f"<pre>{escape(json.dumps(data, indent=2))}</pre>\n{_table(data)}"


def _table(data: object) -> str:
    if not isinstance(data, dict):
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>\n" for key, value in data.items()
    )
    return f"<table>\n{rows}</table>"


def program(container: Container) -> Frontend:
    return Frontend(container)
