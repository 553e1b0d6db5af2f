"""Plain Mininet, to be measured beside the lab: its own hosts, links and switches, nothing of ours.

Only the private Open vSwitch is the lab's, because neither may touch the machine's; its userspace
datapath (or the kernel's) is the one the lab would take.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from mininet.net import Mininet
from mininet.node import OVSSwitch
from mininet.topo import Topo

from tests.bench.boxed import since_start
from topo import sandbox
from topo.ovs import PrivateOvs


class Star(Topo):  # type: ignore[misc]
    """``switches`` in a star, ``hosts`` spread over them: as many as the lab has."""

    def build(self, hosts: int, switches: int, **_options: Any) -> None:
        names = [self.addSwitch(f"s{number}") for number in range(1, switches + 1)]
        for name in names[1:]:
            self.addLink(names[0], name)
        for number in range(1, hosts + 1):
            self.addLink(self.addHost(f"h{number}"), names[number % switches])


def build(*, hosts: int, switches: int, ping: bool = True) -> dict[str, float]:
    """Start it; ``answer``: seconds from the process's start to the first answered ping, ``built``: its own.

    Without ``ping`` nobody asks: the floods of 1,000 new hosts keep its switches from answering for long.
    """
    ovs = PrivateOvs(sandbox.run_dir())
    try:
        ovs.start()
        Mininet.inited = True  # its fixLimits would set sysctls that a sandbox may not
        began = time.monotonic()
        net = Mininet(
            topo=Star(hosts=hosts, switches=switches),
            switch=partial(OVSSwitch, datapath=ovs.datapath, failMode="standalone"),
            controller=None,
            build=False,
        )
        net.build()
        net.start()
        built = time.monotonic() - began
        if ping:
            answer = net["h1"].cmd(f"ping -c 1 -i 0.05 -w 5 {net[f'h{hosts}'].IP()}")
            assert "1 received" in answer, f"plain Mininet does not answer: {answer}"
        return {"answer": since_start(), "built": built}
    finally:
        ovs.stop()  # hosts and shells end with the sandbox
