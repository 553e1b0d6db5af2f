"""The cloud: the fabric router as its network load balancer, and the word that there is one.

An external address is a host route of the router by ECMP over the nodes that pass their health checks
(``topo.balancer`` decides which): packets arrive at a node unchanged, addressed to the external address, as
from any passthrough load balancer; a connection stays on its node while that is healthy (a resilient
nexthop group). The checks are real HTTP requests, sent from the router's own namespace by one thread.
Which Service gets which address is the managers' loop (controller.managers.loadbalancer): the Lease that
this makes is what sets it to work.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from controller.api.client import Batch, Client, Informer
from controller.api.errors import NotSettled, Unreachable
from controller.api.wiring import CLOUD_LEASE, RANGES
from topo.balancer import (
    Address,
    Target,
    TargetHealth,
    affine,
    eligible,
    health_ports,
    nodes_of_clients,
    targets,
    ways,
)
from topo.config import HealthCheckConfig
from topo.links import Workbench, set_sysctls
from topo.netns import Netns
from topo.plan import FABRIC, Plan
from topo.rtnetlink import Request, host_prefix, rule
from topo.rtnetlink_nexthop import (
    default_route,
    delete_nexthop,
    delete_route,
    nexthop,
    resilient_group,
    route_to_group,
    unreachable,
)

COMPONENT = "cloud"
ECMP = {
    "net/ipv4/fib_multipath_hash_policy": "3",
    "net/ipv4/fib_multipath_hash_fields": str(0x01 | 0x02 | 0x04 | 0x10 | 0x20),
    "?net/ipv4/fib_multipath_hash_seed": "1",
}
"""The hash is of addresses, protocol and ports, as read from each packet (and by the same seed in every run,
since Linux 6.9). Not policy 1, which means the same: it trusts the hash that a packet has from the socket
that sent it, and between namespaces of one kernel it still has that: drawn at random for each connection,
and drawn again when TCP retransmits, which would then arrive at another node."""
ECMP_IPV6 = {name.replace("ipv4", "ipv6"): value for name, value in ECMP.items() if "seed" not in name}
"""The seed is of both families."""
BUCKETS = 420
"""Divides by every number of nodes up to 7; beyond, shares differ by a fourth of a percent at most."""
IDLE_SECONDS = 5.0
"""A node that comes back gets hash buckets that were idle for so long: livelier connections stay put."""
_FIRST_IPV6 = 500
"""The numbers of the nexthops by IPv6; those by IPv4 are the nodes'."""
_FIRST_GROUP = 1000
_FIRST_TABLE = 100
"""A table for each node, for the clients that must stay with it (``sessionAffinity: ClientIP``)."""
_STEER = 100
"""Priority of the rules that send them there: before the main table, where the groups are."""


