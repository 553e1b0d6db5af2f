"""The API server's /metrics: names and labels of kube-apiserver, in the text format."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from pathlib import Path

import pytest

from controller.api.metrics import Metrics, labels_of
from tests.unit.api_kit import api_server, pod


@pytest.mark.parametrize(
    ("method", "path", "query", "labels"),
    [
        ("GET", "/api/v1/namespaces/default/pods", {}, ("LIST", "", "v1", "pods", "")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("WATCH", "", "v1", "pods", "")),
        ("PATCH", "/api/v1/namespaces/a/pods/web/status", {}, ("PATCH", "", "v1", "pods", "status")),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", {},
         ("DELETECOLLECTION", "apps", "v1", "deployments", "")),
        ("GET", "/version", {}, ("GET", "", "", "", "")),
    ],
)  # fmt: skip
def test_a_request_is_counted_by_verb_and_resource(
    method: str, path: str, query: dict[str, str], labels: tuple[str, ...]
) -> None:
    assert tuple(value for _, value in labels_of(method, path, query)) == labels


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.03, 99.0):
        metrics.count("GET", "/api/v1/nodes/node1", {}, 200, seconds)
    text = metrics.text({})
    name = 'apiserver_request_duration_seconds_bucket{verb="GET",group="",version="v1",resource="nodes",'
    assert f'{name}subresource="",le="0.005"}} 1\n' in text
    assert f'{name}subresource="",le="0.05"}} 2\n' in text
    assert f'{name}subresource="",le="+Inf"}} 3\n' in text
    assert 'apiserver_request_duration_seconds_count{verb="GET"' in text


def test_the_server_tells_what_it_answered_and_what_it_holds(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        server.client.create(pod())
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        with closing(connection):
            connection.sock.connect(str(server.socket))
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode()
    wanted = 'verb="POST",group="",version="v1",resource="pods",subresource="",code="201"'
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4"
    assert f"apiserver_request_total{{{wanted}}} 1\n" in text
    assert 'apiserver_storage_objects{resource="pods"} 1\n' in text
