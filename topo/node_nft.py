"""What nft does in a node's own namespace, and the sysctls it needs. The only nft in the lab.

Two things a bridge cannot do for a host that talks to itself or must be answered by a kernel:

1. A node's packets to its own address or to localhost never leave ``lo``. The output chain sends those for
   node ports to NODE_PORT_VIRTUAL, where the bridge's NodePort flows wait (kube-proxy does the same with
   its KUBE-NODEPORTS jump from nat OUTPUT; localhost needs ``route_localnet`` there too).
2. A refusal is sent by the node's kernel, as with the real kube-proxy's REJECT rules: the bridge hands the
   packet over unchanged and the refuse chain answers as the address that was asked, with a TCP RST or an
   ICMP port unreachable. No controller takes part. The chain hooks ingress, before routing: further on the
   kernel would not answer the node itself (its own address comes in as source) nor speak as a virtual IP.
"""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

from controller.api.errors import MachineError
from controller.api.wiring import NODE_PORT_VIRTUAL, NODE_PORTS, SERVICE_NET
from topo.netns import Netns
from topo.plan import HOST_INTERFACE

NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/default/route_localnet": "1",
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
    virtual = f"ip daddr {{ {SERVICE_NET}, {NODE_PORT_VIRTUAL} }}"
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
}}
table netdev podwire
delete table netdev podwire
table netdev podwire {{
  chain refuse {{
    type filter hook ingress device "{HOST_INTERFACE}" priority 0; policy accept;
    {virtual} meta l4proto tcp reject with tcp reset
    {virtual} reject with icmp port-unreachable
  }}
}}
"""


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
            " CONFIG_NFT_NAT and CONFIG_NFT_REJECT_NETDEV are needed"
        )
