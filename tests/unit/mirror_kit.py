"""An API server of a few lines: it answers each request by what a test has laid ready."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from controller.api.objects import Obj
from topo.mirror_kubeconfig import Access, load

Answer = tuple[int, list[Any]]
"""Status, and the documents of the body: one, or a watch's lines."""


def pods(*names: str, version: str = "5", more: str = "") -> Answer:
    items = [pod(name) for name in names]
    return 200, [
        {"kind": "PodList", "metadata": {"resourceVersion": version, "continue": more}, "items": items}
    ]


def pod(name: str, version: str = "5") -> Obj:
    """Without kind, as in a real list."""
    metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version}
    containers = [{"name": "main", "image": "x", "env": [{"name": "A", "value": "hunter2"}]}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": "Running"}}


def line(type_: str, obj: Obj) -> Obj:
    return {"type": type_, "object": {"kind": "Pod", "apiVersion": "v1", **obj}}


def refusal(code: int, message: str = "no") -> Answer:
    return code, [{"kind": "Status", "code": code, "message": message}]


class Api:
    """``lists`` are answered in turn, the last one for ever, but for ``by_path``; ``asked`` is (path, query,
    token). ``tls`` is the server's side of it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.lists: list[Answer] = [pods()]
        self.by_path: dict[str, Answer] = {}
        self.watches: list[Answer] = []
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.no_more = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {word: values[0] for word, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query, request.headers.get("Authorization", "")))
        if query.get("watch") and not self.watches:
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            self.no_more.wait(20)
            return
        if parts.path in self.by_path and not query.get("watch"):
            self._send(request, *self.by_path[parts.path])
            return
        answers = self.watches if query.get("watch") else self.lists
        code, documents = answers.pop(0) if query.get("watch") or len(answers) > 1 else answers[0]
        self._send(request, code, documents)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, code: int, documents: list[Any]) -> None:
        body = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.no_more.set()
        self.server.shutdown()
        self.server.server_close()


def access(api: Api, tmp_path: Path, cluster: Any = None, **user: Any) -> Access:
    return load(kubeconfig(api, tmp_path, cluster, **user))


def kubeconfig(api: Api, tmp_path: Path, cluster: Any = None, **user: Any) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": api.url, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {"token": "first"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    return tmp_path / "config"
