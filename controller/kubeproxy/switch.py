"""One bridge and what it should hold: read back, compare, send the difference, wait for the barrier.

A state machine without threads, sockets or clock: ``worker`` calls it from one thread, tells it what was
heard and what time it is, and it answers through its channel. At most one read or one change is under
way; what happens meanwhile is gathered and becomes the next change. So every error heard belongs to the
change under way, and what the switch holds is known after each barrier.

Flows that vanish behind our back are found by a periodic read rather than by a flow monitor: a read sees
groups too, needs no second decoder, and costs a few milliseconds of each period (the period stretches so
that reading never takes more than a fiftieth of the time).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from itertools import chain, count
from typing import Any, TextIO

from controller.kubeproxy import openflow
from controller.kubeproxy.change import Causes, Change
from controller.kubeproxy.channel import BarrierAnswered, Channel, Described, Refused, Unasked
from controller.kubeproxy.diff import (
    DeleteFlow,
    DeleteGroup,
    Have,
    Message,
    RemoveBucket,
    applied,
    diff,
    messages,
)
from controller.kubeproxy.dispatch import Dispatcher
from controller.kubeproxy.flow import FlowKey
from controller.kubeproxy.metrics import Metrics
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.readback import ReadBack
from controller.kubeproxy.said import about, counts, many, said, short
from controller.kubeproxy.settings import DEFAULTS, Settings
from controller.kubeproxy.stale import Forgetting, outdated

LOG = logging.getLogger("kubeproxy")


class SwitchRefuses(Exception):
    """The switch refuses what we want again and again: a mistake of ours, so the process ends."""


class Switch:
    """The switch of one node. ``report(version)`` is called when all up to that resourceVersion is in."""

    def __init__(
        self,
        node: str,
        report: Callable[[int], None],
        *,
        settings: Settings = DEFAULTS,
        timing: TextIO | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.node, self.report, self.settings, self.timing = node, report, settings, timing
        self.metrics = metrics or Metrics()
        self.proxier = Proxier(node)
        self.dispatcher = Dispatcher(self.proxier.scheduled)
        self.channel: Channel | None = None
        self.ports: dict[str, int] = {}
        self._ports_moved = False
        self.have: Have | None = None
        self._whole = True  # compare all of what is desired, not the changes alone
        self._contents: dict[FlowKey, int] = {}
        self._under_way: Change | ReadBack | None = None
        self._late = 0.0  # when the answer to that is overdue
        self._xids = count(1)
        self._version: int | None = None
        self._reported: int | None = None
        self._causes = Causes()
        self._connected_at = 0.0
        self._next_read = 0.0
        self._not_before = 0.0
        self._attempts = 0
        self._waiting: list[str] = []
        self._forgetting = Forgetting(settings.flush_again)
        self._left: ReadBack | tuple[()] | None = None  # what was there before the first change of ours

    # what is heard

    def connected(self, channel: Channel, ports: dict[str, int], now: float) -> None:
        """A new connection: what the switch holds is unknown until it has been read."""
        self.channel, self.ports, self.have, self._under_way = channel, dict(ports), None, None
        self._whole, self._connected_at, self._not_before = True, now, now
        self._ports_moved = True
        self._causes.add("the switch connected", now)
        LOG.info("%s: switch connected, %d ports", self.node, len(ports))
        channel.send(openflow.set_config(next(self._xids)))

    def disconnected(self) -> None:
        LOG.info("%s: switch disconnected; its flows stay as they are", self.node)
        self.channel = self._under_way = self.have = None
        self.dispatcher.disconnected()

    def port_changed(self, name: str, number: int | None, now: float) -> None:
        if number is None:
            self.ports.pop(name, None)
        elif self.ports.get(name) == number:
            return
        else:
            self.ports[name] = number
        self._ports_moved = True
        self._causes.add(f"port {name} {'went' if number is None else f'is {number}'}", now)

    def apply(self, type: str, obj: dict[str, Any], at: float) -> None:
        self.proxier.apply(type, obj)
        meta = obj["metadata"]
        name = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
        self._causes.add(f"{obj['kind']} {name}", at)

    def synced(self, version: int) -> None:
        """Every event up to this resourceVersion has been applied.

        Told again even when it is the same: a restarted API server has forgotten our progress.
        """
        self._version, self._reported = version, None

    def barrier_answered(self, heard: BarrierAnswered) -> None:
        change = self._under_way
        if isinstance(change, Change) and change.barrier == heard.xid:
            self._under_way = None
            self._finish(change, heard.at)

    def described(self, heard: Described) -> None:
        read = self._under_way
        if not isinstance(read, ReadBack):
            return
        self._wait(heard.at)  # it is at it
        if read.take(heard):
            self._under_way = None
            self._compare(read, heard.at)

    def told(self, heard: Unasked) -> None:
        """The first packet of a connection that we are to give out, or the end of one."""
        answer = self.dispatcher.told(heard.message, heard.at, next(self._xids))
        if answer and self.channel is not None:
            self.channel.send(answer)

    def refused(self, heard: Refused) -> None:
        """The switch did not do something; after the barrier everything is read and compared again."""
        LOG.error(
            "%s: the switch refuses (%s): %s",
            self.node,
            heard.error,
            about(heard.data, self.proxier.desired()),
        )
        if isinstance(self._under_way, Change):
            self._under_way.errors += 1
        elif isinstance(self._under_way, ReadBack):
            self._under_way = None
            self._retry(heard.at)
        else:
            self.have = None

    # what is done

    def work(self, now: float) -> float | None:
        """Do what can be done now. Returns when to be called again (None: when something is heard)."""
        channel = self.channel
        if channel is None or self._version is None:
            return None
        again = self._work(channel, now)
        lease, renew = self.dispatcher.lease(now, next(self._xids)) if self.have is not None else (b"", None)
        if lease:
            channel.send(lease)
        return min((end for end in (again, renew) if end is not None), default=None)

    def _work(self, channel: Channel, now: float) -> float | None:
        if self._under_way is not None:
            if now < self._late:
                return self._late
            within = self._late - self._under_way.began
            LOG.error("%s: no answer within %g s; hanging up", self.node, within)
            self._under_way = None
            channel.hang_up()
            return None
        if now < self._not_before:
            return self._not_before
        self._forgetting.wake(now)
        if self.have is not None and not self._send(channel, self.have, now) and now < self._next_read:
            return min(self._next_read, self._forgetting.again_at)
        if self._under_way is None:
            self._read(channel, now)
        return self._late

    def _wait(self, now: float, messages: int = 0) -> None:
        """From now on: how long until the switch is thought to be stuck."""
        self._late = now + self.settings.answer_within + messages * self.settings.answer_each

    def _read(self, channel: Channel, now: float) -> None:
        read = ReadBack(flows=next(self._xids), groups=next(self._xids), began=now)
        self._under_way = read
        self._wait(now)
        for xid, request in read.requests():
            channel.expect(xid)
            channel.send(request)

    def _compare(self, read: ReadBack, now: float) -> None:
        """What was read is what the switch has; a surprise makes the next comparison whole."""
        contents = read.contents(self.proxier.desired().flows)
        found = read.have(contents)
        # an altered flow counts as missing: sent again, it overwrites what is there
        seen = self._contents
        for key in [key for key, content in contents.items() if seen.get(key, content) != content]:
            found.flows.remove(key)
            del contents[key]
        self._contents = contents
        if self.have is None:
            holds = f"{many(len(found.flows), 'flow')} and {many(len(found.groups), 'group')}"
            LOG.info("%s: the switch holds %s; read in %.1f ms", self.node, holds, 1000 * (now - read.began))
        elif found != self.have:
            self._whole = True
            self._causes.add("the switch no longer held what was sent", now)
        if self.have is None and self._left is None:
            self._left = read
        self.have = found
        self.dispatcher.counted(read.connections())
        self._next_read = now + max(self.settings.read_every, 50 * (now - read.began))

    def _messages(self, have: Have, now: float) -> list[Message]:
        if self._ports_moved:  # once for a burst of ports: it looks at all of them
            self._ports_moved = False
            self.proxier.set_ports(self.ports)
        changes = self.proxier.changes()
        self._forgetting.add(self.proxier.stale())
        self._waiting = self._say_waiting(self.proxier.waiting())
        if not self._whole:
            return messages(changes, have)
        sends = diff(have, self.proxier.desired())
        if self._waiting and now < self._connected_at + self.settings.hold_deletes:
            # a port or an object is still to come: what looks left over may be right in a moment
            return [m for m in sends if not isinstance(m, DeleteFlow | DeleteGroup | RemoveBucket)]
        self._whole = False
        if isinstance(self._left, ReadBack):  # once: from then on the proxier knows itself what goes
            self._forgetting.add(outdated(self._left.ways(self.proxier.nodes()), self.proxier.ways()))
            self._left = ()
        return sends

    def _send(self, channel: Channel, have: Have, now: float) -> bool:
        """Send the difference as one bundle and a barrier; False when there is none."""
        sends = self._messages(have, now)
        version = None if self._waiting else self._version
        causes, received = self._causes.take(now)
        if not sends:
            self._attempts = 0
            if self._forgetting.due:
                self._flush(version, now)
                return True
            self._report(version)
            return False
        change = Change(
            barrier=next(self._xids),
            sent=sends,
            version=version,
            began=now,
            causes=causes,
            received=received,
        )
        self._under_way = change
        self._wait(now, len(sends))
        if LOG.isEnabledFor(logging.DEBUG):
            for message in sends:
                LOG.debug("%s: %s", self.node, said(message))
        bundle = openflow.bundle(sends, next(self._xids), next(self._xids))
        lease, _ = self.dispatcher.lease(now, next(self._xids))  # what is settled is scheduled, too
        last = lease, openflow.barrier_request(change.barrier)
        for piece in openflow.joined(chain(bundle, last)):  # the switch works on one while we encode the next
            if not channel.send(piece):
                break
        return True

    def _flush(self, version: int | None, now: float) -> None:
        """Have conntrack forget what no longer leads anywhere; ``version`` is reported when it has."""
        assert self.channel is not None, "called only while there is one"
        stale = self._forgetting.take(now)
        LOG.info("%s: forgetting UDP connections to %s", self.node, many(len(stale), "former way"))
        barrier = next(self._xids)
        self._under_way = Change(
            barrier=barrier, sent=[], version=version, began=now, causes=(), received=now, flushes=True
        )
        self._wait(now, len(stale))
        sends = [openflow.flush(one, next(self._xids)) for one in sorted(stale, key=str)]
        for piece in openflow.joined([*sends, openflow.barrier_request(barrier)]):
            self.channel.send(piece)

    def _finish(self, change: Change, now: float) -> None:
        if change.flushes:
            self._report(change.version)
            return
        if change.errors:
            self._retry(now)
            return
        assert self.have is not None, "a change is sent only when it is known what the switch holds"
        applied(self.have, change.sent)
        self._attempts = 0
        milliseconds = 1000 * (now - change.received)
        self.metrics.programmed(self.node, now - change.began, now - change.received, time.time())
        what = counts(change.sent)
        LOG.info("%s: %s in %.1f ms, because %s", self.node, what, milliseconds, short(change.causes))
        if self.timing is not None:
            print(json.dumps(change.timing(self.node, now)), file=self.timing, flush=True)
        if self._forgetting.due:
            self._flush(change.version, now)
            return
        self._report(change.version)

    def _retry(self, now: float) -> None:
        """After a refusal nothing is taken for granted: read, compare, send again; but not for ever."""
        if self._attempts >= len(self.settings.retry_after):
            raise SwitchRefuses(f"{self.node}: refused {self._attempts + 1} times in a row; see above")
        self._not_before = now + self.settings.retry_after[self._attempts]
        self._attempts += 1
        self.have, self._whole = None, True
        self._causes.add("the switch had refused something", now)

    def _report(self, version: int | None) -> None:
        if version is not None and version != self._reported:
            self._reported = version
            self.report(version)

    def _say_waiting(self, waiting: list[str]) -> list[str]:
        known = set(self._waiting)
        for sentence in waiting:
            if sentence not in known:
                LOG.info("%s: waiting: %s", self.node, sentence)
        return waiting
