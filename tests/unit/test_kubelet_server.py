"""What the kubelet's own server shows: the logs of a node, and no file beside them."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from topo.kubelet_server import KubeletServer


@pytest.fixture
def server(tmp_path: Path) -> KubeletServer:
    logs = tmp_path / "log"
    logs.mkdir()
    (logs / "kubeproxy.log").write_text("ready\n")
    (logs / "a<b.log").write_text("")
    (tmp_path / "secret").write_text("token")
    (logs / "link.log").symlink_to(tmp_path / "secret")
    return KubeletServer(tmp_path / "kubelet.sock", ["node1", "node2"], logs)


def test_a_nodes_logs_are_listed_as_links(server: KubeletServer) -> None:
    status, kind, body = server.answer("GET", "/node2/logs/")
    assert (status, kind) == (HTTPStatus.OK, "text/html; charset=utf-8")
    assert b'<a href="kubeproxy.log">kubeproxy.log</a>' in body
    assert b'<a href="a%3Cb.log">a&lt;b.log</a>' in body


def test_a_log_is_shown_by_its_name(server: KubeletServer) -> None:
    assert server.answer("GET", "/node1/logs/kubeproxy.log?tail=1")[2] == b"ready\n"


@pytest.mark.parametrize(
    "path",
    ["/node1/logs/../secret", "/node1/logs/%2e%2e/secret", "/node1/logs/link.log", "/node1/logs/none",
     "/node1/", "/node9/logs/", "/"],
)  # fmt: skip
def test_nothing_else_is_shown(server: KubeletServer, path: str) -> None:
    assert server.answer("GET", path)[0] == HTTPStatus.NOT_FOUND


def test_nothing_is_written(server: KubeletServer) -> None:
    assert server.answer("DELETE", "/node1/logs/kubeproxy.log")[0] == HTTPStatus.METHOD_NOT_ALLOWED
