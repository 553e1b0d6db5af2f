"""Bench (h): names by the VIP, beside the same server asked directly and beside dnsmasq with the same names.

dnsperf, in a pod of its own on the other node: as fast as it goes (by VIP, directly, dnsmasq, in turn), then
1,000 questions a second for the time of each answer, once more while another name's object changes all the
time. And how soon a changed object is answered with.
"""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from statistics import median, quantiles
from typing import Any

from tests.bench.boxed import BenchError, boxed, say
from tests.bench.figures import Aim, Figure
from tests.bench.objects import endpoint_slice, pod, service

NAMES = 100
RATE = 1000
CHANGES = 40
"""A second, at most, while the time of each answer is taken once more."""
P99_MS, PROGRAMMED_MS, RATIO = 5.0, 50.0, 0.9
VIP = "10.96.0.10"


def measure(*, quick: bool) -> list[Figure]:
    for program, package in (("dnsperf", "dnsperf"), ("dnsmasq", "dnsmasq-base")):
        if shutil.which(program) is None:
            raise BenchError(f"the program {program} is missing: apt-get install {package}")
    rounds, seconds, changes = (1, 1, 5) if quick else (7, 3, 100)
    runs = boxed("tests.bench.names:alternate", rounds=rounds, seconds=seconds, changes=changes, timeout=300)
    times = {key: runs[key] for key in ("p50", "lost", "asked")}
    return [
        Figure(
            bench="h",
            name="questions by VIP, as fast as it goes",
            unit="/s",
            samples=runs["vip"],
            beside="the same server asked directly",
            against=runs["direct"],
            aims=[Aim(of="ratio", bound=RATIO, at_least=True)],
        ),
        Figure(
            bench="h",
            name="the same",
            unit="/s",
            samples=runs["vip"],
            beside="dnsmasq, the same names, by its VIP",
            against=runs["dnsmasq"],
        ),
        Figure(
            bench="h",
            name=f"p99 of an answer by VIP at {RATE} /s",
            unit="ms",
            samples=runs["p99"],
            beside="dnsmasq",
            against=runs["dnsmasq99"],
            aims=[Aim(of="value", bound=P99_MS)],
            parts=times,
        ),
        Figure(
            bench="h",
            name=f"the same while another name changes {CHANGES} times a second",
            unit="ms",
            samples=runs["changing99"],
            beside="while nothing changes",
            against=runs["p99"],
        ),
        Figure(
            bench="h",
            name="an EndpointSlice changed to its answer by VIP",
            unit="ms",
            samples=runs["programmed"],
            beside="a question by itself",
            against=runs["question"],
            aims=[Aim(of="value", bound=PROGRAMMED_MS)],
            paired=False,
            parts={"p99": quantiles(runs["programmed"], n=100)[98]},
        ),
    ]


def alternate(*, rounds: int, seconds: int, changes: int) -> dict[str, Any]:
    """In a sandbox: what ``measure`` reports, each list a sample a round."""
    from topo.lab import ClusterConfig, Lab

    with Lab(ClusterConfig(nodes=2)) as lab:
        lab.apply(*(service(f"name-{number}", 80, selector=False) for number in range(NAMES)))
        found, _ = lab.client.list("Service", "default")
        names = {
            f"{one['metadata']['name']}.default.svc.cluster.local": one["spec"]["clusterIP"] for one in found
        }
        records = " ".join(f"--host-record={name},{address}" for name, address in names.items())
        dnsmasq = (
            f"exec dnsmasq --no-daemon --no-resolv --no-hosts --bind-interfaces --local-ttl=30 {records}"
        )
        lab.apply(
            pod("dnsmasq", "node1", ["sh", "-c", dnsmasq]),
            pod("client", "node2"),
            service("dnsmasq", 53, protocol="UDP"),
        )
        lab.wait_dns()
        client = lab.pod("client")
        questions = "".join(f"{name} A\n" for name in names)
        client.run(["sh", "-c", "cat >/tmp/names"], input=questions)
        servers = {
            "vip": VIP,
            "direct": str(lab.pods("k8s-app=kube-dns", "kube-system")[0].ip),
            "dnsmasq": lab.client.get("Service", "dnsmasq")["spec"]["clusterIP"],
        }
        _move(lab)
        kinds = (*servers, "p50", "p99", "changing99", "dnsmasq99", "lost", "asked")
        runs: dict[str, Any] = {key: [] for key in kinds}
        for number in range(rounds):
            in_turn = list(servers) if number % 2 else list(reversed(servers))
            for key in in_turn:
                runs[key].append(_fastest(client, servers[key], seconds))
            times, lost = _paced(client, VIP, seconds)
            runs["p50"].append(median(times))
            runs["p99"].append(quantiles(times, n=100)[98])
            runs["lost"].append(lost)
            runs["asked"].append(round(len(times) / seconds))
            with _changing(lab):
                runs["changing99"].append(quantiles(_paced(client, VIP, seconds)[0], n=100)[98])
            runs["dnsmasq99"].append(quantiles(_paced(client, servers["dnsmasq"], seconds)[0], n=100)[98])
            say(", ".join(f"{key} {runs[key][-1]:.5g}" for key in runs) + f" ({number + 1} of {rounds})")
        runs |= _programming(lab, client, changes)
        return runs


