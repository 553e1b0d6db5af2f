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
from collections.abc import Sequence

from controller.api.errors import MachineError
from controller.api.wiring import MASQUERADE_PORTS, NODE_PORTS, RANGES
from topo.netns import Netns
from topo.plan import HOST_INTERFACE, Address
from topo.rtnetlink import RT_TABLE_LOCAL, RT_TABLE_MAIN, Request, host_prefix, local_route, rule

_SYSCTLS = {
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


def node_sysctls(families: Sequence[str]) -> dict[str, str]:
    """What a node's namespace has beside any host's."""
    return _SYSCTLS | ({"net/ipv6/icmp/ratelimit": "0"} if "IPv6" in families else {})


def rules(addresses: Sequence[Address]) -> str:
    """The whole table of each family for a node with these addresses; loading it again replaces it."""
    return "".join(map(_table, addresses))


def _table(node: Address) -> str:
    ports = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
    if node.version == 4:
        family, word, virtual = "ip", "icmp", RANGES["IPv4"].node_port_virtual
        asked, not_asked = f"{{ 127.0.0.0/8, {node} }}", str(node)
    else:  # a Service has no fe80:: address; neighbours do
        family, word, virtual = "ip6", "icmpv6", RANGES["IPv6"].node_port_virtual
        asked, not_asked = str(node), f"{{ {node}, fe80::/10, ff00::/8 }}"
    own = f"{family} daddr {asked} meta l4proto {{ tcp, udp, sctp }} th dport {ports}"
    handed = f'iifname "{HOST_INTERFACE}" {family} daddr != {not_asked}'  # whatever address a Service has
    localhost = f"""\
  chain localhost {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{HOST_INTERFACE}" ip saddr 127.0.0.0/8 snat to {node}
  }}
"""
    return f"""\
table {family} podwire
delete table {family} podwire
table {family} podwire {{
  chain node-ports {{
    type nat hook output priority -100; policy accept;
    {own} dnat to {virtual}
  }}
{localhost if node.version == 4 else ""}\
  chain refuse {{
    type filter hook prerouting priority raw; policy accept;
    {handed} meta l4proto tcp reject with tcp reset
    {handed} reject with {word} port-unreachable
  }}
}}
"""


def own_refusals() -> list[Request]:
    """What the kernel needs to send the node itself an ICMP port unreachable.

    It speaks then as the virtual address (the one who asked is local), and only addresses of its own may
    be a source. So they are local, for that check alone: what goes to them asks the main table first. In
    IPv6 the kernel speaks as the node, and nothing of this is needed.
    """
    ranges = RANGES["IPv4"]
    virtual = [ranges.services, ranges.load_balancers, host_prefix(ranges.node_port_virtual)]
    return [
        *(rule(5, RT_TABLE_MAIN, to=to) for to in virtual),
        rule(10, RT_TABLE_LOCAL),
        rule(0, RT_TABLE_LOCAL, delete=True),
        *(local_route(1, to) for to in virtual),
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
