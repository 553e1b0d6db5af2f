"""The host that plays the outside world."""

from __future__ import annotations

import threading

import pytest

from topo.config import ClusterConfig
from topo.internet import Internet
from topo.netns import Netns
from topo.plan import Plan


def test_it_may_be_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that ends at once."""
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    with Netns.create("internet") as netns:
        internet = Internet(netns, Plan(ClusterConfig()))
        internet.start()
        internet.stop()
    assert not failed
