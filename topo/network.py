"""The Mininet network of a cluster: a Topo that describes it, a net that is it.

``ClusterTopo`` is only description and may be read, drawn or built without this lab. ``Network`` is one
object shared by threads (kubelets plug pods, the scenario looks hosts up): every change holds ``lock``,
and its lists are replaced, not changed, so that readers need none.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from mininet.net import Mininet
from mininet.topo import Topo

from controller.api.hostports import HostPort
from controller.api.wiring import FABRIC_MAC, RANGES, mac_of
from topo import host_ports
from topo.links import QUIET, Workbench, set_sysctls, shape
from topo.netns import Netns
from topo.network_bridge import LabIntf, NodeBridge, Wire
from topo.network_hosts import EndHost, Fabric, NetnsHost, NodeHost, PodHost
from topo.node_nft import finish, load_rules, rules
from topo.ovs import PrivateOvs
from topo.plan import FABRIC, FABRIC_ADDRESS, HOST_INTERFACE, NodePlan, Plan, in_family
from topo.rtnetlink import delete_links, forget_neighbour

OPENFLOW_LISTENER = "tcp:127.0.0.1:6653"
_SAME_LISTENER = "tcp:127.0.0.1"
"""Another spelling: 6653 is OpenFlow's port. Open vSwitch forgets its back-off for a target that is new."""
_DELETE_GROUP = 6653
"""The link group by which ends are deleted together; any number nobody else uses."""


@dataclass(frozen=True, kw_only=True)
class PodPlug:
    """One pod to be wired. ``name`` is that of its Mininet host and namespace (plan.pod_host_name)."""

    name: str
    node: str
    address: IPv4Address
    interface: str
    """The bridge port, 15 characters at most (NodePlan.pod_interface)."""
    host_ports: tuple[HostPort, ...] = ()
    """Ports of the node that lead here."""


class ClusterTopo(Topo):  # type: ignore[misc]
    """Node bridges and hosts, the fabric router in the middle, clients beyond it."""

    def build(self, plan: Plan, **_options: Any) -> None:
        self.addHost(FABRIC, cls=Fabric, plan=plan, families=plan.families)
        common = {"offload": plan.config.offload, "families": plan.families}
        for node in plan.nodes:
            self.addSwitch(node.bridge, cls=NodeBridge, node_plan=node)
            self.addHost(node.name, cls=NodeHost, address=node.address, **common)
            self.addLink(
                node.name, node.bridge,
                intfName1=HOST_INTERFACE, addr1=node.mac, intfName2=node.host_interface,
            )  # fmt: skip
            self.addLink(
                FABRIC, node.bridge,
                intfName1=node.fabric_interface, addr1=FABRIC_MAC, intfName2=node.uplink_interface,
            )  # fmt: skip
        for client in plan.outside:
            self.addHost(client.name, cls=EndHost, address=client.address, **common)
            self.addLink(
                client.name, FABRIC,
                intfName1=HOST_INTERFACE, addr1=client.mac,
                intfName2=client.fabric_interface, addr2=FABRIC_MAC,
            )  # fmt: skip


