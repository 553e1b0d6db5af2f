"""What a lab's Mininet network is made of: our classes of host, link, interface and bridge.

Plain Mininet pays a shell on a pty for each host and several processes for each link; here they are
namespaces and rtnetlink, while names, ``net.get``, ``cmd`` and the command line stay Mininet's own.
How the parts of a cluster are put together is ``topo.network``'s matter.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from mininet.link import Intf, Link
from mininet.node import Host, Node, OVSSwitch

from controller.api.wiring import GATEWAY, mac_of
from topo.links import HOST, QUIET, Workbench, set_sysctls
from topo.netns import Netns
from topo.node_nft import NODE_SYSCTLS, load_rules, own_refusals, rules
from topo.ovs import PrivateOvs
from topo.plan import FABRIC_ADDRESS, HOST_INTERFACE, NodePlan, Plan
from topo.rtnetlink import End, Request, address, link_up, route, veth

LO = 1
"""Interface number of ``lo`` in every namespace."""


def _host(value: IPv4Address) -> IPv4Network:
    return IPv4Network((int(value), 32))


class LazyShell:
    """Mixin: Mininet's shell (8 ms and a pty) starts when somebody first wants it."""

    shell: Any
    inNamespace: bool  # noqa: N815 (Mininet's name)

    def startShell(self: Any, mnopts: str | None = None) -> None:  # noqa: N802
        """Called by Node.__init__; here it only says that there is none yet."""

    def _need_shell(self: Any) -> None:
        if self.shell is None:
            inside, self.inNamespace = self.inNamespace, False  # else mnexec makes one more namespace
            try:
                Node.startShell(self, "-cd")
            finally:
                self.inNamespace = inside

    def sendCmd(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self._need_shell()
        Node.sendCmd(self, *args, **kwargs)

    def cmd(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._need_shell()
        return Node.cmd(self, *args, **kwargs)

    def popen(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("mncmd", [])
        kwargs.setdefault("start_new_session", True)
        return Node.popen(self, *args, **kwargs)


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
            set_sysctls(
                {f"net/ipv4/conf/{client.fabric_interface}/proxy_arp": "1" for client in plan.clients}
            )
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


class LabIntf(Intf):  # type: ignore[misc]
    """An interface that is configured already: by its link and its host, not by ifconfig."""

    def config(self, **_params: Any) -> dict[str, Any]:
        return {}

    def updateIP(self) -> str | None:  # noqa: N802
        """What Mininet's command line puts for a host's name; known, so no process asks."""
        return str(self.ip) if self.ip else None

    def delete(self) -> None:
        self.node.delIntf(self)
        self.link = None


class Wire(Link):  # type: ignore[misc]
    """A veth pair whose ends are made where they belong, each in its host's namespace."""

    def __init__(self, node1: Any, node2: Any, **params: Any) -> None:
        super().__init__(node1, node2, fast=True, **params)

    @classmethod
    def makeIntfPair(  # noqa: N802
        cls,
        intfname1: str,
        intfname2: str,
        addr1: str = "",
        addr2: str = "",
        node1: Any = None,
        node2: Any = None,
        deleteIntfs: bool = True,  # noqa: N803
    ) -> None:
        """Mininet's own hook for another type of link."""
        near, far = (
            End(
                name=name,
                mac=mac,
                netns=node.netns.fd if isinstance(node, NetnsHost) else None,
                index=next(node2.bench.indexes) if node is node2 else 0,
            )
            for name, mac, node in ((intfname1, addr1, node1), (intfname2, addr2, node2))
        )
        bench = next((node.bench for node in (node2, node1) if isinstance(node, NodeBridge)), node1.bench)
        bench.rtnetlink.run([veth(far, near)])


class NodeBridge(LazyShell, OVSSwitch):  # type: ignore[misc]
    """A node's bridge on the lab's private Open vSwitch; ports are added in batches."""

    isSetup = True  # noqa: N815 (no `ovs-vsctl show` before the first: PrivateOvs has started it)
    offload = False

    def __init__(
        self, name: str, *, node_plan: NodePlan, bench: Workbench, ovs: PrivateOvs, **params: Any
    ) -> None:
        self.node_plan, self.bench, self.ovs = node_plan, bench, ovs
        super().__init__(name, dpid=node_plan.datapath_id, protocols="OpenFlow15", **params)

    def prepare(self, interface: str) -> None:
        """A bridge-side end before it becomes a port: offloads off, up."""
        if not self.offload:
            self.bench.offloads_off(interface)
        self.bench.rtnetlink.run([link_up(self.bench.index(interface))])

    def start_args(self) -> list[str]:
        """The part of one ovs-vsctl transaction that makes this bridge with its first ports."""
        args = [
            "--",
            "add-br",
            self.name,
            "--",
            "set",
            "bridge",
            self.name,
            f"datapath_type={self.ovs.bridge_type}",
        ]
        args += ["fail_mode=secure", "protocols=OpenFlow15", f"other_config:datapath-id={self.dpid}"]
        args += ["other_config:disable-in-band=true", f"other_config:dp-desc={self.node_plan.name}"]
        for interface in self.intfNames():
            if interface != "lo":
                self.prepare(interface)
                args += ["--", "add-port", self.name, interface]
        return args

    def start(self, controllers: Sequence[Any]) -> None:
        """All bridges start together, in batchStartup."""

    @classmethod
    def batchStartup(cls, switches: Sequence[NodeBridge], **_kwargs: Any) -> Sequence[NodeBridge]:  # noqa: N802
        args = [arg for switch in switches for arg in switch.start_args()]
        switches[0].ovs.vsctl(*args)
        return switches

    @classmethod
    def batchShutdown(cls, switches: Sequence[NodeBridge], **_kwargs: Any) -> Sequence[NodeBridge]:  # noqa: N802
        """They end with their Open vSwitch."""
        return switches

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: N803
        self.ovs.vsctl("--if-exists", "del-br", self.name)

    def attach(self, intf: Any) -> None:
        self.prepare(str(intf))
        self.ovs.vsctl("add-port", self.name, str(intf))

    def detach(self, intf: Any) -> None:
        self.ovs.vsctl("--if-exists", "del-port", self.name, str(intf))
