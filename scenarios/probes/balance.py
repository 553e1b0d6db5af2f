"""Which pod answers each of many connections, and whether the spread is even.

One packet for each source port (the ports are fixed, so a run can be repeated): a SYN, or a datagram
with ``--udp``. Where each one went is read from the wires, by pairing what was sent with what arrived
at a pod; an answer counts when it came back to the source.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.probes.kit import Probe

LIMIT = 0.001
WINDOW = 100
"""Packets under way at once: more than a few hundred overrun the switch's receive buffer."""
EXAMPLES = """\
examples:
  ./lab exec client1 -- python -m scenarios.probes.balance http://192.168.49.2:30000/
  ./lab exec client1 -- python -m scenarios.probes.balance 192.168.49.2:30000 --count 2000
  sudo python scenarios/probes/balance.py backendflask --from node1
  sudo python scenarios/probes/balance.py 10.96.0.10:53 --from node2 --udp --json

exit status: 0 even, 1 uneven (p at most 0.001) or unanswered"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="balance",
        description=(__doc__ or "").splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from scenarios.probes import kit

    kit.common(parser)
    parser.add_argument("--count", type=int, default=600, metavar="N", help="connections (600)")
    parser.add_argument(
        "--first-port", type=int, default=20001, metavar="PORT", help="source port of the first"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if not 1 <= options.count <= 65536 - options.first_port or options.first_port < 1:
        parser.error("source ports are from 1 to 65535: fewer --count, or another --first-port")
    status = kit.run_inside("scenarios.probes.balance", options.lab, argv)
    if status is not None:
        return status
    return report(measure(kit.open_probe(options), options), as_json=options.json)


def measure(probe: Probe, options: argparse.Namespace) -> dict[str, Any]:
    """Send, wait until all are answered (or 5 s), pair, count."""
    from controller.api.errors import PodwireError
    from scenarios.evidence import connections
    from scenarios.packet import read
    from scenarios.probes import kit
    from scenarios.probes.evenness import evenness
    from topo.capture import Capture, keep_timestamps

    ports = range(options.first_port, options.first_port + options.count)
    frames = probe.frames(ports, udp=options.udp, payload=b"hostname\n")
    ends = [link for link in probe.links if not link.label.endswith("-uplink")]
    clock = keep_timestamps()
    with Capture(ends) as capture:
        sent = 0
        for start in range(0, len(frames), WINDOW):
            probe.send(frames[start : start + WINDOW])
            sent = min(start + WINDOW, len(frames))
            try:
                capture.wait_for(_all_back(probe.source_link, sent), timeout=2)
            except PodwireError:
                break  # what stayed unanswered is counted below
    clock.close()
    packets = (
        read(frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=frame.direction == "out")
        for frame in capture.packets
    )
    pods: Counter[str] = Counter()
    if probe.service:
        pods.update(dict.fromkeys(kit.endpoints_of(probe.client, probe.service, probe.target.address), 0))
    asked = refused = ambiguous = 0
    for connection in connections(packet for packet in packets if packet and not packet.on_one_link):
        if connection.asked.dst != probe.target or connection.asked.src.port not in ports:
            continue
        asked += 1
        ambiguous += any(journey.doubts for journey in connection.journeys)
        first = connection.replies()[:1]
        if first and "RST" in first[0].hops[0].flags:
            refused += 1
        elif first:
            pods[connection.served.dst.address] += 1
    result: dict[str, Any] = {
        "target": str(probe.target),
        "from": probe.source,
        "sent": sent,
        "answered": sum(pods.values()),
        "refused": refused,
        "ambiguous": ambiguous,
        "pods": [{"address": a, "name": probe.names.host(a), "answers": n} for a, n in sorted(pods.items())],
    }
    if sum(pods.values()) and len(pods) > 1:
        test = evenness(list(pods.values()))
        result |= {"chi_square": round(test.chi_square, 3), "freedom": test.freedom, "p": round(test.p, 6)}
    result["even"] = result["answered"] == options.count and result.get("p", 1.0) > LIMIT
    return result


def _all_back(link: str, sent: int) -> Callable[[Sequence[Any]], bool]:
    """Whether as many packets as were sent have come back to the source."""
    return lambda seen: sum(frame.link == link and frame.direction == "out" for frame in seen) >= sent


def report(result: dict[str, Any], *, as_json: bool) -> int:
    """Print; the exit status says whether all were answered and the spread is even."""
    if as_json:
        print(json.dumps(result, indent=2))
        return 0 if result["even"] else 1
    sent, answered = result["sent"], result["answered"]
    print(f"{sent} connections from {result['from']} to {result['target']}: {answered} answered")
    width = max([len(row["name"]) for row in result["pods"]], default=0)
    for row in result["pods"]:
        share = row["answers"] / answered if answered else 0
        bar = "█" * round(share * 40)
        print(f"  {row['name']:<{width}}  {row['address']:<15} {row['answers']:6}  {share:6.1%}  {bar}")
    for word in ("refused", "ambiguous"):
        if result[word]:
            print(f"  {word}: {result[word]}")
    if "p" in result:
        verdict = "even" if result["p"] > LIMIT else "not even"
        chi = f"chi-square {result['chi_square']} at {result['freedom']} degrees of freedom"
        print(f"  {chi}, p = {result['p']:.4f}: {verdict}")
    return 0 if result["even"] else 1


if __name__ == "__main__":
    root = str(Path(__file__).resolve().parents[2])
    if sys.path[0] != root:
        sys.path[0] = root
    from scenarios.probes.start import start

    sys.exit(start(main))
