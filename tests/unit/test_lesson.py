"""How a lesson is kept and shown: names, checks, JSON, the console; and conntrack's words."""

from __future__ import annotations

import io
import json
import subprocess
from typing import Any

import pytest

from controller.api.wiring import DATAPATH_ID
from controller.kubeproxy.explain import explain_conntrack
from scenarios import watch
from scenarios.evidence import connections
from scenarios.lesson import Lesson
from scenarios.names import Directory
from scenarios.narrate import Narrator
from scenarios.packet import Endpoint, Packet, Place, Tuple5
from scenarios.result import Check, Command, FlowRow, Flows, Packets, Result, Step, Table, Text, story

CLIENT, NODE, POD, VIP = "198.51.100.11", "192.168.49.2", "10.244.2.3", "10.96.0.50"
OBJECTS: list[dict[str, Any]] = [
    {
        "kind": "Node",
        "metadata": {"name": "node1"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": NODE},
                {"type": "InternalIP", "address": "fd00:49::2"},
                {"type": "Hostname", "address": "node1"},
            ]
        },
    },
    {"kind": "Pod", "metadata": {"name": "web-1"}, "spec": {}, "status": {"podIP": POD}},
    {"kind": "Pod", "metadata": {"name": "host-1"}, "spec": {"hostNetwork": True}, "status": {"podIP": NODE}},
    {"kind": "Pod", "metadata": {"name": "new"}, "spec": {}},
    {
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": VIP, "ports": [{"port": 80, "nodePort": 30000}]},
    },
    {"kind": "Service", "metadata": {"name": "headless"}, "spec": {"clusterIP": "None"}},
]


@pytest.fixture
def names() -> Directory:
    return Directory(OBJECTS, {CLIENT: "client1"})


@pytest.mark.parametrize(
    ("endpoint", "who"),
    [
        ((CLIENT, 40001), "client1"),
        ((NODE, 30000), "node1, NodePort of web"),
        ((NODE, 22), "node1"),
        ((POD, 8501), "pod web-1"),
        ((VIP, 80), "Service web"),
        (("10.96.9.9", 80), "no Service"),
        (("169.254.0.252", 30000), "this node's NodePorts, NodePort of web"),
        (("169.254.0.253", 1), "hairpin"),
        (("8.8.8.8", 53), "8.8.8.8"),
        (("fd00::1", 53), "fd00::1"),
        (("fd00:49::2", 30000), "node1, NodePort of web"),
        (("fd00:10:96::99", 80), "no Service"),
        (("fd00:169:254::252", 30000), "this node's NodePorts, NodePort of web"),
        (("fd00:169:254::253", 1), "hairpin"),
        (("fe80::1", 0), "the gateway"),
    ],
)
def test_everybody_has_a_name(names: Directory, endpoint: tuple[str, int], who: str) -> None:
    assert names.who(Endpoint(*endpoint)) == who


def test_who_is_gone_is_remembered_until_somebody_takes_the_address(names: Directory) -> None:
    def pod(name: str) -> dict[str, Any]:
        return {"kind": "Pod", "metadata": {"name": name}, "spec": {}, "status": {"podIP": POD}}

    assert Directory().remember(names).host(POD) == "pod web-1"
    assert Directory([pod("other")]).remember(names).host(POD) == "pod other"


def request() -> list[Packet]:
    def at(
        link: str, time: int, ttl: int, src: str, dst: str, ports: tuple[int, int], flags: str, out: bool
    ) -> Packet:
        return Packet(
            time_ns=time * 1000,
            place=Place(link, out),
            tuple5=Tuple5("TCP", Endpoint(src, ports[0]), Endpoint(dst, ports[1])),
            ttl=ttl,
            flags=flags,
            unchanged=flags,
        )

    return [
        at("client1", 0, 64, CLIENT, NODE, (40001, 30000), "SYN", False),
        at("node1-web-1", 250, 62, NODE, POD, (40001, 8501), "SYN", True),
        at("node1-web-1", 300, 64, POD, NODE, (8501, 40001), "SYN,ACK", False),
        at("client1", 500, 62, NODE, CLIENT, (30000, 40001), "SYN,ACK", True),
    ]


def told(names: Directory) -> Packets:
    return story(connections(request())[0], names)


