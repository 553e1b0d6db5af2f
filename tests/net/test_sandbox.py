"""A lab leaves nothing, however it ends; two of them run side by side; a second terminal gets in."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.net.leaks import (
    COVERED,
    FORKED,
    LAB,
    STARTED,
    TAKEN,
    UNSHARED,
    Moment,
    nothing_left,
    said,
    snapshot,
)
from topo import sandbox

RUNNING = said("running")
MOMENTS = [STARTED, FORKED, TAKEN, UNSHARED, COVERED, LAB, said("main"), said("switch"), RUNNING]
# What plays sudo: a process of that name which only waits, and does nothing when it is killed.
SUDO = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(15, b"sudo", 0, 0, 0)
sys.exit(subprocess.call(sys.argv[1:]))
"""


def small(*arguments: str, name: str = "small") -> list[str]:
    return [sys.executable, "-m", "tests.net.small_lab", name, *(arguments or ("run",))]


def first_with(member: str) -> int:
    return {"outside": 0, "process 1": 1, "lab": 5}[member]


@pytest.mark.parametrize(
    ("member", "moment"),
    [(m, at) for m in ("outside", "process 1", "lab") for at in MOMENTS[first_with(m) :]],
    ids=lambda value: value.name if isinstance(value, Moment) else value,
)
def test_kill_9_of_one_process_leaves_nothing(member: str, moment: Moment) -> None:
    with nothing_left() as start:
        chain = start(small())
        chain.reach(moment)
        chain.kill(member)
        assert chain.end() == (-9 if member == "outside" else 137)
    assert "stopped in order" not in chain.output or member == "outside"


@pytest.mark.parametrize("moment", [FORKED, COVERED, said("main"), RUNNING], ids=lambda moment: moment.name)
@pytest.mark.parametrize("member", ["sudo", "outside"])
def test_kill_9_under_sudo_leaves_nothing(member: str, moment: Moment) -> None:
    with nothing_left() as start:
        chain = start([sys.executable, "-c", SUDO, *small()], through_sudo=True)
        chain.reach(moment)
        chain.kill(member)
        chain.end()


def test_ctrl_c_stops_the_lab_in_order() -> None:
    with nothing_left() as start:
        chain = start(small())
        chain.reach(RUNNING)
        os.killpg(chain.command.pid, signal.SIGINT)
        assert chain.end() == 130
    assert "stopped in order" in chain.output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
@pytest.mark.parametrize("moment", MOMENTS[1:], ids=lambda moment: moment.name)
def test_a_signal_to_the_command_alone_stops_the_lab_in_order(signum: signal.Signals, moment: Moment) -> None:
    with nothing_left() as start:
        chain = start(small())
        chain.reach(moment)
        chain.command.send_signal(signum)
        assert chain.end() == 128 + signum
    assert "Traceback" not in chain.output
    assert chain.output.count("main") == chain.output.count("stopped in order")


def test_ctrl_c_on_a_terminal_stops_the_lab_in_order() -> None:
    with nothing_left() as start:
        chain = start(small(), terminal=True)
        chain.reach(RUNNING)
        chain.type("\x03")
        assert chain.end() == 130
    assert "stopped in order" in chain.output


def test_a_second_ctrl_c_ends_a_lab_that_does_not_stop() -> None:
    with nothing_left() as start:
        chain = start(small("stubborn"), terminal=True)
        chain.reach(RUNNING)
        chain.type("\x03")
        chain.reach(said("interrupted"))
        chain.type("\x03")
        assert chain.end() == 130
    assert "stopped in order" not in chain.output


def test_a_prompt_in_the_lab_reads_the_terminal_and_survives_ctrl_c() -> None:
    with nothing_left() as start:
        chain = start(small("prompt"), terminal=True)
        for count in (1, 2, 3):
            chain.reach(said(f"small {count}> "))
            chain.type("\x03")
        chain.reach(said("small 4> "))
        chain.type("quit\n")
        chain.reach(RUNNING)
        chain.type("\x03")
        assert chain.end() == 130


def test_sigterm_to_the_whole_group_stops_the_lab_in_order() -> None:
    with nothing_left() as start:
        chain = start(small())
        chain.reach(RUNNING)
        os.killpg(chain.command.pid, signal.SIGTERM)
        assert chain.end() == 128 + signal.SIGTERM
    assert chain.output.count("stopped in order") == 1


def test_an_exception_in_main_is_shown_and_leaves_nothing() -> None:
    with nothing_left() as start:
        chain = start(small("fail"))
        assert chain.end() == 1
    assert "RuntimeError: main fails" in chain.output


def test_the_exit_status_of_main_is_passed_on() -> None:
    with nothing_left() as start:
        assert start(small("exit")).end() == 7


def test_two_labs_run_side_by_side_and_the_end_of_one_does_not_touch_the_other() -> None:
    with nothing_left() as start:
        one, two = start(small(name="small-1")), start(small(name="small-2"))
        one.reach(RUNNING)
        two.reach(RUNNING)
        assert {"small-1", "small-2"} <= {lab.name for lab in sandbox.labs()}
        one.kill("lab")
        assert one.end() == 137
        assert sandbox.join("small-2", ["ovs-vsctl", "show"]) == 0
        two.command.terminate()
        assert two.end() == 143


def test_a_name_in_use_is_refused_in_one_sentence() -> None:
    with nothing_left() as start:
        one = start(small())
        one.reach(RUNNING)
        two = start(small())
        assert two.end() == 2
        assert two.output == (
            "podwire: a lab named 'small' is running: "
            "end it with ./lab down --lab small, or choose another name\n"
        )
        one.command.terminate()
        one.end()


def test_a_directory_no_living_lab_holds_is_removed_at_the_next_start() -> None:
    with nothing_left() as start:
        stale = Path("/run/podwire/small-stale")
        stale.mkdir(parents=True)
        (stale / "lab.json").write_text("{}")
        assert start(small("exit")).end() == 7


def test_the_machine_sees_only_the_directory_of_a_living_lab() -> None:
    before = snapshot()
    with nothing_left() as start:
        chain = start(small())
        chain.reach(RUNNING)
        seen = {line for line in snapshot() - before if not line.startswith(("process ", "namespace "))}
        assert seen == {
            "file /run/podwire/small",
            "file /run/podwire/small/lab.json",
        }
        assert Path("/run/podwire/small").stat().st_mode & 0o777 == 0o700
        chain.command.terminate()
        chain.end()
