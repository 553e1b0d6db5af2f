"""What one name costs a pod: every question its resolver asks, every answer, every packet.

Walks the search list as glibc does (ndots, A and AAAA at once), then asks for the same name with a dot at
its end; shows one question on its way through the kube-dns Service to a DNS pod and back; measures latency
and loss. ``--records`` compares what DNS says with what the API's objects promise.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.evidence import Connection
    from scenarios.probes.dns_ask import Asker, Walk
    from scenarios.probes.dns_records import Promise
    from scenarios.probes.kit import Probe
    from topo.images.resolver import ResolvConf

SERVER = "10.96.0.10"
LOST_AFTER = 1.0
EXAMPLES = """\
examples:
  sudo python scenarios/probes/dns.py www.example.com                  from the first pod there is
  sudo python scenarios/probes/dns.py backendflask --from frontend-6d4b75cb6d-x2k4q --tcp
  sudo python scenarios/probes/dns.py kubernetes.default --from node2 --count 1000 --json
  sudo python scenarios/probes/dns.py --records
  ./lab exec node1 -- python -m scenarios.probes.dns kubernetes.default.svc.cluster.local.

exit status: 0 the name has an address (and every record is as promised), 1 not"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="dns",
        description=(__doc__ or "").splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="as a program would say it; or --records")
    parser.add_argument("--from", dest="source", metavar="HOST", help="a pod (NAMESPACE.POD), node or client")
    parser.add_argument("--server", metavar="ADDRESS", help="another nameserver than the pod's own")
    parser.add_argument("--tcp", action="store_true", help="TCP instead of datagrams")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="questions to measure with (50)")
    parser.add_argument("--records", action="store_true", help="compare all records with the API's objects")
    parser.add_argument("--lab", metavar="NAME", help="which lab, when several run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if not options.name and not options.records:
        parser.error("a NAME is needed, or --records")
    if not 0 <= options.count <= 100_000:
        parser.error("--count: from 0 to 100000")
    from scenarios.probes import dns_ask, kit

    if options.name:
        dns_ask.check_name(options.name)
    status = kit.run_inside("scenarios.probes.dns", options.lab, argv)
    if status is not None:
        return status
    probe, conf = open_source(options)
    asker = asker_of(probe, conf, tcp=options.tcp)
    result: dict[str, Any] = {
        "from": probe.source,
        "resolver": dataclasses.asdict(conf) | {"transport": "TCP" if options.tcp else "UDP"},
    }
    connection = None
    if options.name:
        result["walks"], connection = walks(probe, conf, asker, options.name)
        result["latency"] = latency(asker, result["walks"][-1]["asked"], options.count)
    if options.records:
        result["records"] = compare(probe, asker)
    return report(result, probe, connection, as_json=options.json)


def open_source(options: argparse.Namespace) -> tuple[Probe, ResolvConf]:
    """The source, and how its programs resolve names: a pod's own file; a node or client asks kube-dns."""
    from controller.api.errors import UsageError
    from scenarios.packet import Endpoint
    from scenarios.probes import kit
    from scenarios.probes.dns_ask import PORT
    from topo import sandbox
    from topo.images.resolver import ResolvConf
    from topo.lab_state import RUNTIME, LabState
    from topo.runtime_client import RuntimeClient

    hosts = LabState.load(sandbox.run_dir()).hosts
    pods = [name for name, host in hosts.items() if host["kind"] == "pod"]
    mine = [name for name in pods if "." not in name]
    source = options.source or kit.where_we_are() or next(iter([*mine, *pods, "node1"]))
    probe = kit.open_probe(argparse.Namespace(source=source, target=f"{SERVER}:{PORT}"))
    conf = ResolvConf(nameservers=(SERVER,))
    if hosts[source]["kind"] == "pod":
        namespace, _, name = source.rpartition(".")
        runtime = RuntimeClient(sandbox.run_dir() / RUNTIME)
        done = runtime.run(name, ["cat", "/etc/resolv.conf"], namespace=namespace or "default")
        if done.returncode:
            raise UsageError(f"{source}: cannot read its /etc/resolv.conf: {done.stderr.strip()}")
        conf = ResolvConf.parse(done.stdout)
    if options.server:
        conf = dataclasses.replace(conf, nameservers=(options.server,))
    if not conf.nameservers:
        raise UsageError(f"{source}: its /etc/resolv.conf names no nameserver; say one with --server")
    target = Endpoint(conf.nameservers[0], PORT)
    return dataclasses.replace(probe, target=target), conf


def asker_of(probe: Probe, conf: ResolvConf, *, tcp: bool) -> Asker:
    import socket

    from scenarios.probes.dns_ask import Asker

    def make(kind: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in conf.nameservers[0] else socket.AF_INET
        return probe.netns.socket(family, kind)

    return Asker(
        make_socket=make,
        servers=conf.nameservers,
        tcp=tcp,
        timeout=conf.timeout,
        attempts=conf.attempts,
    )


def walks(
    probe: Probe, conf: ResolvConf, asker: Asker, name: str
) -> tuple[list[dict[str, Any]], Connection | None]:
    """The name as said, then the full name it led to (or itself) with a dot; the first one's last question
    as the wires saw it."""
    from controller.api.errors import PodwireError
    from scenarios.evidence import connections
    from scenarios.packet import read
    from scenarios.probes.dns_ask import PORT, walk
    from topo.capture import Capture, keep_timestamps

    told, shown, asked = [], None, name
    while True:
        clock = keep_timestamps()
        with Capture(list(probe.links)) as capture:
            done = walk(asked, conf, asker)
            ports = done.ports()
            if asker.tcp:
                with contextlib.suppress(PodwireError):  # what is missing then is not counted
                    capture.wait_for(_closed(probe.source_link, ports), timeout=2)
        clock.close()
        packets = [
            packet
            for frame in capture.packets
            if (
                packet := read(
                    frame.data, time_ns=frame.time_ns, link=frame.link, outgoing=frame.direction == "out"
                )
            )
            and not packet.on_one_link
        ]
        seen = [
            connection
            for connection in connections(packets)
            if connection.asked.dst.port == PORT
            and connection.asked.src.port in ports
            and connection.asked.src.address == probe.address
        ]
        told.append(_cost(asked, done, seen, probe))
        if shown is None:
            last = done.answers[-1].port
            shown = next((one for one in seen if one.asked.src.port == last), None)
        if asked.endswith("."):
            return told, shown
        asked = done.found or f"{name}."


def _closed(link: str, ports: set[int]) -> Callable[[Sequence[Any]], bool]:
    """Whether the source has acknowledged the end of each connection, its last packet."""
    from scenarios.packet import read

    def closed(frames: Sequence[Any]) -> bool:
        open_ports = set(ports)
        for frame in frames:
            packet = read(frame.data) if frame.link == link else None
            if packet is None or packet.protocol != "TCP":
                continue
            if frame.direction == "out" and "FIN" in packet.flags:
                ended.add(packet.dst.port)
            elif frame.direction == "in" and packet.src.port in ended:
                open_ports.discard(packet.src.port)
        return not open_ports

    ended: set[int] = set()
    return closed


def _cost(asked: str, done: Walk, seen: Sequence[Connection], probe: Probe) -> dict[str, Any]:
    """Packets are those that the source sent or got; sightings, all that were seen of them anywhere."""
    own = [j for c in seen for j in c.journeys if any(hop.link == probe.source_link for hop in j.hops)]
    return {
        "asked": asked,
        "found": done.found,
        "addresses": done.addresses,
        "questions": done.questions,
        "packets": len(own),
        "sightings": sum(len(journey.hops) for connection in seen for journey in connection.journeys),
        "ms": round(done.ms, 3),
        "answers": [answer.as_json() | {"says": answer.says} for answer in done.answers],
    }


def latency(asker: Asker, name: str, count: int) -> dict[str, Any]:
    """The A record, asked again and again, each time from a socket of its own; once each."""
    once = dataclasses.replace(asker, timeout=LOST_AFTER, attempts=1, servers=asker.servers[:1])
    answers = [once.ask(name, ("A",))[-1] for _ in range(count)]
    times = sorted(a.ms for a in answers if a.rcode in ("NOERROR", "NXDOMAIN"))
    result: dict[str, Any] = {"questions": count, "answered": len(times), "lost": count - len(times)}
    if times:
        result |= {
            "p50_ms": round(statistics.median(times), 3),
            "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 3),
            "max_ms": round(times[-1], 3),
        }
    return result


def compare(probe: Probe, asker: Asker) -> list[dict[str, Any]]:
    """Every record that the objects promise, asked for."""
    from scenarios.probes.dns_records import promises

    services, slices = (probe.client.list(kind)[0] for kind in ("Service", "EndpointSlice"))
    return [_compared(promise, asker) for promise in promises(services, slices)]


def _compared(promise: Promise, asker: Asker) -> dict[str, Any]:
    answer = asker.ask(promise.name, (promise.type,))[-1]
    return {
        "name": promise.name,
        "type": promise.type,
        "because": promise.because,
        "promised": sorted(promise.data),
        "says": answer.says,
        "ok": promise.kept(answer),
    }


def is_right(result: dict[str, Any]) -> bool:
    """The exit status: the name was found, nothing was lost, every record is as promised."""
    found = all(walk["found"] for walk in result.get("walks", ()))
    lost = result.get("latency", {}).get("lost", 0)
    return found and not lost and all(row["ok"] for row in result.get("records", ()))


def report(result: dict[str, Any], probe: Probe, connection: Connection | None, *, as_json: bool) -> int:
    from scenarios.narrate import Narrator
    from scenarios.result import story

    told = story(connection, probe.names) if connection else None
    status = 0 if is_right(result) else 1
    if as_json:
        result["journey"] = told.as_json() if told else None
        print(json.dumps(result | {"ok": not status}, indent=2))
        return status
    conf = result["resolver"]
    server, search = conf["nameservers"][0], " ".join(conf["search"]) or "nothing"
    print(f"{result['from']} asks {server} by {conf['transport']}, searches {search}, ndots {conf['ndots']}")
    for walk in result.get("walks", ()):
        print(f"\n{walk['asked']}")
        width = max(len(answer["name"]) for answer in walk["answers"])
        for answer in walk["answers"]:
            print(f"  {answer['type']:<5} {answer['name']:<{width}} {answer['ms']:8.2f} ms  {answer['says']}")
        cost = f"{walk['questions']} questions, {walk['packets']} packets at {result['from']}"
        print(f"  cost: {cost} (seen {walk['sightings']} times on all links), {walk['ms']:.2f} ms")
    if told:
        print("\nThe last question of the first, on the wires")
        Narrator(sys.stdout).event(told)
    if result.get("latency", {}).get("questions"):
        print("\n" + ", ".join(f"{key.replace('_ms', ' ms')} {n}" for key, n in result["latency"].items()))
    if "records" in result:
        rows = result["records"]
        for row in rows:
            if not row["ok"]:
                wanted = ", ".join(row["promised"]) or "NODATA"
                print(f"  WRONG {row['type']} {row['name']} ({row['because']}): {row['says']}, not {wanted}")
        print(f"\n{sum(row['ok'] for row in rows)} of {len(rows)} records are as the API's objects promise")
    return status


if __name__ == "__main__":
    root = str(Path(__file__).resolve().parents[2])
    if sys.path[0] != root:
        sys.path[0] = root
    from scenarios.probes.start import start

    sys.exit(start(main))
