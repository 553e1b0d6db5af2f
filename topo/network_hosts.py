"""The hosts of a lab's Mininet network: nodes, pods, clients, the router between them.

Plain Mininet pays a shell on a pty for each host and several processes for each address; here a host is a
namespace and an exchange with the kernel, while names, ``net.get``, ``cmd`` and the command line stay
Mininet's own. How a cluster is put together is ``topo.network``'s matter.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any

from mininet.node import Host

from controller.api.hostports import HostPort
from controller.api.wiring import FABRIC_MAC, GATEWAY, RANGES, mac_of
from topo.links import PROGRAMS, Workbench, quiet, set_sysctls
from topo.netns import Netns
from topo.network_shell import LazyShell
from topo.node_nft import load_rules, node_sysctls, own_refusals, rules
from topo.plan import FABRIC_ADDRESS, HOST_INTERFACE, Address, HostPlan, NodePlan, Plan, in_family, link_local
from topo.rtnetlink import Request, address, host_prefix, link_up, route

LO = 1
"""Interface number of ``lo`` in every namespace."""


class NetnsHost(LazyShell, Host):  # type: ignore[misc]
    """A host is a named network namespace (``ip netns exec NAME ...`` works too)."""

    def __init__(
        self,
        name: str,
        *,
        netns: Netns | None = None,
        families: Sequence[str] = ("IPv4",),
        **params: Any,
    ) -> None:
        self.families = families
        self.netns = netns or Netns.create(name)
        try:
            with self.netns.enter():
                set_sysctls(self.sysctls())
                self.bench = Workbench()
        except BaseException:
            self.netns.delete()
            raise
        super().__init__(name, **params)

    def sysctls(self) -> dict[str, str]:
        """What its namespace begins with."""
        return quiet(self.families)

    def enter_argv(self) -> list[str]:
        """What to put before a command so that it enters namespaces other than the network's."""
        return []

    def _popen(self, cmd: Sequence[str], **params: Any) -> Any:
        return self.netns.popen([*self.enter_argv(), *cmd], **params)

    def deleteIntfs(self, checkName: bool = True) -> None:  # noqa: N802, N803
        """They go with the namespace."""

    def terminate(self) -> None:
        """End the shell and let go of the namespace; what still runs in it keeps it alive until it ends."""
        super().terminate()
        self.bench.close()
        self.netns.delete()


class EndHost(NetnsHost):
    """A host with one link: node, client or pod. All it knows is the gateway. ``address`` is its IPv4 one,
    from which its IPv6 one follows (``plan.in_family``)."""

    def __init__(self, name: str, *, address: IPv4Address, **params: Any) -> None:
        self.address = address
        super().__init__(name, **params)

    def sysctls(self) -> dict[str, str]:
        return super().sysctls() | PROGRAMS

    @property
    def addresses(self) -> tuple[Address, ...]:
        """One of each family, the primary one first."""
        return tuple(in_family(self.address, family) for family in self.families)

    def config(self, **_params: Any) -> dict[str, Any]:
        """Addresses, routes and state of the interfaces, in one exchange with the kernel."""
        index = self.bench.index(HOST_INTERFACE)
        if not self.params.get("offload"):
            self.bench.offloads_off(HOST_INTERFACE)
        named = [address(index, value) for value in self._named()]
        self.bench.rtnetlink.run([link_up(LO), *named, link_up(index), *self._routes(index)])
        self._tell_intf()
        return {}

    def readdress(self, new: IPv4Address) -> None:
        """Other addresses and MAC; the old addresses and their connections are gone at return."""
        index = self.bench.index(HOST_INTERFACE)
        old = [address(index, value, delete=True) for value in self._named()]
        self.address = new
        named = [address(index, value) for value in self._named()]
        self.bench.rtnetlink.run([*old, link_up(index, mac_of(new)), *named, *self._routes(index)])
        self._tell_intf()

    def _named(self) -> list[Address]:
        """All that its interface is called by: in IPv6 also what it asks for the gateway with."""
        own = [link_local(mac_of(self.address))] if "IPv6" in self.families else []
        return [*self.addresses, *own]

    def _routes(self, index: int) -> list[Request]:
        requests = [route(index, host_prefix(GATEWAY))]
        return requests + [route(index, None, via=RANGES[family].gateway) for family in self.families]

    def _tell_intf(self) -> None:
        intf = self.defaultIntf()
        intf.ip, intf.prefixLen, intf.mac = str(self.address), 32, mac_of(self.address)


