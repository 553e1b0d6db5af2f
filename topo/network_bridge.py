"""The links and bridges of a lab's Mininet network, and what Mininet knows of an interface.

Links are made in place by rtnetlink, bridges and ports by few transactions of Open vSwitch's database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mininet.link import Intf, Link
from mininet.node import OVSSwitch

from controller.api.wiring import conntrack_zones
from topo.links import Workbench
from topo.network_hosts import NetnsHost
from topo.network_shell import LazyShell
from topo.ovs import PrivateOvs
from topo.plan import NodePlan
from topo.rtnetlink import End, link_up, veth


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
        node2.bench.rtnetlink.run([veth(far, near)])


HALF_CLOSED = {"netdev": "tcp_fin_wait=3600", "system": "tcp_close_wait=3600"}
"""How long a connection of which one side has ended may stay idle: kube-proxy's tcpCloseWaitTimeout, an
hour. By the type of datapath: the userspace one calls that state after its other end."""


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
        numbers = [switch.node_plan.number for switch in switches]
        switches[0].ovs.vsctl(*args, *_timeouts(switches[0].ovs.bridge_type, numbers))
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


def _timeouts(kind: str, numbers: Sequence[int]) -> list[str]:
    """The part of that transaction that gives the nodes' conntrack zones their policy."""
    args = ["--", "--id=@policy", "create", "CT_Timeout_Policy", f"timeouts:{HALF_CLOSED[kind]}"]
    zones = [zone for number in numbers for zone in conntrack_zones(number)]
    for zone in zones:
        args += ["--", f"--id=@zone{zone}", "create", "CT_Zone", "timeout_policy=@policy"]
    args += ["--", "--id=@datapath", "create", "Datapath", "datapath_version=0"]
    args += [f"ct_zones:{zone}=@zone{zone}" for zone in zones]
    return [*args, "--", "set", "Open_vSwitch", ".", f"datapaths:{kind}=@datapath"]