class Cloud:
    """``start`` and ``stop`` once each. ``routes`` is what is in force, whoever looks, whenever."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        *,
        config: HealthCheckConfig | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._client, self._plan, self._log = client, plan, log
        self._config = config or plan.config.health_check
        self._changed = threading.Condition()
        self.routes: Mapping[Address, tuple[str, ...]] = {}
        """External address -> names of the nodes it leads to. Replaced, never changed."""
        self._health = TargetHealth(self._config)
        self._nodes: dict[str, dict[int, Address]] = {}
        self._ports: dict[Address, int] = {}
        self._affine: set[Address] = set()
        self._steered: dict[tuple[Address, Address], str] = {}
        self._watches: dict[Target, asyncio.Task[None]] = {}
        self._version, self._told = 0, False
        self._loop = asyncio.new_event_loop()
        self._informer = Informer(client, ["Service", "Node"], self._hear)
        self._thread = threading.Thread(target=self._run, name=COMPONENT, daemon=True)

    def start(self) -> Cloud:
        """Open for business: from now on Services get addresses, and addresses lead somewhere."""
        self._fabric = Netns.open(FABRIC)
        self._bench = Workbench(self._fabric)
        with self._fabric.enter():
            set_sysctls(ECMP | (ECMP_IPV6 if "IPv6" in self._plan.families else {}))
        self._thread.start()
        self._informer.start()
        self._client.apply(lease(datetime.now(UTC)))
        return self

    def stop(self) -> None:
        """No address leads anywhere any more. The Services keep theirs, as when a cloud's controller dies."""
        self._informer.stop()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        gone = [request for address in self.routes for request in self._closed(address)]
        gone += self._steer({})
        with contextlib.suppress(OSError):  # the router itself may be gone
            self._bench.rtnetlink.run(gone)
        self._bench.close()
        self._fabric.delete()

    def wait_for(
        self, condition: Callable[[Mapping[Address, tuple[str, ...]]], bool], timeout: float = 30
    ) -> None:
        """Until the routes are so; NotSettled when they do not come to be. For what health checks change:
        their timers are no part of settling."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.routes), timeout):
                now = {str(address): nodes for address, nodes in self.routes.items()}
                raise NotSettled(f"the cloud's routes are {now} after {timeout} s")

    # -- the thread, which lives in the router's namespace

    def _run(self) -> None:
        with self._fabric.enter():
            asyncio.set_event_loop(self._loop)
            self._loop.run_forever()
            for task in self._watches.values():
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._watches.values(), return_exceptions=True))
            self._loop.close()

    def _hear(self, batch: Batch) -> None:
        """In the informer's thread."""
        held = self._informer.store.values()
        services = [obj for obj in held if obj["kind"] == "Service"]
        nodes = [obj for obj in held if obj["kind"] == "Node"]
        ports, names = health_ports(services), eligible(nodes)
        self._loop.call_soon_threadsafe(self._know, ports, affine(services), names, batch.resource_version)

    def _know(
        self,
        ports: dict[Address, int],
        affine: set[Address],
        nodes: dict[str, dict[int, Address]],
        version: int,
    ) -> None:
        self._affine = affine
        self._ports, self._nodes, self._version, self._told = ports, nodes, version, False
        wanted = targets(ports, nodes)
        self._health.follow(wanted)
        for target in self._watches.keys() - wanted:
            self._watches.pop(target).cancel()
        for target in sorted(wanted - self._watches.keys()):
            self._watches[target] = self._loop.create_task(self._watch(target))
        self._act()

    async def _watch(self, target: Target) -> None:
        """Ask one target for ever."""
        while True:
            address = self._nodes[target.node].get(target.version)
            passed = address is not None and await ask(str(address), target.port, self._config.timeout)
            if self._health.observe(target, passed):
                self._act()
            await asyncio.sleep(self._config.interval)

    def _act(self) -> None:
        """Bring the router to what is known; say so when nothing is left to find out."""
        wanted = ways(self._ports, self._nodes, self._health, self.routes)
        requests: list[Request] = []
        for address, nodes in wanted.items():
            if self.routes.get(address) != nodes:
                requests += self._open(address, nodes)
        for address in self.routes.keys() - wanted.keys():
            requests += self._closed(address)
        clients = [value for client in self._plan.clients for value in client.addresses]
        steered = nodes_of_clients(clients, self._affine, wanted)
        requests += self._steer(steered)
        if requests:
            try:
                self._bench.rtnetlink.run([*self._nexthops(), *requests])
            except OSError as error:
                self._log(f"cloud: the router refuses: {error}")
                return
            for address, nodes in wanted.items():
                if self.routes.get(address) != nodes:
                    self._log(f"cloud: {address} leads to {', '.join(nodes) or 'no node: none is healthy'}")
            with self._changed:
                self.routes, self._steered = wanted, steered
                self._changed.notify_all()
        if self._health.known() and not self._told:
            with contextlib.suppress(Unreachable):  # its informer says so, and hears of the next server
                self._client.progress(COMPONENT, self._version)
                self._told = True

    def _nexthops(self) -> list[Request]:
        """A way to each node; each time anew, because the kernel forgets them with a link that was down."""
        found: list[Request] = []
        for node in self._plan.nodes:
            index = self._bench.index(node.fabric_interface)
            for gateway in (RANGES[family].gateway for family in self._plan.families):
                number = _nexthop(node.number, gateway)
                found += [nexthop(number, index, gateway)]
                found += [default_route(_FIRST_TABLE + node.number, number, gateway.version)]
        return found

    def _steer(self, wanted: Mapping[tuple[Address, Address], str]) -> list[Request]:
        """Rules for clients that stay with one node: the new ones first, so that none is lost in between."""
        before = self._steered.items()
        new = [self._rule(pair, node) for pair, node in wanted.items() - before]
        return new + [self._rule(pair, node, delete=True) for pair, node in before - wanted.items()]

    def _rule(self, pair: tuple[Address, Address], node: str, *, delete: bool = False) -> Request:
        client, address = (host_prefix(one) for one in pair)
        table = _FIRST_TABLE + self._plan.node(node).number
        return rule(_STEER, table, to=address, source=client, delete=delete)

    def _open(self, address: Address, nodes: tuple[str, ...]) -> list[Request]:
        to = host_prefix(address)
        if not nodes:
            closed = [delete_nexthop(_group(address))] if self.routes.get(address) else []
            return [unreachable(to), *closed]
        members = [_nexthop(self._plan.node(name).number, address) for name in nodes]
        group = resilient_group(_group(address), members, buckets=BUCKETS, idle=IDLE_SECONDS)
        return [group, route_to_group(to, _group(address))]

    def _closed(self, address: Address) -> list[Request]:
        group = [delete_nexthop(_group(address))] if self.routes.get(address) else []
        return [delete_route(host_prefix(address)), *group]


def _nexthop(node: int, of: Address) -> int:
    """The number of the way to a node in the family of an address."""
    return node if of.version == 4 else _FIRST_IPV6 + node


def _group(address: Address) -> int:
    """Nexthop groups share their numbers with nexthops, and both families theirs."""
    return _FIRST_GROUP + (int(address) & 0xFFFF) + (0 if address.version == 4 else 1 << 16)


async def ask(address: str, port: int, timeout: float) -> bool:
    """One health check: GET /healthz, passed by 200 in time."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(address, port)
            name = f"[{address}]" if ":" in address else address
            host = f"Host: {name}:{port}\r\nUser-Agent: podwire-cloud\r\nConnection: close"
            writer.write(f"GET /healthz HTTP/1.1\r\n{host}\r\n\r\n".encode())
            words = (await reader.readline()).split()
            return words[1:2] == [b"200"]
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()


def lease(now: datetime) -> dict[str, object]:
    """What the cloud-controller-manager of a real cluster holds while it runs."""
    kind, namespace, name = CLOUD_LEASE
    at = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "holderIdentity": FABRIC,
            "leaseDurationSeconds": 15,
            "acquireTime": at,
            "renewTime": at,
            "leaseTransitions": 0,
        },
    }
