"""The one thread that owns every switch and proxier: takes what was heard, lets each switch do its work.

Handlers of the OpenFlow framework and of the informer only put values into its inbox, which is unbounded,
so none of them ever waits. All that has gathered is applied before anything is sent: a burst of events
becomes one change. Nothing here encodes, and nothing here knows what a Service is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, TextIO

from controller.api.wiring import DATAPATH_ID
from controller.kubeproxy import hub
from controller.kubeproxy.channel import (
    BarrierAnswered,
    Channel,
    Connected,
    Described,
    Disconnected,
    Heard,
    PortChanged,
    Refused,
    Unasked,
)
from controller.kubeproxy.metrics import Metrics
from controller.kubeproxy.settings import DEFAULTS, Settings
from controller.kubeproxy.switch import Switch

LOG = logging.getLogger("kubeproxy")
Obj = dict[str, Any]


class Event(Protocol):
    """An informer's event."""

    @property
    def type(self) -> str: ...
    @property
    def obj(self) -> Obj: ...


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What the informer delivered: every event up to ``resource_version``."""

    events: Sequence[Event]
    resource_version: int
    at: float


@dataclass(kw_only=True)
class _Link:
    """A connection, and what its switch said about itself."""

    datapath_id: int
    ports: dict[str, int]
    switch: Switch | None = None


class Worker:
    """``run`` is its thread; ``deliver`` may be called from any thread.

    ``report(node, version)`` must not block. ``nodes``: only these, all when empty.
    """

    def __init__(
        self,
        report: Callable[[str, int], None],
        *,
        nodes: Collection[str] = (),
        settings: Settings = DEFAULTS,
        timing: TextIO | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._report, self._nodes, self._settings, self._timing = report, nodes, settings, timing
        self._metrics = metrics
        self._inbox = hub.Queue()
        self._objects: dict[tuple[str, str, str], Obj] = {}
        self._version: int | None = None
        self._links: dict[Channel, _Link] = {}
        self._switches: dict[str, Switch] = {}
        self._datapaths: dict[int, str] = {}
        self.synced = hub.Event()
        """Set when the first complete list of objects has been applied."""

    def deliver(self, heard: Heard | Objects) -> None:
        self._inbox.put(heard)

    def run(self) -> None:
        """For ever."""
        pause: float | None = None
        while True:
            for heard in self._gather(pause):
                self._handle(heard)
            pause = self.work(monotonic())

    def work(self, now: float) -> float | None:
        """Let every switch do what it can; seconds until one wants to be called again."""
        ends = [end for switch in self._switches.values() if (end := switch.work(now)) is not None]
        return max(0.0, min(ends) - now) if ends else None

    def _gather(self, pause: float | None) -> Iterable[Heard | Objects]:
        try:
            yield self._inbox.get(timeout=pause)
            while True:
                yield self._inbox.get_nowait()
        except hub.QueueEmpty:
            return

    def _handle(self, heard: Heard | Objects) -> None:
        if isinstance(heard, Objects):
            self._apply(heard)
        elif isinstance(heard, Connected):
            self._links[heard.channel] = _Link(datapath_id=heard.datapath_id, ports=dict(heard.ports))
            if not self._attach(heard.channel, heard.at):
                LOG.info("switch %016x connected; no Node names it yet", heard.datapath_id)
        elif (link := self._links.get(heard.channel)) is None:
            return  # a word of a connection that is gone
        elif isinstance(heard, Disconnected):
            del self._links[heard.channel]
            if link.switch is not None and link.switch.channel is heard.channel:
                link.switch.disconnected()
        elif isinstance(heard, PortChanged):
            self._port_changed(link, heard)
        elif link.switch is not None and link.switch.channel is heard.channel:
            if isinstance(heard, Unasked):
                link.switch.told(heard)
            elif isinstance(heard, BarrierAnswered):
                link.switch.barrier_answered(heard)
            elif isinstance(heard, Described):
                link.switch.described(heard)
            elif isinstance(heard, Refused):
                link.switch.refused(heard)

    def _port_changed(self, link: _Link, heard: PortChanged) -> None:
        if heard.number is None:
            link.ports.pop(heard.name, None)
        else:
            link.ports[heard.name] = heard.number
        if link.switch is not None and link.switch.channel is heard.channel:
            link.switch.port_changed(heard.name, heard.number, heard.at)

    def _apply(self, batch: Objects) -> None:
        for event in batch.events:
            meta = event.obj["metadata"]
            key = (event.obj["kind"], meta.get("namespace", ""), meta["name"])
            if event.type == "DELETED":
                self._objects.pop(key, None)
            else:
                self._objects[key] = event.obj
            for switch in self._switches.values():
                switch.apply(event.type, event.obj, batch.at)
            if event.obj["kind"] == "Node":
                self._node(event.type, event.obj, batch.at)
        self._version = batch.resource_version
        for switch in self._switches.values():
            switch.synced(batch.resource_version)
        self.synced.set()

    def _node(self, type: str, node: Obj, at: float) -> None:
        """A Node names the datapath id of its bridge by an annotation; that ties a switch to it."""
        name = node["metadata"]["name"]
        if self._nodes and name not in self._nodes:
            return
        datapath = None if type == "DELETED" else _datapath_id(node)
        if self._datapaths.get(datapath or 0) == name:
            return
        self._datapaths = {number: other for number, other in self._datapaths.items() if other != name}
        self._switches.pop(name, None)
        for link in self._links.values():
            if link.switch is not None and link.switch.node == name:
                link.switch = None
        if datapath is None:
            return
        self._datapaths[datapath] = name
        switch = Switch(
            name,
            lambda version: self._report(name, version),
            settings=self._settings,
            timing=self._timing,
            metrics=self._metrics,
        )
        for obj in self._objects.values():
            switch.apply("ADDED", obj, at)
        self._switches[name] = switch
        for channel in list(self._links):
            self._attach(channel, at)

    def _attach(self, channel: Channel, at: float) -> bool:
        """Tie a connection to the switch of its node, if a Node with its datapath id is known."""
        link = self._links[channel]
        name = self._datapaths.get(link.datapath_id)
        if name is None or link.switch is not None:
            return link.switch is not None
        link.switch = self._switches[name]
        link.switch.connected(channel, link.ports, at)
        return True


def _datapath_id(node: Obj) -> int | None:
    text = (node["metadata"].get("annotations") or {}).get(DATAPATH_ID)
    try:
        return int(text, 16) if text else None
    except ValueError:
        name = node["metadata"]["name"]
        LOG.warning("Node %s: annotation %s: %r is no hex number", name, DATAPATH_ID, text)
        return None