class Network(Mininet):  # type: ignore[misc]
    """The running network. ``build`` needs no Open vSwitch, ``start`` does."""

    def __init__(
        self, plan: Plan, ovs: PrivateOvs, *, inside: Callable[[str], Sequence[str]] = lambda name: ()
    ) -> None:
        """``inside`` says by which command Mininet's shell of a pod gets into its other namespaces."""
        self.inside = inside
        self.plan, self.ovs, self.lock = plan, ovs, threading.RLock()
        self._targets = itertools.cycle([OPENFLOW_LISTENER, _SAME_LISTENER])
        self.hosts: list[NetnsHost]
        self.switches: list[NodeBridge]
        self.links: list[Wire]
        self.nameToNode: dict[str, Any]
        self.bench = Workbench()
        set_sysctls(QUIET)
        Mininet.inited = True  # its fixLimits writes machine-wide sysctls, and fails noisily in a sandbox
        super().__init__(
            topo=ClusterTopo(plan=plan), host=EndHost, switch=NodeBridge, link=Wire, intf=LabIntf,
            controller=None, build=False,
        )  # fmt: skip

    def addSwitch(self, name: str, cls: Any = None, **params: Any) -> Any:  # noqa: N802
        bridge = super().addSwitch(name, cls, bench=self.bench, ovs=self.ovs, **params)
        bridge.offload = self.plan.config.offload
        return bridge

    def build(self) -> None:
        """Namespaces, links, addresses, routes, node rules, shaping."""
        with self.lock:
            super().build()
            for node in self.plan.nodes:
                finish(self[node.name].nft)
            fabric = self[FABRIC].netns
            for host in (*self.plan.nodes, *self.plan.outside):
                if isinstance(host, NodePlan):
                    shape(None, host.uplink_interface, host.link)
                else:
                    shape(self[host.name].netns, HOST_INTERFACE, host.link)
                shape(fabric, host.fabric_interface, host.link)

    def start(self) -> None:
        """Bridges and their first ports, in one transaction; no controller yet (``connect``)."""
        with self.lock:
            super().start()

    def connect(self) -> None:
        """Point every bridge to the kubeproxy, which listens now: a refusal costs a second's back-off.

        After a restart of the kubeproxy the same again, to be connected at once. A bridge is never without
        a controller in between: Open vSwitch would flush its flows.
        """
        target = next(self._targets)
        args: list[str] = []
        for node in self.plan.nodes:
            args += ["--", "set-controller", node.bridge, target]
            args += [
                "--",
                "set",
                "controller",
                node.bridge,
                "max_backoff=1000",
                "connection_mode=out-of-band",
            ]
        self.ovs.vsctl(*args)

    def plug(self, pods: Sequence[PodPlug]) -> None:
        """Namespace, link, address and bridge port of each: all ready at return, or none is there."""
        made: list[str] = []
        args: list[str] = []
        with self.lock:
            for pod in pods:
                assert pod.name not in self.nameToNode, f"there is a host {pod.name} already"
            try:
                namespaces = Netns.create_all([pod.name for pod in pods])
                for netns, pod in zip(namespaces, pods, strict=True):
                    bridge = self.plan.node(pod.node).bridge
                    host = self.addHost(
                        pod.name, cls=PodHost, netns=netns, address=pod.address, node=pod.node,
                        interface=pod.interface, inside=self.inside, offload=self.plan.config.offload,
                        families=self.plan.families, host_ports=pod.host_ports,
                    )  # fmt: skip
                    made.append(pod.name)
                    self.addLink(
                        host, bridge,
                        intfName1=HOST_INTERFACE, addr1=mac_of(pod.address), intfName2=pod.interface,
                    )  # fmt: skip
                    host.configDefault()
                    self[bridge].prepare(pod.interface)
                    args += ["--", "add-port", bridge, pod.interface]
                if args:
                    self.ovs.vsctl(*args)
                self._load_host_ports({pod.node for pod in pods if pod.host_ports})
            except BaseException:
                self.unplug(made)
                raise

    def unplug(self, names: Sequence[str]) -> None:
        """Take hosts away with their ports and namespaces."""
        with self.lock:
            gone = {name: self[name] for name in names if name in self.nameToNode}
            links = [link for link in self.links if _host_of(link).name in gone]
            ports = [link.intf2 for link in links]
            if ports:
                # A port's packet socket costs vswitchd one grace period of the kernel's RCU: do not wait
                self.ovs.vsctl(
                    "--no-wait",
                    *(arg for port in ports for arg in ("--", "--if-exists", "del-port", str(port))),
                )
                indexes = [self.bench.index(str(port)) for port in ports]
                self.bench.rtnetlink.run(delete_links(indexes, _DELETE_GROUP))
            for port in ports:
                port.delete()
            self.links = [link for link in self.links if link not in links]
            self.hosts = [host for host in self.hosts if host.name not in gone]
            self.nameToNode = {name: node for name, node in self.nameToNode.items() if name not in gone}
            for host in gone.values():
                host.terminate()
            self._load_host_ports(
                {host.node for host in gone.values() if isinstance(host, PodHost) and host.host_ports}
            )

    def _load_host_ports(self, nodes: Iterable[str]) -> None:
        """Have these nodes lead their own packets to the host ports of their pods as they are now."""
        pods = [host for host in self.hosts if isinstance(host, PodHost) and host.host_ports]
        for name in nodes:
            forwards = [(pod.addresses, port) for pod in pods if pod.node == name for port in pod.host_ports]
            host: NodeHost = self[name]
            finish(load_rules(host.netns, host_ports.rules(host.addresses, forwards)))

    def readdress(self, name: str, new: IPv4Address) -> None:
        """A node gets another address: its interface, its rules, the fabric's routes. The Node object is
        not this module's matter."""
        with self.lock:
            host: NodeHost = self[name]
            old = host.address
            addresses = [in_family(new, family) for family in self.plan.families]
            finish(load_rules(host.netns, rules(addresses)))
            host.readdress(new)
            self._load_host_ports([name])
            self[FABRIC].readdress(name, old, new)

    def forget_gateway(self) -> None:
        """Let every host ask anew where the gateway is; for when the bridges were away.

        Who asked meanwhile is told "host unreachable" after three seconds, and with it whoever joined the
        question since, although the bridge answers again.
        """
        with self.lock:
            for host in self.hosts:
                bench = Workbench(host.netns)
                try:
                    for intf in host.intfList():
                        index = bench.index(str(intf))
                        for family in self.plan.families:
                            with contextlib.suppress(FileNotFoundError):
                                bench.rtnetlink.run([forget_neighbour(index, RANGES[family].gateway)])
                finally:
                    bench.close()

    def stop(self) -> None:
        """Mininet's way, without its process for each link; the lab's namespaces are gone at return."""
        with self.lock:
            ends = [intf for node in self.switches for intf in node.intfNames() if intf != "lo"]
            for bridge in self.switches:
                bridge.terminate()
            indexes = [index for index in map(self._index, ends) if index]
            if indexes:
                self.bench.rtnetlink.run(delete_links(indexes, _DELETE_GROUP))
            for host in self.hosts:
                host.terminate()
            self.hosts, self.switches, self.links, self.nameToNode = [], [], [], {}
            self.bench.close()

    def _index(self, interface: str) -> int:
        try:
            return self.bench.index(interface)
        except OSError:
            return 0

    def pods(self) -> list[PodHost]:
        return [host for host in self.hosts if isinstance(host, PodHost)]

    def addresses(self) -> set[IPv4Address]:
        """Of all hosts with one link."""
        return {host.address for host in self.hosts if isinstance(host, EndHost)}

    def describe(self) -> dict[str, dict[str, str]]:
        """Kind, namespace, address (and ``ipv6``) of every host, for a second terminal."""
        kinds = {Fabric: "router", NodeHost: "node", PodHost: "pod", EndHost: "client"}
        found: dict[str, dict[str, str]] = {}
        for host in self.hosts:
            address = getattr(host, "address", FABRIC_ADDRESS)
            of = {"kind": kinds[type(host)], "netns": host.netns.name, "address": str(address)}
            if "IPv6" in host.families:
                of["ipv6"] = str(in_family(address, "IPv6"))
            found[host.name] = of
        return found


def _host_of(link: Any) -> Any:
    return link.intf1.node
