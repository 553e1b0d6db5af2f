"""Every lesson from start to end, as a user runs them, and what happens on wrong input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scenarios.watch import endpoint
from tests.net.leaks import Moment, nothing_left, said
from tests.net.test_sandbox import RUNNING, small

ROOT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "scenarios"]
LESSONS = {
    "nodeport": 25,
    "clusterip": 25,
    "loadbalancer": 25,
    "policies": 25,
    "reject": 25,
    "terminating": 20,
    "affinity": 20,
    "schedulers": 25,
    "hairpin": 25,
    "headless": 20,
    "default_services": 25,
    "dualstack": 38,
    "port_forward": 18,
    "externalname": 15,
    "discovery": 30,
    "kube_proxy": 25,
    "dns_failover": 20,
    "kubectl_tour": 40,
    "ingress": 40,
}
"""With the number of checks each has at least."""
BY_LAB = ("clusterip", "loadbalancer")
"""Lessons that are started by ``./lab``; the others as scripts."""
INSIDE = ("default_services", "externalname", "discovery", "dns_failover")
"""Lessons in which nobody outside asks."""
POD_LINK = re.compile(r"node\d+-(?!host$|uplink$)")


def run(*argv: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def failed(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [check for check in result["checks"] if not check["ok"]]


class Told(dict[str, tuple[dict[str, Any], str, Path]]):
    """Each lesson once, when it is first looked at, with all it can write: result, console, folder."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders

    def __missing__(self, name: str) -> tuple[dict[str, Any], str, Path]:
        out = self._folders.mktemp(name)
        script = [*LAB, name] if name in BY_LAB else [sys.executable, f"scenarios/{name}.py"]
        done = run(*script, "--json", "--out", str(out), "--name", name.replace("_", "-"))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        self[name] = json.loads(done.stdout), done.stderr, out
        return self[name]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory)


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_passes_all_its_checks(told: Told, name: str) -> None:
    result, console, out = told[name]
    assert (result["schema"], result["lesson"], result["ok"]) == ("podwire.dev/lesson/v1", name, True)
    assert failed(result) == []
    assert len(result["checks"]) >= LESSONS[name]
    assert "FAIL" not in console
    assert json.loads((out / "result.json").read_text())["checks"] == result["checks"]


@pytest.mark.parametrize("name", LESSONS)
def test_what_a_lesson_shows_was_seen(told: Told, name: str) -> None:
    """Every journey shown is in the captures, hop by hop; every flow shown counted packets."""
    result, _, out = told[name]
    events = [event for step in result["steps"] for event in step["events"]]
    hops = [
        hop
        for event in events
        if event["event"] == "packets"
        for packet in event["packets"]
        for hop in packet["hops"]
    ]
    assert len(hops) >= 8
    captured = set()
    for file in sorted(out.glob("*.pcapng")):
        for family, hops_left in (("ip", "ttl"), ("ipv6", "hlim")):
            fields = ["frame.interface_name", f"{family}.src", f"{family}.dst", f"{family}.{hops_left}"]
            lines = tshark(file, "-Y", family, "-T", "fields", *(word for f in fields for word in ("-e", f)))
            for line in lines:
                link, src, dst, ttl = line.split("\t")
                # An ICMP error quotes a packet: tshark lists the quoted addresses behind the real ones.
                captured.add((link, src.split(",")[0], dst.split(",")[0], int(ttl.split(",")[0])))
    for hop in hops:
        src, dst = (endpoint(hop[side]).address for side in ("src", "dst"))
        assert (hop["link"], src, dst, hop["ttl"]) in captured
    flows = [flow for event in events if event["event"] == "flows" for flow in event["flows"]]
    assert {"ServiceLB", "EndpointDNAT"} <= {flow["table"] for flow in flows}
    assert all(flow["packets"] > 0 for flow in flows)


@pytest.mark.parametrize("name", LESSONS)
def test_every_step_checks_and_the_book_s_sentences_are_each_followed_by_a_check(
    told: Told, name: str
) -> None:
    for step in told[name][0]["steps"]:
        kinds = [event["event"] for event in step["events"]]
        assert "check" in kinds[kinds.index("quote") if "quote" in kinds else 0 :], step["title"]


