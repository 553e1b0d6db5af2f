"""What containers write: into a log with times, of a bounded size, and never at the runtime's cost."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

from controller.api import cri
from topo.runtime_log import Budget, LogFile, Outputs, Source


def shown(path: Path) -> list[tuple[bytes, bytes]]:
    entries, used = cri.decode(path.read_bytes())
    assert used == path.stat().st_size
    return [(stream, text) for _, stream, text in entries]


def test_both_outputs_are_kept_apart_with_their_times(tmp_path: Path) -> None:
    async def run() -> None:
        outputs = Outputs(LogFile(f"{tmp_path}/log/a.log", Budget()), os.getuid())
        out, err = outputs.fds()
        os.write(out, b"one\ntwo\npro")
        os.write(err, b"wrong\n")
        outputs.close()

    asyncio.run(run())
    file = tmp_path / "log" / "a.log"
    pieces = [(b"stdout", b"one\n"), (b"stdout", b"two\n"), (b"stdout", b"pro"), (b"stderr", b"wrong\n")]
    assert shown(file) == pieces
    assert file.stat().st_mode & 0o777 == 0o600
    times = [entry.time for entry in cri.decode(file.read_bytes())[0]]
    assert times == sorted(times)


def test_a_log_that_has_grown_too_long_begins_anew(tmp_path: Path) -> None:
    log = LogFile(f"{tmp_path}/a.log", Budget(most=1 << 16))
    for number in range(5000):
        log.add(f"line {number} {'x' * 50}\n".encode())
        assert (tmp_path / "a.log").stat().st_size <= 1 << 16
    assert shown(tmp_path / "a.log")[-1][1].startswith(b"line 4999 ")
    assert [file.name for file in tmp_path.iterdir()] == ["a.log"]


def test_many_logs_are_shorter_each() -> None:
    budget = Budget(most=10 << 20, together=128 << 20)
    one = LogFile("", budget)
    assert budget.share() == 10 << 20
    many = [LogFile("", budget) for _ in range(999)]
    assert budget.share() * budget.files <= 128 << 20
    for log in many:
        log.close()
    assert budget.share() == 10 << 20
    one.close()


def test_a_full_file_system_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    log = LogFile(f"{tmp_path}/a.log", Budget())
    log.add(b"before\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # a short write, then EFBIG
    try:
        log.add(b"lost\n" * 10)
        log.add(b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    log.add(b"after\n")
    assert [text for _, text in shown(tmp_path / "a.log") if text != b"lost\n"] == [b"before\n", b"after\n"]


def test_a_pod_that_writes_without_end_leaves_time_for_others(tmp_path: Path) -> None:
    """As many reads as the loop has turns would be hundreds."""

    async def run() -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        source = Source(reader, LogFile(f"{tmp_path}/a.log", Budget()))
        taken = 0
        for _ in range(300):
            try:
                taken += os.write(writer, b"y\n" * 4096)
            except BlockingIOError:
                pass
            await asyncio.sleep(0)
        source.close()
        os.close(reader)
        os.close(writer)
        return taken

    assert asyncio.run(run()) < 300 * 8192 / 4
