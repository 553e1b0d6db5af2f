"""What is done to the ends of a link besides making it: sysctls, offloads, shaping.

A ``Workbench`` holds the two sockets with which one network namespace is wired; it exists because both
must be made inside that namespace, and entering it costs more than the requests. Which links there are
is ``topo.network``'s matter.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import socket
import struct
import subprocess
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from controller.api.errors import MachineError
from topo.config import LinkConfig
from topo.netns import Netns
from topo.rtnetlink import Rtnetlink

SIOCGIFINDEX, SIOCETHTOOL = 0x8933, 0x8946
ETHTOOL_GSTRINGS, ETHTOOL_GSSET_INFO, ETHTOOL_SFEATURES, ETH_SS_FEATURES = 0x1B, 0x37, 0x3B, 4
OFFLOADS = re.compile(r"[rt]x-checksum.*|tx-scatter-gather.*|.*-segmentation|rx-.*gro.*")
"""The kernel's names of the offloads that show (``ethtool -k``). With them the sender leaves the checksum
to a device that never fills it in, and segments stay glued: userspace datapath and captures see both."""

PLAIN = {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0"}
"""In every namespace of the lab: no second opinion on where a packet may come from (the bridges' SpoofGuard
decides that)."""

NO_IPV6 = {"?net/ipv6/conf/all/disable_ipv6": "1", "?net/ipv6/conf/default/disable_ipv6": "1"}
"""No neighbour or router discovery in the captures, where nobody speaks IPv6: the bridges' ends of links
always, hosts in a cluster of one family."""

IPV6 = {
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/addr_gen_mode": "1",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_redirects": "0",
    "net/ipv6/conf/default/force_mld_version": "1",
    "net/ipv6/conf/default/mldv1_unsolicited_report_interval": "1",
}
"""Where hosts speak IPv6: no address that nobody gave, no question for routers. What the kernel tells of its
multicast groups nothing can turn off; by version 1 of MLD it tells both times at once, while the host is
being wired (version 2 waits up to 25 ms, and would be seen by whoever looks at a new pod's link)."""

QUIET = PLAIN | NO_IPV6

PROGRAMS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}
"""Where programs run: they are not root, and may still listen on port 80 and ping. Of both families."""


def need_families(families: Sequence[str], ipv6: Path = Path("/proc/sys/net/ipv6")) -> None:
    """MachineError when the kernel lacks one that is asked for."""
    if "IPv6" in families and not ipv6.is_dir():
        raise MachineError(
            "this kernel has no IPv6, which ipFamily dual needs: boot without ipv6.disable=1, or leave it out"
        )


def quiet(families: Sequence[str]) -> dict[str, str]:
    """Of every host, whatever it is."""
    return PLAIN | (IPV6 if "IPv6" in families else NO_IPV6)


class Workbench:
    """Wires one namespace; ``netns`` None is the sandbox's own. Close it when the wiring is done."""

    def __init__(self, netns: Netns | None = None) -> None:
        make = netns.socket if netns else socket.socket
        self.rtnetlink = Rtnetlink(make(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        self._datagram = make(socket.AF_INET, socket.SOCK_DGRAM, 0)
        self.indexes = itertools.count(1000)
        """Interface numbers for the far ends of links: never their peers' (``rtnetlink.veth`` says why)."""

    def index(self, interface: str) -> int:
        """The interface's number in this namespace; OSError when there is none of that name."""
        answer = fcntl.ioctl(self._datagram, SIOCGIFINDEX, struct.pack("=16si20x", interface.encode(), 0))
        return int(struct.unpack_from("=i", answer, 16)[0])

    def offloads_off(self, interface: str) -> None:
        """What ``ethtool -K interface rx off tx off sg off tso off gso off gro off`` does, at once."""
        count = struct.unpack_from("=I", self._ethtool(interface, struct.pack(
            "=IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0)), 16)[0]  # fmt: skip
        header = struct.pack("=III", ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count)
        strings = self._ethtool(interface, header + bytes(32 * count))[12:]
        blocks = _offload_bits(strings)
        self._ethtool(interface, struct.pack("=II", ETHTOOL_SFEATURES, len(blocks) // 8) + blocks)

    def _ethtool(self, interface: str, command: bytes) -> bytes:
        """SIOCETHTOOL: the command structure goes in and comes out changed."""
        value = array("B", command)
        fcntl.ioctl(
            self._datagram, SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
        )
        return value.tobytes()

    def close(self) -> None:
        self.rtnetlink.close()
        self._datagram.close()


@lru_cache(maxsize=4)
def _offload_bits(strings: bytes) -> bytes:
    """For the kernel's table of feature names: (valid, requested) words that turn OFFLOADS off."""
    names = [strings[at : at + 32].rstrip(b"\0").decode() for at in range(0, len(strings), 32)]
    off = sum(1 << bit for bit, name in enumerate(names) if OFFLOADS.fullmatch(name))
    words = (len(names) + 31) // 32
    return b"".join(struct.pack("=II", off >> 32 * word & 0xFFFFFFFF, 0) for word in range(words))


def set_sysctls(values: Mapping[str, str]) -> None:
    """Write ``/proc/sys`` entries of the namespace the calling thread is in.

    A name with ``?`` before it may be missing: older kernels have it for the whole machine only, or have no
    IPv6.
    """
    for name, value in values.items():
        try:
            descriptor = os.open(f"/proc/sys/{name.lstrip('?')}", os.O_WRONLY)
        except FileNotFoundError:
            if name.startswith("?"):
                continue
            raise
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)


def shape(netns: Netns | None, interface: str, link: LinkConfig) -> None:
    """Give one end of a link its bandwidth (htb), delay and loss (netem) for what it sends."""
    commands = list(_tc_commands(interface, link))
    if not commands:
        return
    for kind, command in commands:
        argv = ["tc", *command]
        process = (
            netns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if netns
            else subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        said, _ = process.communicate()
        if process.returncode:
            raise MachineError(_tc_reason(kind, interface, str(said)))


def _tc_commands(interface: str, link: LinkConfig) -> Iterable[tuple[str, list[str]]]:
    """(qdisc kind, arguments of tc) in order; netem hangs below htb when both are wanted."""
    parent = ["root"]
    if link.bandwidth is not None:
        yield "htb", ["qdisc", "add", "dev", interface, "root", "handle", "1:", "htb", "default", "1"]
        rate = f"{round(link.bandwidth * 1000)}kbit"
        yield "htb", ["class", "add", "dev", interface, "parent", "1:", "classid", "1:1", "htb", "rate", rate]
        parent = ["parent", "1:1"]
    if link.delay is not None or link.loss is not None:
        netem = ["delay", f"{link.delay or 0}ms"] + (["loss", f"{link.loss}%"] if link.loss else [])
        yield "netem", ["qdisc", "add", "dev", interface, *parent, "netem", "limit", "10000", *netem]


def _tc_reason(kind: str, interface: str, said: str) -> str:
    option = f"CONFIG_NET_SCH_{kind.upper()}"
    if "unknown" in said or "No such file" in said:
        wanted = "bandwidth" if kind == "htb" else "delay and loss"
        return (
            f"this kernel cannot shape {interface}: {wanted} needs {option} (module sch_{kind}); load it with"
            f" `modprobe sch_{kind}`, install the distribution's full kernel modules, or leave"
            f" {wanted} out of the configuration"
        )
    return f"tc cannot shape {interface} with {kind}: {said.strip()}"