class PodHost(EndHost):
    """A pod's network: never wired again, so its sockets are let go (three descriptors a pod are many)."""

    def __init__(
        self,
        name: str,
        *,
        node: str,
        interface: str,
        inside: Callable[[str], Sequence[str]],
        host_ports: Sequence[HostPort] = (),
        **params: Any,
    ) -> None:
        self.node, self.interface, self._inside, self.host_ports = node, interface, inside, host_ports
        super().__init__(name, **params)

    def enter_argv(self) -> list[str]:
        return list(self._inside(self.name))

    def config(self, **params: Any) -> dict[str, Any]:
        try:
            return super().config(**params)
        finally:
            self.bench.close()


class NodeHost(EndHost):
    """A node's own namespace: sends its NodePort traffic to the bridge, refuses for it (topo.node_nft)."""

    def sysctls(self) -> dict[str, str]:
        return super().sysctls() | node_sysctls(self.families)

    def config(self, **params: Any) -> dict[str, Any]:
        self.nft: subprocess.Popen[str] = load_rules(self.netns, rules(self.addresses))
        done = super().config(**params)
        self.bench.rtnetlink.run(own_refusals())
        return done


_ROUTER = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


class Fabric(NetnsHost):
    """The router between nodes and clients: Linux, ip_forward, a /32 and a pod range for each node.

    Clients ask for GATEWAY as everyone does and are answered by proxy ARP, not by an address of the router's:
    with a local 169.254.1.1 the kernel accepts no route via 169.254.1.1 any more, and towards a node that is
    the node's bridge.
    """

    def sysctls(self) -> dict[str, str]:
        ipv6 = {"net/ipv6/conf/all/forwarding": "1", "net/ipv6/icmp/ratelimit": "0"}
        return super().sysctls() | _ROUTER | (ipv6 if "IPv6" in self.families else {})

    def config(self, *, plan: Plan, **_params: Any) -> dict[str, Any]:
        own = [in_family(FABRIC_ADDRESS, family) for family in self.families]
        requests = [link_up(LO), *(address(LO, value) for value in own)]
        for host in (*plan.nodes, *plan.outside):
            index = self.bench.index(host.fabric_interface)
            if not plan.config.offload:
                self.bench.offloads_off(host.fabric_interface)
            requests += [link_up(index), *self._neighbourly(index, host)]
            for family, source, value in zip(self.families, own, host.addresses, strict=True):
                if isinstance(host, NodePlan):
                    pods = host.pod_cidrs[self.families.index(family)]
                    for net in (host_prefix(value), pods):
                        requests.append(route(index, net, via=RANGES[family].gateway, source=source))
                else:
                    requests.append(route(index, host_prefix(value), source=source))
        first = self.bench.index(plan.nodes[0].fabric_interface)
        # Proxy ARP answers for what lies beyond another link
        requests.append(route(first, host_prefix(GATEWAY)))
        self.bench.rtnetlink.run(requests)
        with self.netns.enter():
            for client in plan.outside:
                end = client.fabric_interface
                # Linux answers for others after a random time of up to 0.8 s, unless it is told not to
                set_sysctls({f"net/ipv4/conf/{end}/proxy_arp": "1", f"net/ipv4/neigh/{end}/proxy_delay": "0"})
        return {}

    def _neighbourly(self, index: int, host: HostPlan) -> list[Request]:
        """The router's IPv6 addresses on a link: the gateway towards a client, one to ask a bridge from."""
        if "IPv6" not in self.families:
            return []
        asks = isinstance(host, NodePlan)
        return [address(index, link_local(FABRIC_MAC) if asks else RANGES["IPv6"].gateway)]

    def readdress(self, interface: str, old: IPv4Address, new: IPv4Address) -> None:
        """Route a node's new addresses instead of its old ones."""
        index = self.bench.index(interface)
        for value, delete in ((new, False), (old, True)):
            self.bench.rtnetlink.run(
                [
                    route(
                        index,
                        host_prefix(in_family(value, family)),
                        via=RANGES[family].gateway,
                        source=in_family(FABRIC_ADDRESS, family),
                        delete=delete,
                    )
                    for family in self.families
                ]
            )
