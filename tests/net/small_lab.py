"""A lab in miniature for the sandbox' own tests: the private Open vSwitch, a bridge, a namespace, a link.

python -m tests.net.small_lab NAME [run | fail | exit | stubborn] [detach]
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from controller.api.errors import PodwireError
from topo import sandbox
from topo.netns import Netns
from topo.ovs import PrivateOvs


def main(behaviour: str) -> int:
    """Bring everything up, say so, and do what the test asks for."""
    ovs = PrivateOvs(sandbox.run_dir())
    try:
        print("main", flush=True)
        ovs.start()
        print("switch", flush=True)
        netns = Netns.create("small")
        subprocess.run(
            ["ip", "link", "add", "small0", "type", "veth", "peer", "small1", "netns", "small"], check=True
        )
        netns.popen(["sleep", "1000"], process_group=0)
        Path(tempfile.gettempdir(), "file").write_text("temporary")
        if behaviour == "fail":
            raise RuntimeError("main fails")
        if behaviour == "exit":
            return 7
        if behaviour == "prompt":
            prompt()
        sandbox.ready()
        print("running", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        if behaviour == "stubborn":
            while True:
                signal.pause()
        raise
    finally:
        ovs.stop()
        print("stopped in order", flush=True)


def prompt() -> None:
    """What a command line in the lab does: an interrupt ends the line, not the lab."""
    with sandbox.interactive():
        for count in range(1, 100):
            try:
                if input(f"small {count}> ") == "quit":
                    return
            except KeyboardInterrupt:
                print()


if __name__ == "__main__":
    try:
        sandbox.enter(lambda: main(sys.argv[2]), name=sys.argv[1], detach="detach" in sys.argv)
    except PodwireError as error:
        print(f"podwire: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
