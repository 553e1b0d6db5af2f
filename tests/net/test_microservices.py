"""The book's application end to end: what a user sees in a browser, and what was on the wires meanwhile."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.leaks import nothing_left
from tests.net.test_scenarios import ROOT, failed, run, tshark

LESSON = "scenarios/microservices.py"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """The lesson told once, with the programs and the browser that `./lab test` installs for it."""
    out = tmp_path_factory.mktemp("microservices")
    before = set(Path("/tmp").iterdir())
    done = run(sys.executable, LESSON, "--json", "--out", str(out), "--name", "microservices")
    assert set(Path("/tmp").iterdir()) == before, "a browser's files are the lab's"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout), done.stderr, out


def test_the_real_application_passes_all_checks(told: tuple[dict[str, Any], str, Path]) -> None:
    result, console, _ = told
    assert failed(result) == []
    assert len(result["checks"]) >= 33
    assert "Chromium " in console, "run `./lab setup microservices` once"
    assert "stand-ins" not in console


@pytest.mark.parametrize("name", ["page.png", "page-again.png"])
def test_a_screenshot_is_a_picture_of_the_window(told: tuple[dict[str, Any], str, Path], name: str) -> None:
    data = (told[2] / name).read_bytes()
    assert data.startswith(PNG)
    assert struct.unpack(">II", data[16:24]) == (1100, 1000)
    assert len(data) > 20_000, "an empty page is smaller"


def test_the_capture_has_the_websocket_and_the_question_for_the_name(
    told: tuple[dict[str, Any], str, Path],
) -> None:
    file = told[2] / "microservices-01.pcapng"
    # Not by tshark's HTTP: a packet that several links saw is a retransmission for its TCP.
    fields = ("-T", "fields", "-e")
    switched = 'frame contains "101 Switching Protocols" && frame.interface_name == "client1"'
    assert len(tshark(file, "-Y", switched, *fields, "ip.src")) == 1
    names = tshark(file, "-Y", "dns.flags.response == 0", *fields, "dns.qry.name")
    assert any(name.startswith("backendflask.default.svc.cluster.local") for name in names)
    served = tshark(file, "-Y", 'frame contains "GET /data"', *fields, "tcp.dstport")
    assert {"5000", "5001"} <= set(served), "before and after DNAT"


def test_without_the_programs_the_stand_ins_are_named_and_answer() -> None:
    code = (
        "from pathlib import Path; import sys; from topo.images import demo; "
        "demo.PYTHON = Path('/nonexistent'); sys.argv = ['x', 'microservices', '--name', 'standins']; "
        "from scenarios.__main__ import main; sys.exit(main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with nothing_left():
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=ROOT,
            env=environment,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "stand-ins serve the same page" in " ".join(done.stdout.split())
    assert "headless, in client1's network" not in " ".join(done.stdout.split())
