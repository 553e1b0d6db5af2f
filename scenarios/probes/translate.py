"""One packet, seen at both ends: what was translated on the way, and back.

Sends a SYN (or a datagram) and pairs what every link of the lab saw of it, then prints the journey
there and the journey back with every rewritten address and port.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.probes.kit import Probe

EXAMPLES = """\
examples:
  ./lab exec client1 -- python -m scenarios.probes.translate http://192.168.49.4:30000/
  sudo python scenarios/probes/translate.py backendflask --from node1
  sudo python scenarios/probes/translate.py 10.96.0.10:53 --from node2 --udp --json

exit status: 0 an answer came back, 1 none did"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="translate",
        description=(__doc__ or "").splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from scenarios.probes import kit

    kit.common(parser)
    parser.add_argument("--port", type=int, default=45678, metavar="PORT", help="source port (45678)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if not 1 <= options.port <= 65535:
        parser.error("--port: from 1 to 65535")
    status = kit.run_inside("scenarios.probes.translate", options.lab, argv)
    if status is not None:
        return status
    probe = kit.open_probe(options)
    return report(observe(probe, options), probe, options)


def observe(probe: Probe, options: argparse.Namespace) -> Connection | None:
    """Send one packet and wait for the answer (2 s); the connection as the links saw it."""
    from controller.api.errors import PodwireError
    from scenarios.evidence import connections
    from scenarios.packet import read
    from topo.capture import Capture, keep_timestamps

    clock = keep_timestamps()
    with Capture(list(probe.links)) as capture:
        probe.send(probe.frames([options.port], udp=options.udp, payload=b"hostname\n"))

        def answered(seen: Sequence[Any]) -> bool:
            return any(frame.link == probe.source_link and frame.direction == "out" for frame in seen)

        try:
            capture.wait_for(answered, timeout=2)
        except PodwireError:
            pass  # the journey there is worth showing all the same
    clock.close()
    packets = [
        read(frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=frame.direction == "out")
        for frame in capture.packets
    ]
    for connection in connections(packet for packet in packets if packet and not packet.on_one_link):
        if connection.asked.dst == probe.target and connection.asked.src.port == options.port:
            return connection
    return None


def report(connection: Connection | None, probe: Probe, options: argparse.Namespace) -> int:
    """Print the journey there and back; 1 when no answer came."""
    from scenarios.narrate import Narrator
    from scenarios.result import story

    if connection is None:
        print(f"the packet from {probe.source} to {probe.target} was seen on no link", file=sys.stderr)
        return 1
    told = story(connection, probe.names)
    if options.json:
        print(json.dumps(told.as_json(), indent=2))
    else:
        Narrator(sys.stdout).event(told)
    return 0 if connection.replies() else 1


if __name__ == "__main__":
    root = str(Path(__file__).resolve().parents[2])
    if sys.path[0] != root:
        sys.path[0] = root
    from scenarios.probes.start import start

    sys.exit(start(main))