def test_a_connection_is_told_with_names_and_translations(names: Directory) -> None:
    packets = told(names)
    assert packets.title == "TCP client1 → node1, NodePort of web"
    there, back = packets.packets
    assert [(hop.link, hop.ms, hop.src, hop.dst, hop.ttl) for hop in there.hops] == [
        ("client1", 0.0, f"{CLIENT}:40001", f"{NODE}:30000", 64),
        ("node1-web-1", 0.25, f"{NODE}:40001", f"{POD}:8501", 62),
    ]
    assert there.hops[1].rewrites == (
        ("DNAT", f"{NODE}:30000", f"{POD}:8501", "node1, NodePort of web ⇒ pod web-1"),
        ("SNAT", f"{CLIENT}:40001", f"{NODE}:40001", "client1 ⇒ node1"),
    )
    assert [rewrite[0] for rewrite in back.hops[1].rewrites] == ["un-SNAT", "un-DNAT"]
    assert back.reply


def everything(names: Directory) -> Result:
    flow = FlowRow(
        table="ServiceLB",
        priority=200,
        match="tcp",
        actions="group:1",
        packets=2,
        because="Service default/web",
    )
    step = Step(title="One [step]")
    step.events += [
        Text(text="A sentence.", quote=True),
        Text(text="A remark [with] brackets."),
        Command(where="client1", command="curl x", status=7, output="\n".join(map(str, range(40)))),
        told(names),
        Flows(node="node1", flows=(flow,)),
        Table(columns=("a", "b"), rows=(("1", "2"),)),
        Check(name="right", ok=True, expected="1", seen="1"),
        Check(name="wrong", ok=False, expected="apples", seen="pears"),
    ]
    return Result(lesson="nodeport", steps=[step], captures=["/x/y.pcapng"], seconds=1.25)


def shown(result: Result, *, quiet: bool = False, width: int = 80) -> str:
    console = io.StringIO()
    narrator = Narrator(console, quiet=quiet, width=width)
    narrator.title(result.lesson, "3 nodes", "A title.")
    for step in result.steps:
        narrator.step(step)
        for event in step.events:
            narrator.event(event)
    narrator.summary(result)
    return console.getvalue()


def test_without_a_terminal_there_are_no_colours(names: Directory) -> None:
    assert "\x1b" not in shown(everything(names))


def test_the_rows_of_a_table_that_is_printed_are_cut_at_the_width_and_sentences_are_not() -> None:
    row = "web-1   1/1   Running   10.244.1.2"
    command = Command(where="client1", command="x", status=0, output=f"{row}\n{'word ' * 12}end")
    text = shown(Result(lesson="x", steps=[Step(title="one", events=[command])]), width=30)
    assert "    web-1   1/1   Running   1…\n" in text
    assert text.count("word") == 12
    assert "end\n" in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_all_is_shown_at_every_width(names: Directory, width: int) -> None:
    text = shown(everything(names), width=width)
    for word in (
        "“A sentence.”",
        "[with] brackets",
        "client1$ curl x",
        "… 40 lines",
        "(exit status 7)",
        "DNAT",
    ):
        assert word in text
    for word in (
        "because Service default/web",
        "PASS right",
        "FAIL wrong",
        "expected: apples",
        "seen:     pears",
    ):
        assert word in " ".join(text.split()) or word in text
    assert "/x/y.pcapng" in text
    assert "1 of 2 checks passed" in text
    prose = [line for line in text.splitlines() if "⇒" not in line and "→" not in line]
    assert max(map(len, prose)) <= width


def test_quiet_shows_what_failed_and_the_end(names: Directory) -> None:
    text = shown(everything(names), quiet=True)
    assert "FAIL wrong" in text
    assert "1 of 2 checks passed" in text
    for word in ("A sentence", "curl", "PASS right"):
        assert word not in text


