"""The benches run and report what they promise; how fast anything is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"a": ["s", "s"], "b": ["s"], "c": ["Mbit/s", "Mbit/s"], "d": ["/s"], "e": ["ms", "ms"]}
UNITS["g"] = ["ms", "ms", "ms", "/s", "ms", "MB"]
UNITS["f"] = ["x pod's", "x pod's", "s", "s", "ms", "MB"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scenarios", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize("letter", sorted(UNITS))
def test_a_quick_bench_reports_figures_with_what_they_stand_beside(letter: str, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bench(letter, "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["quick"]
    assert report["machine"]["processors"] >= 1
    figures = report["figures"]
    assert [figure["unit"] for figure in figures] == UNITS[letter]
    for figure in figures:
        assert figure["bench"] == letter
        assert all(sample > 0 for sample in figure["samples"])
        assert all(sample > 0 for sample in figure["beside"]["samples"])
        assert min(figure["samples"]) <= figure["value"] <= max(figure["samples"])
        assert figure["ratio"] > 0
        assert figure["met"] == (all(aim["met"] for aim in figure["aims"]) if figure["aims"] else None)
        assert figure["name"] in done.stdout


def test_an_unknown_bench_is_refused_before_anything_runs() -> None:
    done = bench("z")
    assert done.returncode == 2
    assert "there is no bench `z`" in done.stderr
