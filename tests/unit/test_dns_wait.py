"""Waiting for names: until a DNS pod is ready, and what is said when none is in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from controller.api.client import Client
from controller.api.errors import NotSettled
from topo.dns import wait_ready

Obj = dict[str, Any]


def coredns(*, ready: bool, deleting: bool = False, node: str = "node1") -> Obj:
    metadata: Obj = {"name": "coredns-x", "namespace": "kube-system"}
    state = {"running": {}} if ready else {"waiting": {"reason": "CreateContainerConfigError"}}
    return {
        "kind": "Pod",
        "metadata": metadata | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}),
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "coredns", "state": state}],
        },
    }


def event(version: int, reason: str, about: str = "coredns-x") -> Obj:
    return {
        "metadata": {"resourceVersion": str(version)},
        "involvedObject": {"name": about},
        "reason": reason,
        "message": f"message {version}",
    }


class Stream:
    def __init__(self, lines: list[Obj]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[Obj]:
        return iter(self._lines)

    def close(self) -> None:
        pass


class Server:
    """Answers lists of Pods one after the other (the last one again and again); a watch takes a second."""

    def __init__(self, lists: list[list[Obj]], watches: list[list[Obj]], events: list[Obj]) -> None:
        self.now, self.lists, self.watches, self.events = 0.0, lists, watches, events

    def list(self, kind: str, namespace: str, labels: str = "") -> tuple[list[Obj], str]:
        if kind == "Event":
            return self.events, "1"
        return (self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]), "1"

    def watch(self, kind: str, namespace: str, **query: Any) -> Stream:
        self.now += 1
        return Stream(self.watches.pop(0) if self.watches else [])


def wait(lists: list[list[Obj]], *watches: list[Obj], events: tuple[Obj, ...] = ()) -> Server:
    server = Server(lists, list(watches), list(events))
    wait_ready(cast(Client, server), 3, clock=lambda: server.now)
    return server


def test_a_pod_that_is_ready_is_not_waited_for() -> None:
    assert wait([[coredns(ready=True)]]).now == 0


def test_one_that_becomes_ready_ends_the_wait() -> None:
    changes = [{"type": "MODIFIED", "object": coredns(ready=ready)} for ready in (False, True)]
    assert wait([[coredns(ready=False)]], changes).now == 1


@pytest.mark.parametrize("line", [[], [{"type": "ERROR", "object": {"code": 410}}]])
def test_a_watch_that_ends_early_is_not_the_end(line: list[Obj]) -> None:
    assert wait([[], [coredns(ready=True)]], line).now == 1


def test_one_that_ends_is_none_and_what_keeps_it_is_told() -> None:
    says = (
        "the cluster's DNS is not ready after 3 s: coredns-x: Pending; on node1; "
        "CreateContainerConfigError; last event Failed: message 9"
    )
    events = (event(9, "Failed"), event(8, "Pulled"), event(10, "Started", "another"))
    with pytest.raises(NotSettled) as told:
        wait([[coredns(ready=True, deleting=True)], [coredns(ready=False)]], events=events)
    assert str(told.value) == says
    with pytest.raises(NotSettled, match="not ready after 3 s: it has no pod"):
        wait([[]])
