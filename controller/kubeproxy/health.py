"""What kube-proxy answers when a load balancer asks after its health: pure, but for the lock around it.

Two questions, as upstream (pkg/proxy/healthcheck): is this node's kube-proxy in working order (:10256
/healthz and /livez, for traffic policy Cluster), and how many endpoints of a Service are on this node (its
healthCheckNodePort, for policy Local). Unlike upstream, a node is not healthy before its first flows are
in force: who asks early would be sent connections that nobody handles. Sockets are ``health_servers``'.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller.api.wiring import KUBE_PROXY_HEALTH_PORT as PORT
from controller.kubeproxy.metrics import CONTENT_TYPE, MODE, Metrics
from controller.kubeproxy.services import proxied, service_key, slice_service

Obj = dict[str, Any]

METRICS_PORT = 10249
"""At localhost alone: /metrics, /proxyMode and a /healthz."""
TIMEOUT = 60.0
"""Seconds after which changes that are not in force make a node unhealthy: twice upstream's sync period."""
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""A node with this taint goes soon: existing connections stay, new ones should go elsewhere (KEP-3836)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``headers``: besides those that every answer has."""

    code: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Node:
    eligible: bool = True
    updated: datetime | None = None
    waits_since: datetime | None = None


class Health:
    """Fed with objects and with what each node's proxier reports; asked by node, port and path.

    Times are arguments, in UTC. ``apply`` for every event, then ``queued`` once for the batch.
    """

    def __init__(self, *, timeout: float = TIMEOUT, metrics: Metrics | None = None) -> None:
        self._timeout, self._metrics = timeout, metrics or Metrics()
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._checks: dict[int, tuple[str, str]] = {}
        self._slices: dict[tuple[str, str], dict[str, Obj]] = {}
        self._newest = 0

    def apply(self, type: str, obj: Obj) -> None:
        """An event: ADDED, MODIFIED or DELETED; kinds that do not matter here are passed over."""
        with self._lock:
            if obj["kind"] == "Node":
                self._node(type, obj)
            elif obj["kind"] == "Service":
                self._service(type, obj)
            elif obj["kind"] == "EndpointSlice":
                self._slice(type, obj)

    def queued(self, version: int, now: datetime) -> None:
        """Everything up to ``version`` is known now and has to be put in force."""
        with self._lock:
            self._newest = version
            for node in self._nodes.values():
                node.waits_since = node.waits_since or now

    def updated(self, node: str, version: int, now: datetime) -> None:
        """The node's switch has the flows for everything up to ``version``."""
        with self._lock:
            found = self._nodes.get(node)
            if found is not None:
                found.updated = now
                found.waits_since = now if version < self._newest else None

    def listeners(self) -> set[tuple[str, int]]:
        """(node, port) of everything that is to be answered."""
        with self._lock:
            ports = (PORT, METRICS_PORT, *self._checks)
            return {(node, port) for node in self._nodes for port in ports}

    def answer(self, node: str, port: int, path: str, now: datetime) -> Answer:
        if port == METRICS_PORT:
            return self._about_itself(node, path)
        with self._lock:
            healthy = self._is_healthy(node, now)
            if port != PORT:
                return self._service_answer(node, port, healthy)
            known = self._nodes.get(node) or _Node(eligible=False)
            if path not in ("/healthz", "/livez"):
                return Answer(code=404, body="404 page not found\n")
            good = healthy and (known.eligible or path == "/livez")
            told = now if good else known.updated
            words: dict[str, Any] = {"lastUpdated": _time(told), "currentTime": _time(now)}
            if path == "/healthz":
                words["nodeEligible"] = known.eligible
            return Answer(code=200 if good else 503, body=json.dumps(words))

    def _about_itself(self, node: str, path: str) -> Answer:
        """The metrics server's: that it is there is all its /healthz says."""
        if path == "/metrics":
            return Answer(code=200, body=self._metrics.text(node), headers={"Content-Type": CONTENT_TYPE})
        body = {"/healthz": "ok", "/proxyMode": MODE}.get(path)
        if body is None:
            return Answer(code=404, body="404 page not found\n")
        return Answer(code=200, body=body, headers={"Content-Type": "text/plain; charset=utf-8"})

    # -- what is kept

    def _node(self, type: str, node: Obj) -> None:
        name = node["metadata"]["name"]
        if type == "DELETED":
            self._nodes.pop(name, None)
            return
        taints = (node.get("spec") or {}).get("taints") or ()
        going = "deletionTimestamp" in node["metadata"] or any(t["key"] == TO_BE_DELETED for t in taints)
        self._nodes.setdefault(name, _Node()).eligible = not going

    def _service(self, type: str, service: Obj) -> None:
        key = service_key(service)
        self._checks = {port: other for port, other in self._checks.items() if other != key}
        port = service["spec"].get("healthCheckNodePort")
        if port and type != "DELETED" and proxied(service):
            self._checks[port] = key

    def _slice(self, type: str, endpoint_slice: Obj) -> None:
        key = slice_service(endpoint_slice)
        if key is None:
            return
        name = endpoint_slice["metadata"]["name"]
        slices = self._slices.setdefault(key, {})
        slices.pop(name, None)
        if type != "DELETED":
            slices[name] = endpoint_slice
        elif not slices:
            del self._slices[key]

    # -- what is answered

    def _is_healthy(self, node: str, now: datetime) -> bool:
        known = self._nodes.get(node)
        if known is None or known.updated is None:
            return False
        return known.waits_since is None or (now - known.waits_since).total_seconds() < self._timeout

    def _service_answer(self, node: str, port: int, healthy: bool) -> Answer:
        key = self._checks.get(port)
        if key is None:
            return Answer(code=404, body="404 page not found\n")
        count = self._local_ready(key, node)
        words = {
            "service": {"namespace": key[0], "name": key[1]},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        return Answer(
            code=200 if count and healthy else 503,
            body=json.dumps(words, indent="\t"),
            headers={"X-Load-Balancing-Endpoint-Weight": str(count)},
        )

    def _local_ready(self, key: tuple[str, str], node: str) -> int:
        """Ready endpoints on the node, each address once; of two families the one with more."""
        found: dict[str, set[str]] = {}
        for endpoint_slice in self._slices.get(key, {}).values():
            for entry in endpoint_slice.get("endpoints") or ():
                ready = (entry.get("conditions") or {}).get("ready") is not False
                if ready and entry.get("nodeName") == node:
                    family = endpoint_slice.get("addressType", "IPv4")
                    found.setdefault(family, set()).update(entry.get("addresses") or ())
        return max(map(len, found.values()), default=0)


def _time(moment: datetime | None) -> str:
    """As Go prints a time; its zero when there was none."""
    if moment is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