@pytest.mark.parametrize("name", LESSONS)
def test_captures_are_right_for_tshark(told: Told, name: str) -> None:
    """Readable links' names, comments that tell the translation, no wrong checksum."""
    out = told[name][2]
    files = sorted(out.glob("*.pcapng"))
    assert files
    links, comments = set(), []
    for file in files:
        checks = [word for p in ("ip", "tcp", "udp") for word in ("-o", f"{p}.check_checksum:TRUE")]
        # 0xffff is how Linux writes a TCP sum of 0 (CSUM_MANGLED_0), the same number in ones' complement.
        tcp = "(tcp.checksum.status==0 && !(tcp.checksum==0xffff))"
        wrong = f"ip.checksum.status==0 || {tcp} || udp.checksum.status==0"
        assert tshark(file, *checks, "-Y", wrong) == []
        links |= set(tshark(file, "-T", "fields", "-e", "frame.interface_name"))
        comments += tshark(file, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment")
    assert "client1" in links or name in INSIDE
    assert any(POD_LINK.match(link) for link in links)
    assert any("DNAT" in comment for comment in comments)
    assert any("pod " in comment for comment in comments)


def tshark(file: Path, *argv: str) -> list[str]:
    done = run("tshark", "-n", "-r", str(file), *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_lesson_leaves_nothing_behind() -> None:
    with nothing_left():
        done = run(*LAB, "clusterip", "--quiet")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


TELLING = said("1. The book's two Deployments")
BOOTING, UP = said("podwire up:"), said("is up:")


@pytest.mark.parametrize("victim", ["outside", "process 1", "lab"])
@pytest.mark.parametrize(
    ("argv", "moment"),
    [(["nodeport"], TELLING), (["up"], BOOTING), (["up"], UP)],
    ids=["telling", "booting", "up"],
)
def test_a_whole_lab_that_is_killed_leaves_nothing_behind(
    argv: list[str], moment: Moment, victim: str
) -> None:
    with nothing_left() as start:
        chain = start([*LAB, *argv])
        chain.reach(moment)
        assert moment.reached(chain), chain.output
        chain.kill(victim)
        assert chain.end() in (-signal.SIGKILL, 128 + signal.SIGKILL)


def test_ctrl_c_ends_a_lesson_in_order() -> None:
    with nothing_left() as start:
        chain = start([*LAB, "nodeport"], terminal=True)
        chain.reach(TELLING)
        chain.type("\x03")
        assert chain.end() == 128 + signal.SIGINT
        assert "Traceback" not in chain.output


WRONG = """
import sys, types
from scenarios import catalogue, cli_parsers, lesson

def tell(lesson):
    with lesson.step("only"):
        lesson.check("two and two", expected=5, seen=4)

wrong = types.ModuleType("scenarios.wrong", "Wrong: a lesson that is.")
wrong.tell = tell
sys.modules[wrong.__name__] = wrong
options = cli_parsers.lesson_parser(catalogue.Entry(name="wrong", summary="")).parse_args(["--nodes", "1"])
lesson.main("wrong", options)
"""


def test_a_failed_check_is_exit_status_1() -> None:
    with nothing_left():
        done = run(sys.executable, "-c", WRONG)
    assert done.returncode == 1, done.stderr
    assert "FAIL two and two" in done.stdout
    assert "expected: 5" in done.stdout


README = """
import sys, types
from pathlib import Path
from scenarios import catalogue, cli_parsers, lesson

blocks = Path("README.md").read_text().split("```python\\n")[1:]
code = next(block.split("```")[0] for block in blocks if "def tell(" in block)
hello = types.ModuleType("scenarios.hello")
exec(code, hello.__dict__)
sys.modules[hello.__name__] = hello
options = cli_parsers.lesson_parser(catalogue.Entry(name="hello", summary="")).parse_args(["--nodes", "1"])
lesson.main("hello", options)
"""


def test_the_lesson_in_the_readme_works_as_it_is_written() -> None:
    with nothing_left():
        done = run(sys.executable, "-c", README)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS the data came" in done.stdout
    assert "DNAT" in done.stdout


TWO_PORTS = """
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {ports: [{port: 80}, {port: 81}]}
"""
LOW_PORT = """
apiVersion: v1
kind: Service
metadata: {name: low}
spec: {type: NodePort, ports: [{port: 80, nodePort: 80}]}
"""


@pytest.mark.parametrize(
    ("argv", "manifest", "words"),
    [
        (["nodeprt"], "", "Did you mean `nodeport`?"),
        (["nodeport", "--datapath", "kernel"], "", "this kernel has no openvswitch module"),
        (["nodeport", "--name", "Not_A_Name"], "", "is no name for a lab"),
        (["up", "FILE"], "kind: [", "wrong.yaml"),
        (["up", "FILE"], TWO_PORTS, "spec.ports[0].name"),
        (["up", "FILE"], LOW_PORT, "provided port is not in the valid range"),
        (["up", "missing.yaml"], "", "missing.yaml"),
        (["exec", "pod", "--", "true"], "", "no lab runs"),
        (["down"], "", "no lab runs"),
        (["down", "--lab", "nobody"], "", "no lab named 'nobody' runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    argv: list[str], manifest: str, words: str, tmp_path: Path
) -> None:
    if "kernel" in argv and Path("/sys/module/openvswitch").exists():
        argv, words = [*argv, "--nodes", "0"], "a whole number from 1 is needed"
    file = tmp_path / "wrong.yaml"
    file.write_text(manifest)
    with nothing_left():
        done = run(*LAB, *(str(file) if word == "FILE" else word for word in argv))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("podwire: ")
    assert "Traceback" not in done.stderr


def test_a_name_that_is_taken_is_one_sentence() -> None:
    with nothing_left() as start:
        other = start(small())
        other.reach(RUNNING)
        for command in (["up", "--lab", "small"], ["nodeport", "--name", "small"]):
            done = run(*LAB, *command)
            assert done.returncode == 2
            assert done.stderr.strip().splitlines()[-1].startswith("podwire: a lab named 'small' is running")
        other.command.terminate()
        other.end()


@pytest.mark.parametrize("argv", [["nodeport"], ["up"], ["up", "-d"], ["exec", "x", "--", "true"]])
def test_without_root_it_is_one_sentence(argv: list[str]) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with nothing_left():
        done = run(*nobody, *LAB, *argv)
    assert done.returncode == 2, done.stderr
    assert "needs root: sudo ./lab" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_door_without_root_or_a_terminal_to_ask_is_one_sentence() -> None:
    nobody = ["setsid", "--wait", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for command in ("nodeport", "test"):
        done = run(*nobody, str(ROOT / "lab"), command)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("podwire: a lab needs root (network namespaces), and ")
        assert done.stderr.count("\n") == 1
