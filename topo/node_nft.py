"""What nft does in a node's own namespace, and the sysctls it needs. The only nft in the lab.

Two things a bridge cannot do for a host that talks to itself or must be answered by a kernel:

1. A node's packets to its own address or to localhost never leave ``lo``. The output chain sends those for
   node ports to NODE_PORT_VIRTUAL, where the bridge's NodePort flows wait (kube-proxy does the same with
   its KUBE-NODEPORTS jump from nat OUTPUT; localhost needs ``route_localnet`` there too).
2. A refusal is sent by the node's kernel, as with the real kube-proxy's REJECT rules: the bridge hands the
   packet over unchanged and the refuse chain answers, with a TCP RST from the address that was asked, or an
   ICMP port unreachable from the node. No controller takes part. (``reject`` at ingress would do without the
   routes below, but Debian's kernels lack CONFIG_NFT_REJECT_NETDEV.)
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address, IPv4Network

from controller.api.errors import MachineError
from controller.api.wiring import (
    LOAD_BALANCER_NET,
    MASQUERADE_PORTS,
    NODE_PORT_VIRTUAL,
    NODE_PORTS,
    SERVICE_NET,
)
from topo.netns import Netns
from topo.plan import HOST_INTERFACE
from topo.rtnetlink import RT_TABLE_LOCAL, RT_TABLE_MAIN, Request, local_route, rule

NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/default/route_localnet": "1",
    "net/ipv4/ip_local_port_range": f"{MASQUERADE_PORTS.stop} 65535",
    "net/ipv4/icmp_ratelimit": "0",
    "?net/ipv4/icmp_msgs_per_sec": "1000000",
    "?net/ipv4/icmp_msgs_burst": "1000000",
}
"""icmp_msgs_per_sec belongs to a namespace since Linux 6.10 only; older kernels send 1,000 refusals of UDP
a second for all nodes together."""


def rules(node: IPv4Address) -> str:
    """The whole table for a node with that address; loading it again replaces it."""
    ports = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
    own = f"ip daddr {{ 127.0.0.0/8, {node} }} meta l4proto {{ tcp, udp, sctp }} th dport {ports}"
    virtual = f'iifname "{HOST_INTERFACE}" ip daddr != {node}'  # whatever address a Service has
    return f"""\
table ip podwire
delete table ip podwire
table ip podwire {{
  chain node-ports {{
    type nat hook output priority -100; policy accept;
    {own} dnat to {NODE_PORT_VIRTUAL}
  }}
  chain localhost {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{HOST_INTERFACE}" ip saddr 127.0.0.0/8 snat to {node}
  }}
  chain refuse {{
    type filter hook prerouting priority raw; policy accept;
    {virtual} meta l4proto tcp reject with tcp reset
    {virtual} reject with icmp port-unreachable
  }}
}}
"""


def own_refusals() -> list[Request]:
    """What the kernel needs to send the node itself an ICMP port unreachable.

    It speaks then as the virtual address (the one who asked is local), and only addresses of its own may
    be a source. So they are local, for that check alone: what goes to them asks the main table first.
    """
    ranges = [SERVICE_NET, LOAD_BALANCER_NET, IPv4Network(f"{NODE_PORT_VIRTUAL}/32")]
    return [
        *(rule(5, RT_TABLE_MAIN, to=to) for to in ranges),
        rule(10, RT_TABLE_LOCAL),
        rule(0, RT_TABLE_LOCAL, delete=True),
        *(local_route(1, to) for to in ranges),
    ]


def load_rules(netns: Netns, text: str) -> subprocess.Popen[str]:
    """Start loading them; ``finish`` waits, so that all nodes load at once."""
    process = netns.popen(
        ["nft", "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdin
    process.stdin.write(text)
    process.stdin.close()
    return process


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a load; the rules are ours, so a complaint means an nft or kernel that lacks something."""
    assert process.stdout
    said = process.stdout.read()
    process.stdout.close()
    if process.wait():
        raise MachineError(
            f"nft cannot load the rules of a node ({said.strip()}): nftables 1.0 and a kernel with"
            " CONFIG_NFT_NAT and CONFIG_NFT_REJECT are needed"
        )
