"""The hosts of a lab's Mininet network: nodes, pods, clients, the router between them.

Plain Mininet pays a shell on a pty for each host and several processes for each address; here a host is a
namespace and an exchange with the kernel, while names, ``net.get``, ``cmd`` and the command line stay
Mininet's own. How a cluster is put together is ``topo.network``'s matter.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from mininet.node import Host

from controller.api.wiring import GATEWAY, mac_of
from topo.links import HOST, QUIET, Workbench, set_sysctls
from topo.netns import Netns
from topo.network_shell import LazyShell
from topo.node_nft import NODE_SYSCTLS, load_rules, own_refusals, rules
from topo.plan import FABRIC_ADDRESS, HOST_INTERFACE, NodePlan, Plan
from topo.rtnetlink import Request, address, link_up, route

LO = 1
"""Interface number of ``lo`` in every namespace."""


def _host(value: IPv4Address) -> IPv4Network:
    return IPv4Network((int(value), 32))


class NetnsHost(LazyShell, Host):  # type: ignore[misc]
    """A host is a named network namespace (``ip netns exec NAME ...`` works too)."""

    sysctls = QUIET

    def __init__(self, name: str, *, netns: Netns | None = None, **params: Any) -> None:
        self.netns = netns or Netns.create(name)
        try:
            with self.netns.enter():
                set_sysctls(self.sysctls)
                self.bench = Workbench()
        except BaseException:
            self.netns.delete()
            raise
        super().__init__(name, **params)

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
    """A host with one link: node, client or pod. All it knows is the gateway."""

    sysctls = HOST

    def __init__(self, name: str, *, address: IPv4Address, **params: Any) -> None:
        self.address = address
        super().__init__(name, **params)

    def config(self, **_params: Any) -> dict[str, Any]:
        """Address, routes and state of the interfaces, in one exchange with the kernel."""
        index = self.bench.index(HOST_INTERFACE)
        if not self.params.get("offload"):
            self.bench.offloads_off(HOST_INTERFACE)
        self.bench.rtnetlink.run(
            [link_up(LO), address(index, self.address), link_up(index), *self._routes(index)]
        )
        self._tell_intf()
        return {}

    def readdress(self, new: IPv4Address) -> None:
        """Another address and MAC; the old address and its connections are gone at return."""
        index = self.bench.index(HOST_INTERFACE)
        old, self.address = self.address, new
        self.bench.rtnetlink.run(
            [
                address(index, old, delete=True),
                link_up(index, mac_of(new)),
                address(index, new),
                *self._routes(index),
            ]
        )
        self._tell_intf()

    def _routes(self, index: int) -> list[Request]:
        gateway = route(index, _host(GATEWAY))
        return [gateway, route(index, None, via=GATEWAY)]

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
        **params: Any,
    ) -> None:
        self.node, self.interface, self._inside = node, interface, inside
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

    sysctls = HOST | NODE_SYSCTLS

    def config(self, **params: Any) -> dict[str, Any]:
        self.nft: subprocess.Popen[str] = load_rules(self.netns, rules(self.address))
        done = super().config(**params)
        self.bench.rtnetlink.run(own_refusals())
        return done


class Fabric(NetnsHost):
    """The router between nodes and clients: Linux, ip_forward, a /32 and a pod range for each node.

    Clients ask for GATEWAY as everyone does and are answered by proxy ARP, not by an address of the router's:
    with a local 169.254.1.1 the kernel accepts no route via 169.254.1.1 any more, and towards a node that is
    the node's bridge.
    """

    sysctls = QUIET | {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/icmp_ratelimit": "0",
        "net/ipv4/conf/all/send_redirects": "0",
        "net/ipv4/conf/default/send_redirects": "0",
    }

    def config(self, *, plan: Plan, **_params: Any) -> dict[str, Any]:
        requests = [link_up(LO), address(LO, FABRIC_ADDRESS)]
        for host in (*plan.nodes, *plan.clients):
            index = self.bench.index(host.fabric_interface)
            if not plan.config.offload:
                self.bench.offloads_off(host.fabric_interface)
            requests.append(link_up(index))
            if isinstance(host, NodePlan):
                for net in (_host(host.address), host.pod_cidr):
                    requests.append(route(index, net, via=GATEWAY, source=FABRIC_ADDRESS))
            else:
                requests.append(route(index, _host(host.address), source=FABRIC_ADDRESS))
        first = self.bench.index(plan.nodes[0].fabric_interface)
        requests.append(route(first, _host(GATEWAY)))  # proxy ARP answers for what lies beyond another link
        self.bench.rtnetlink.run(requests)
        with self.netns.enter():
            for client in plan.clients:
                end = client.fabric_interface
                # Linux answers for others after a random time of up to 0.8 s, unless it is told not to
                set_sysctls({f"net/ipv4/conf/{end}/proxy_arp": "1", f"net/ipv4/neigh/{end}/proxy_delay": "0"})
        return {}

    def readdress(self, interface: str, old: IPv4Address, new: IPv4Address) -> None:
        """Route a node's new address instead of its old one."""
        index = self.bench.index(interface)
        self.bench.rtnetlink.run(
            [
                route(index, _host(new), via=GATEWAY, source=FABRIC_ADDRESS),
                route(index, _host(old), via=GATEWAY, source=FABRIC_ADDRESS, delete=True),
            ]
        )
