"""Delay and loss on a lab's links, measured: python -m tests.vm.links (needs root and netem)."""

from __future__ import annotations

import re
import sys
import time

from controller.api.errors import PodwireError
from topo import sandbox
from topo.config import ClusterConfig, LinkConfig
from topo.lab import Lab

DELAY = 300
"""Milliseconds one way, far above what an emulated machine needs by itself."""
LOSS = 30
"""Percent; of pings that are lost half on the way there and half on the way back, 51 in 100."""
PINGS = 300


def measure() -> int:
    """The node answers a far client late and a lossy one now and then; 0 when it does."""
    links = {"client1": LinkConfig(delay=DELAY), "client2": LinkConfig(loss=LOSS)}
    with Lab(ClusterConfig(nodes=1, clients=3, links=links), log=print) as lab:
        address = lab.node(1).ip
        seconds = {}
        for name in ("client1", "client3"):
            with lab.outside(name).socket() as sock:
                sock.settimeout(20)
                began = time.monotonic()
                refused = sock.connect_ex((str(address), 9))
                seconds[name] = time.monotonic() - began
                assert refused, "nobody listens there"
        far, near = seconds["client1"], seconds["client3"]
        print(f"one round trip: {far:.3f} s with {DELAY} ms each way, {near:.3f} s without")
        pinged = lab.outside("client2").run(f"ping -n -q -c {PINGS} -i 0.01 -W 5 {address}", timeout=300)
        lost = float(re.search(r"([0-9.]+)% packet loss", pinged.stdout)[1])  # type: ignore[index]
        print(f"of {PINGS} pings {lost:g} % were lost with {LOSS} % each way")
    late = far - near >= 2 * DELAY / 1000 * 0.9
    expected = 100 - (100 - LOSS) ** 2 / 100
    lossy = abs(lost - expected) < 15  # five standard deviations
    print("PASS" if late and lossy else "FAIL")
    return 0 if late and lossy else 1


if __name__ == "__main__":
    try:
        sandbox.enter(measure, name="links")
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
