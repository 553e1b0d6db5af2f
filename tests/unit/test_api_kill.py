"""The end of a server: by kill -9 under writes nothing acknowledged is lost; by SIGTERM it is orderly."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from controller.api.errors import Unreachable
from controller.api.objects import Obj
from tests.unit.api_kit import ROOT, api_server, pod

WRITERS = 4
WRITES_BEFORE_THE_KILL = 200


def test_no_acknowledged_write_is_lost_by_kill_9(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        acknowledged: dict[str, str] = {}
        deleted: set[str] = set()
        enough = threading.Event()

        def write(writer: int) -> None:
            number = 0
            try:
                while True:
                    name = f"p{writer}-{number}"
                    made = server.client.create(pod(name))
                    acknowledged[name] = made["metadata"]["resourceVersion"]
                    if number % 5 == 4:
                        server.client.delete("Pod", name)
                        deleted.add(name)
                    number += 1
                    if len(acknowledged) >= WRITES_BEFORE_THE_KILL:
                        enough.set()
            except Unreachable:
                return

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
        items, newest = server.client.list("Pod")
        found = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}
        for name, version in acknowledged.items():
            if name in deleted:
                assert name not in found
            elif name in found:
                assert found[name] == version
            else:
                # Not acknowledged as deleted, but the request may have been on its way.
                assert int(name.split("-")[1]) % 5 == 4
        assert len(acknowledged) >= WRITES_BEFORE_THE_KILL
        assert int(newest) >= max(map(int, acknowledged.values()))
        # The counter goes on: no version is given out a second time.
        made = server.client.create(pod("after"))
        assert int(made["metadata"]["resourceVersion"]) == int(newest) + 1


def test_a_server_told_to_stop_ends_its_watches_and_takes_its_socket_away(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        lines = iter(server.client.watch("Pod"))
        server.client.create(pod())
        assert next(lines)["type"] == "ADDED"
        assert server.stop() == 0
        assert list(ended(lines)) == []
        assert not server.socket.exists()


def ended(lines: Iterator[Obj]) -> Iterator[Obj]:
    """What is left of a watch, however the server ended it."""
    try:
        yield from lines
    except Unreachable:
        return


def test_a_server_that_cannot_open_its_store_says_so_and_ends_with_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "controller.api.server", "--no-managers"]
    command += ["--socket", str(tmp_path / "s"), "--db", str(tmp_path / "no" / "such" / "directory.db")]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("apiserver: cannot open the store")
