"""Gives out the connections of the Services that the kubeproxy itself schedules, on one switch.

A first packet comes in, ``schedulers`` says for whom it is, and it goes back into the pipeline with the
endpoint in its registers: from there on it is as if a group had chosen. No thread, no socket, no clock.

How many connections are open? For each one that a scheduler counts, the switch has a flow in Connections,
which every packet of it passes, both ways; it ends a second after a FIN or RST, or with silence, and the
switch says so. The periodic read-back counts them again, so nothing that was missed stays wrong, and a
restarted kubeproxy knows what its predecessor gave out. Limits: a TCP connection silent for 15 minutes and
a UDP one for a minute no longer count, nor do those that a group gave out while there was no kubeproxy.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple

from controller.kubeproxy.actions import Action, Resubmit, SetField
from controller.kubeproxy.fields import IPV4, IPV6, TCP
from controller.kubeproxy.flow import Category, hash_bits
from controller.kubeproxy.flows_endpoint import union
from controller.kubeproxy.flows_scheduler import Scheduled
from controller.kubeproxy.openflow_packets import (
    OFPT_FLOW_REMOVED,
    OFPT_PACKET_IN,
    Connection,
    connection_flow,
    decode_flow_removed,
    decode_packet_in,
    lease_flow,
    packet_out,
    read_opening,
)
from controller.kubeproxy.pipeline import NEEDS_SNAT, SERVICE_GROUP, SOURCE, TO_NODE_PORT, endpoint_ip
from controller.kubeproxy.schedulers import Destination, schedule
from controller.kubeproxy.services import Endpoint

LEASE = 3
"""Seconds for which the switch goes on asking after we were last heard; then groups choose."""
RENEW = 1.0
IDLE = {TCP: 900, 0: 60}
"""Seconds of silence after which a connection no longer counts: IPVS' for TCP, conntrack's for the rest."""
REMEMBERED = 4096
AGAIN_WITHIN = 5.0
"""A first packet that comes again (a SYN unanswered, a burst of datagrams) goes where the first one went. So
does one of a client with sessionAffinity: what the switch learns is in force some milliseconds later."""


class _Given(NamedTuple):
    sequence: int
    endpoint: Endpoint
    at: float


class Dispatcher:
    """``scheduled()``: the groups we give out, by id. Messages returned are to be sent in order."""

    def __init__(self, scheduled: Callable[[], Mapping[int, Scheduled]]) -> None:
        self._scheduled = scheduled
        self._turns: Counter[int] = Counter()
        self._cookies: dict[Connection, int] = {}
        self._active: Counter[int] = Counter()
        self._given: OrderedDict[Hashable, _Given] = OrderedDict()
        self._renewed: float | None = None

    def lease(self, now: float, xid: int) -> tuple[bytes, float | None]:
        """(what is to be sent now, when to be asked again): nothing while there is nothing to schedule."""
        if not self._scheduled():
            self._renewed = None
            return b"", None
        if self._renewed is not None and now < self._renewed + RENEW:
            return b"", self._renewed + RENEW
        self._renewed = now
        return lease_flow(LEASE, xid), now + RENEW

    def disconnected(self) -> None:
        """A new connection needs a new lease."""
        self._renewed = None

    def told(self, message: bytes, now: float, xid: int) -> bytes:
        """A packet-in or a flow-removed; what is to be sent for it."""
        if message[1] == OFPT_PACKET_IN:
            return self._packet(message, now, xid)
        if message[1] == OFPT_FLOW_REMOVED:
            self._removed(*decode_flow_removed(message))
        return b""

    def counted(self, connections: Iterable[tuple[int, Connection]]) -> None:
        """All connections that have a flow, as just read back."""
        self._cookies = {connection: cookie for cookie, connection in connections}
        self._active = Counter(self._cookies.values())

    def active(self, group_id: int, endpoint: Endpoint) -> int:
        """Open connections that were given to an endpoint."""
        return self._active[cookie_of(group_id, endpoint)]

    def _packet(self, message: bytes, now: float, xid: int) -> bytes:
        packet = decode_packet_in(message)
        opening, group_id = read_opening(packet.data), packet.value(SERVICE_GROUP)
        group = self._scheduled().get(group_id)
        if opening is None or group is None:
            return b""  # the Service changed meanwhile: the client asks again, and meets the new flows
        connection, sent = opening.connection, b""
        client = (group_id, connection.client) if group.then == "SessionLearn" else None
        endpoint = self._again(connection, opening.sequence, group, now)
        if endpoint is None:
            endpoint = (client and self._again(client, 0, group, now)) or self._choose(group_id, group)
            if endpoint is None:
                return b""
            if group.scheduler.counts:
                sent = self._count(connection, cookie_of(group_id, endpoint), xid)
        self._remember(connection, _Given(opening.sequence, endpoint, now))
        if client:
            self._remember(client, _Given(0, endpoint, now))
        family = IPV4 if endpoint.address.version == 4 else IPV6
        kept = (SOURCE, TO_NODE_PORT, NEEDS_SNAT, SERVICE_GROUP)
        actions: list[Action] = [SetField(part(packet.value(part))) for part in kept]
        actions += [
            SetField(endpoint_ip(family)(int(endpoint.address))),
            SetField(union(endpoint.port)),
            Resubmit(group.then),
        ]
        return sent + packet_out(packet.in_port, actions, packet.data, xid)

    def _again(self, who: Hashable, sequence: int, group: Scheduled, now: float) -> Endpoint | None:
        """The endpoint of a moment ago, if it is still one."""
        given = self._given.get(who)
        if given is None or given.sequence != sequence or now >= given.at + AGAIN_WITHIN:
            return None
        return given.endpoint if given.endpoint in group.endpoints else None

    def _choose(self, group_id: int, group: Scheduled) -> Endpoint | None:
        destinations = [Destination(e.weight, self.active(group_id, e)) for e in group.endpoints]
        place = schedule(group.scheduler, destinations, self._turns[group_id])
        self._turns[group_id] += 1
        return None if place is None else group.endpoints[place]

    def _count(self, connection: Connection, cookie: int, xid: int) -> bytes:
        self._forget(connection)  # its flow, if there is one, is replaced
        self._cookies[connection] = cookie
        self._active[cookie] += 1
        idle = IDLE.get(connection.protocol, IDLE[0])
        return connection_flow(connection, cookie, idle, xid)

    def _removed(self, cookie: int, connection: Connection | None) -> None:
        if connection is not None and self._cookies.get(connection) == cookie:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        cookie = self._cookies.pop(connection, None)
        if cookie is not None:
            self._active[cookie] -= 1

    def _remember(self, who: Hashable, given: _Given) -> None:
        self._given[who] = given
        self._given.move_to_end(who)
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)


def cookie_of(group_id: int, endpoint: Endpoint) -> int:
    """The same for all connections that a group's scheduler gave to an endpoint."""
    return Category.CONNECTION << 56 | hash_bits(f"{group_id} {endpoint}", 56)