def test_the_result_is_json_of_the_documented_schema(names: Directory) -> None:
    data = json.loads(json.dumps(everything(names).as_json()))
    assert (data["schema"], data["lesson"], data["ok"]) == ("podwire.dev/lesson/v1", "nodeport", False)
    (step,) = data["steps"]
    events = [event["event"] for event in step["events"]]
    assert events == ["quote", "text", "command", "packets", "flows", "table", "check", "check"]
    hop = step["events"][3]["packets"][0]["hops"][1]
    assert hop["rewrites"][0] == {
        "what": "DNAT",
        "before": f"{NODE}:30000",
        "after": f"{POD}:8501",
        "who": "node1, NodePort of web ⇒ pod web-1",
    }
    assert data["checks"][1] == {
        "step": "One [step]",
        "name": "wrong",
        "ok": False,
        "expected": "apples",
        "seen": "pears",
    }


def test_a_lesson_that_checked_nothing_has_proved_nothing() -> None:
    assert not Result(lesson="x").ok
    step = Step(title="s", events=[Check(name="c", ok=True, expected="", seen="")])
    assert Result(lesson="x", steps=[step]).ok


class Machine:
    name = "client1"

    def run(
        self, command: Any, *, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 3, "out\n", "err\n")


@pytest.fixture
def lesson() -> Lesson:
    return Lesson(None, Result(lesson="x"), Narrator(io.StringIO()))  # type: ignore[arg-type]


def test_a_step_whose_packets_nobody_saw_fails_and_the_lesson_goes_on(lesson: Lesson) -> None:
    with lesson.step("one"):
        raise LookupError("no answer to 10.0.0.1:1 was seen on any link")
    with lesson.step("two"):
        lesson.check("it goes on", expected=1, seen=1)
    assert [check.ok for _, check in lesson.result.checks] == [False, True]
    assert "no answer" in lesson.result.checks[0][1].seen
    assert not lesson.result.ok


def test_a_command_is_kept_with_all_it_said(lesson: Lesson) -> None:
    with lesson.step("s"):
        done = lesson.run(Machine(), "curl -w '%{http code}' x")
    assert done.args == ["curl", "-w", "%{http code}", "x"]
    assert lesson.result.steps[0].events == [
        Command(where="client1", command="curl -w '%{http code}' x", status=3, output="out\nerr\n")
    ]


@pytest.mark.parametrize(
    ("expected", "seen", "ok"),
    [
        ("200", "200", True),
        ("10.244.1.1", "10.244.1.12", False),
        ("200", "000", False),
        (3, 3, True),
        (3, 2, False),
        ("", "something", False),
        ("", "", True),
        ([1], [1], True),
    ],
)
def test_a_check_compares(lesson: Lesson, expected: object, seen: object, ok: bool) -> None:
    with lesson.step("s"):
        assert lesson.check("c", expected=expected, seen=seen) is ok
    assert lesson.result.ok is ok


def test_a_check_of_words_shows_the_text_only_when_they_are_missing(lesson: Lesson) -> None:
    page = "<title>Frontend Deployment</title>"
    with lesson.step("s"):
        assert lesson.check_says("c", "Frontend", seen=page)
        assert not lesson.check_says("c", "Backend", seen=page)
    assert [check.seen for _, check in lesson.result.checks] == ["Frontend", page]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.244.1.2:8080", ("10.244.1.2", 8080)),
        ("10.244.1.2", ("10.244.1.2", 0)),
        ("[fd00:10:244:1::2]:8080", ("fd00:10:244:1::2", 8080)),
        ("fd00:10:244:1::2", ("fd00:10:244:1::2", 0)),
    ],
)
def test_conntrack_s_words_are_endpoints(text: str, endpoint: tuple[str, int]) -> None:
    assert watch.endpoint(text) == Endpoint(*endpoint)


def test_a_conntrack_entry_is_a_translation() -> None:
    dump = (
        f"tcp,orig=(src={CLIENT},dst={NODE},sport=40001,dport=30000),"
        f"reply=(src={POD},dst={CLIENT},sport=8501,dport=40001),zone=1002,mark=48,"
        "protoinfo=(state=TIME_WAIT)\n"
    )
    node = OBJECTS[0] | {"metadata": {"name": "node1", "annotations": {DATAPATH_ID: f"{1:016x}"}}}
    (entry,) = explain_conntrack(dump, [], [node])
    before, after = watch.translation(entry)
    assert str(before) == f"{CLIENT}:40001 → {NODE}:30000"
    assert str(after) == f"{CLIENT}:40001 → {POD}:8501"
