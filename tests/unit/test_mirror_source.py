"""The API that a mirror follows, at its most unhelpful: pages, stale tokens, a gateway before a dead server.

A server of a few lines plays it: it answers each request by what the test has laid ready.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from controller.api.client import Batch, Informer
from controller.api.errors import Forbidden, Unauthorized, Unreachable
from controller.api.objects import Obj
from topo import mirror_source
from topo.mirror_kubeconfig import Access, load
from topo.mirror_source import Source

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
    """``answers`` are given in turn, the last one for ever; ``asked`` is (path, query, token)."""

    def __init__(self) -> None:
        self.lists: list[Answer] = [pods()]
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
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
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
        answers = self.watches if query.get("watch") else self.lists
        code, documents = answers.pop(0) if query.get("watch") or len(answers) > 1 else answers[0]
        body = b"".join(json.dumps(document).encode() + b"\n" for document in documents)
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.no_more.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_source, "_PACE", 0.0)


def access(api: Api, tmp_path: Path, server: str = "", **user: Any) -> Access:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server or api.url}}],
        "users": [{"name": "u", "user": user or {"token": "first"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    return load(tmp_path / "config")


def followed(source: Source, enough: Callable[[list[str]], bool]) -> list[str]:
    """The events of an informer of Pods until they are enough."""
    seen: list[str] = []
    done = threading.Event()

    def handle(batch: Batch) -> None:
        seen.extend(f"{event.type} {event.obj['metadata']['name']}" for event in batch.events)
        if enough(seen):
            done.set()

    informer = Informer(source, ["Pod"], handle).start()
    try:
        assert done.wait(10), seen
    finally:
        informer.stop()
    return seen


def test_a_list_comes_in_pages_and_without_what_is_not_played(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", "b", more="further"), pods("c", version="6")]
    found, version = Source(access(api, tmp_path)).list("Pod", "shop")
    assert [one["metadata"]["name"] for one in found] == ["a", "b", "c"]
    assert version == "6"
    assert "hunter2" not in str(found)
    assert {one["kind"] for one in found} == {"Pod"}
    assert [(path, query) for path, query, _ in api.asked] == [
        ("/api/v1/namespaces/shop/pods", {"limit": "500"}),
        ("/api/v1/namespaces/shop/pods", {"limit": "500", "continue": "further"}),
    ]


def test_a_server_may_live_below_a_path(api: Api, tmp_path: Path) -> None:
    Source(access(api, tmp_path, server=f"{api.url}/k8s/clusters/c-1/")).list("Pod")
    assert api.asked[0][0] == "/k8s/clusters/c-1/api/v1/pods"


def test_changes_bookmarks_and_a_watch_that_ends_are_followed(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a")]
    bookmark = {"metadata": {"resourceVersion": "9"}}
    api.watches = [
        (200, [line("ADDED", pod("b", "6")), line("BOOKMARK", bookmark)]),
        (200, [line("MODIFIED", pod("b", "10")), line("DELETED", pod("a", "11"))]),
    ]
    seen = followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 4)
    assert seen == ["ADDED a", "ADDED b", "MODIFIED b", "DELETED a"]
    since = [query["resourceVersion"] for _, query, _ in api.asked if query.get("watch")]
    assert since[:2] == ["5", "9"], "the second goes on from the bookmark"


def test_a_past_that_is_gone_is_listed_again(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", "b"), pods("b", "c", version="20")]
    gone = {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
    }
    api.watches = [(200, [gone])]
    seen = followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 4)
    assert seen == ["ADDED a", "ADDED b", "ADDED c", "DELETED a"]


def test_a_page_whose_past_is_gone_begins_the_list_anew(api: Api, tmp_path: Path) -> None:
    api.lists = [pods("a", more="further"), refusal(410), pods("a", "b")]
    assert followed(Source(access(api, tmp_path)), lambda seen: len(seen) == 2) == ["ADDED a", "ADDED b"]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_waited_for_and_said_once(api: Api, tmp_path: Path, code: int) -> None:
    told: list[str] = []
    source = Source(access(api, tmp_path), told.append)
    source.list("Pod")
    api.lists = [refusal(code, "busy"), refusal(code, "busy"), pods("a")]
    assert followed(source, lambda seen: len(seen) == 1) == ["ADDED a"]
    assert told == ["! busy; trying again", "  it answers again"]


def test_a_token_that_is_refused_is_read_again_from_its_file(api: Api, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    source = Source(access(api, tmp_path, tokenFile="token"))
    source.list("Pod")
    token.write_text("new\n")
    api.lists = [refusal(401), pods("a")]
    assert len(source.list("Pod")[0]) == 1
    assert [token for _, _, token in api.asked] == ["Bearer old", "Bearer old", "Bearer new"]


def test_a_plugin_is_asked_again_when_its_token_is_refused(api: Api, tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text(
        '#!/bin/sh\necho x >> "$0.count"\n'
        'echo "{\\"status\\": {\\"token\\": \\"$1-$PLUGIN-$(wc -l < "$0.count")\\"}}"\n'
    )
    program.chmod(0o755)
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": ["a"],
              "env": [{"name": "PLUGIN", "value": "b"}]}  # fmt: skip
    source = Source(access(api, tmp_path, exec=plugin))
    source.list("Pod")
    api.lists = [refusal(401), pods()]
    source.list("Pod")
    assert [token for _, _, token in api.asked] == ["Bearer a-b-1", "Bearer a-b-1", "Bearer a-b-2"]


def test_a_fixed_token_that_is_refused_and_a_right_that_is_missing_are_final(
    api: Api, tmp_path: Path
) -> None:
    source = Source(access(api, tmp_path))
    api.lists = [refusal(401)]
    with pytest.raises(Unauthorized):
        source.list("Pod")
    api.lists = [refusal(403, "pods is forbidden")]
    with pytest.raises(Forbidden, match="pods is forbidden"):
        source.list("Pod")
    assert len(api.asked) == 2


def test_nobody_there_is_one_sentence(api: Api, tmp_path: Path) -> None:
    at = access(api, tmp_path)
    api.close()
    with pytest.raises(
        Unreachable, match=r"^the API server does not answer at 127.0.0.1:\d+: Connection refused$"
    ):
        Source(at).list("Pod")


def test_a_source_cannot_be_written_to(api: Api, tmp_path: Path) -> None:
    source = Source(access(api, tmp_path))
    writes: list[Callable[[], Obj]] = [
        lambda: source.create({"kind": "Pod", "apiVersion": "v1", **pod("a")}),
        lambda: source.update({"kind": "Pod", "apiVersion": "v1", **pod("a")}),
        lambda: source.patch("Pod", "a", {}),
        lambda: source.delete("Pod", "a"),
    ]
    for write in writes:
        with pytest.raises(AssertionError, match="only read"):
            write()
    assert api.asked == []