def _dnsperf(client: Any, server: str, *words: str) -> str:
    argv = ["dnsperf", "-s", server, "-d", "/tmp/names", "-t", "2", *words]
    done = client.run(argv, timeout=60)
    if done.returncode:
        raise BenchError(f"dnsperf failed: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


def _fastest(client: Any, server: str, seconds: int) -> float:
    text = _dnsperf(client, server, "-l", str(seconds), "-c", "4", "-q", "50")
    found = re.search(r"Queries per second:\s+([\d.]+)", text)
    answered = re.search(r"NOERROR (\d+) \(100\.00%\)", text)
    if found is None or answered is None:
        raise BenchError(f"not every answer was NOERROR:\n{text}")
    return float(found.group(1))


def _paced(client: Any, server: str, seconds: int) -> tuple[list[float], int]:
    """Milliseconds of each answer at RATE questions a second, or as many as a busy machine has dnsperf ask,
    and how many never came."""
    text = _dnsperf(client, server, "-l", str(seconds), "-Q", str(RATE), "-c", "4", "-v")
    times = [float(word) * 1000 for word in re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)", text, re.M)]
    lost = re.search(r"Queries lost:\s+(\d+)", text)
    if len(times) < RATE * seconds * 0.5 or lost is None:
        raise BenchError(f"only {len(times)} answers at {RATE} a second:\n{text[-1500:]}")
    return times, int(lost.group(1))


def _move(lab: Any) -> None:
    """A headless Service whose one address changes."""
    made = service("moved", 80, selector=False)
    made["spec"]["clusterIP"] = "None"
    lab.apply(made, endpoint_slice("moved", [("10.244.1.200", "node1")], 80))
    lab.settle()


def _change(lab: Any, number: int) -> str:
    """Give it another address, and return that."""
    address = f"10.244.1.{2 + number % 200}"
    endpoints = [{"addresses": [address], "conditions": {"ready": True}}]
    lab.client.patch("EndpointSlice", "moved-1", {"endpoints": endpoints})
    return address


@contextmanager
def _changing(lab: Any) -> Iterator[None]:
    over = threading.Event()

    def change() -> None:
        for number in count():
            if over.wait(1 / CHANGES):
                return
            _change(lab, number)

    with ThreadPoolExecutor(1) as pool:
        changes = pool.submit(change)
        try:
            yield
        finally:
            over.set()
            changes.result()


def _programming(lab: Any, client: Any, changes: int) -> dict[str, list[float]]:
    """Milliseconds from the write of an EndpointSlice to the first answer that has it."""
    spent, alone = [], []
    with client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((VIP, 53))
        for number in range(changes):
            began = time.monotonic()
            address = _change(lab, number)
            while True:
                asked = time.monotonic()
                answer = _ask(sock, number)
                if answer.endswith(socket.inet_aton(address)):
                    break
                if time.monotonic() - began > 5:
                    raise BenchError(f"{address} is not answered 5 s after its slice was changed")
            spent.append((time.monotonic() - began) * 1000)
            alone.append((time.monotonic() - asked) * 1000)
    return {"programmed": spent, "question": alone}


def _ask(sock: socket.socket, number: int) -> bytes:
    name = b"".join(bytes([len(word)]) + word for word in b"moved.default.svc.cluster.local".split(b"."))
    sock.send(number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1")
    return sock.recv(4096)
