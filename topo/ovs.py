"""The lab's own Open vSwitch: an ovsdb-server and an ovs-vswitchd that live and die with the sandbox.

They use Open vSwitch's default paths, which a sandbox covers with empty directories of its own, so
every command works in the lab without options and none of them can reach the machine's switch.
Bridges, ports and flows are not made here.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from controller.api.errors import MachineError, PodwireError, UsageError
from topo import sandbox

Datapath = Literal["user", "kernel"]
BRIDGE_TYPE: dict[Datapath, str] = {"user": "netdev", "kernel": "system"}  # of Bridge.datapath_type
RUN = Path("/run/openvswitch")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
MAX_REVALIDATOR = 100  # milliseconds; the datapath follows the flow tables at least this often
_START = 10.0  # seconds
_INSTALL = "install it: apt-get install openvswitch-switch (./lab does)"


class OvsError(PodwireError):
    """An Open vSwitch command failed; the text has the command and what it said."""


class PrivateOvs:
    """Both daemons. They are children of the process that starts them and end with the sandbox.

    ``datapath`` is ``user`` or ``kernel``; ``auto`` takes the kernel's where its openvswitch module
    is there. ``offload`` allows segmentation offload through the userspace datapath.
    """

    def __init__(self, run_dir: Path, datapath: str = "auto", *, offload: bool = False) -> None:
        if datapath not in ("auto", "user", "kernel"):
            raise UsageError(f"datapath '{datapath}': say auto, kernel or user")
        self.run_dir = run_dir
        self.offload = offload
        self.datapath: Datapath = _choose(datapath)
        self.ovsdb: subprocess.Popen[bytes] | None = None
        self.vswitchd: subprocess.Popen[bytes] | None = None

    @property
    def bridge_type(self) -> str:
        """What Bridge.datapath_type must be."""
        return BRIDGE_TYPE[self.datapath]

    def start(self) -> None:
        """Both daemons serve when this returns."""
        assert sandbox.inside(), "outside a sandbox this would be the machine's Open vSwitch"
        for program in ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"):
            if shutil.which(program, path=_environment()["PATH"]) is None:
                raise MachineError(f"the program {program} is missing; {_INSTALL}")
        if not SCHEMA.exists():
            raise MachineError(f"{SCHEMA} is missing; {_INSTALL}")
        RUN.mkdir(exist_ok=True)
        (self.run_dir / "log").mkdir(exist_ok=True)
        database = self.run_dir / "ovs.db"
        if not database.exists():
            _command("ovsdb-tool", "create", str(database), str(SCHEMA))
        self.start_ovsdb()
        settings = [f"other_config:max-revalidator={MAX_REVALIDATOR}"]
        if self.offload:
            settings.append("other_config:userspace-tso-enable=true")
        _command("ovs-vsctl", "--no-wait", "--", "init", "--", "set", "Open_vSwitch", ".", *settings)
        self.start_vswitchd()

    def start_ovsdb(self) -> None:
        """Start ovsdb-server over its file, anew after a crash: ovs-vswitchd finds it by itself.

        Until then ovs-vswitchd does nothing: it waits to hold the database's lock again, and the userspace
        datapath, which its main loop drives, forwards no packet.
        """
        listener = RUN / "db.sock"
        self.ovsdb = self._daemon("ovsdb-server", str(self.run_dir / "ovs.db"), f"--remote=punix:{listener}")
        self._wait("ovsdb-server", self.ovsdb, lambda: _accepts(listener))

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd over the database as it is."""
        assert self.vswitchd is None or self.vswitchd.poll() is not None, "ovs-vswitchd runs already"
        self.vswitchd = self._daemon("ovs-vswitchd", f"unix:{RUN / 'db.sock'}")
        self._wait("ovs-vswitchd", self.vswitchd, lambda: _accepts(RUN / f"ovs-vswitchd.{self._pid()}.ctl"))

    def kill_vswitchd(self) -> None:
        """End ovs-vswitchd at once, as a crash would."""
        if self.vswitchd is not None:
            self.vswitchd.kill()
            self.vswitchd.wait()

    def restart_vswitchd(self) -> None:
        """A crash and a new start; bridges and ports are back when this returns, the flows are gone."""
        self.kill_vswitchd()
        self.start_vswitchd()
        # ovs-vsctl waits for what it changed, and for everything before it.
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:vswitchd={self._pid()}")

    def stop(self) -> None:
        """End both daemons; twice is fine. The kernel does it when the sandbox ends, too."""
        for daemon in (self.vswitchd, self.ovsdb):
            if daemon is None:
                continue
            daemon.terminate()
            try:
                daemon.wait(_START)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def vsctl(self, *args: str) -> str:
        """ovs-vsctl, which waits until ovs-vswitchd has done what it says."""
        return _command("ovs-vsctl", "--timeout=20", *args)

    def ofctl(self, *args: str) -> str:
        """ovs-ofctl in OpenFlow 1.5, e.g. ``ofctl("dump-flows", "br-node1")``."""
        return _command("ovs-ofctl", "-O", "OpenFlow15", *args)

    def appctl(self, *args: str) -> str:
        """ovs-appctl to ovs-vswitchd, e.g. ``appctl("revalidator/wait")``."""
        return _command("ovs-appctl", "--target", str(RUN / f"ovs-vswitchd.{self._pid()}.ctl"), *args)

    def _pid(self) -> int:
        assert self.vswitchd is not None, "ovs-vswitchd was never started"
        return self.vswitchd.pid

    def _daemon(self, program: str, *args: str) -> subprocess.Popen[bytes]:
        log = self.run_dir / "log" / f"{program}.log"
        with open(log, "ab") as output:
            return subprocess.Popen(
                [program, *args, "--pidfile", "-vconsole:off", "-vsyslog:off", f"--log-file={log}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                process_group=0,  # a Ctrl-C is the lab's, which then stops us in order
            )

    def _wait(self, program: str, daemon: subprocess.Popen[bytes], served: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START
        while not served():
            if daemon.poll() is not None or time.monotonic() > deadline:
                state = (
                    f"ended with {daemon.returncode}" if daemon.returncode is not None else "does not answer"
                )
                log = self.run_dir / "log" / f"{program}.log"
                raise OvsError(f"{program} {state}: {_last_lines(log)}")
            time.sleep(0.001)


def _choose(datapath: str) -> Datapath:
    if datapath == "user":
        return "user"
    if _kernel_module():
        return "kernel"
    if datapath == "kernel":
        raise MachineError(
            "this kernel has no openvswitch module: use --datapath user, or a kernel that has it"
        )
    return "user"


def _kernel_module() -> bool:
    """Whether the kernel has the openvswitch datapath, loading it where it is a module."""
    if Path("/sys/module/openvswitch").exists():
        return True
    with suppress(OSError):
        subprocess.run(["modprobe", "-q", "openvswitch"], env=_environment(), capture_output=True)
    return Path("/sys/module/openvswitch").exists()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _command(*argv: str) -> str:
    result = subprocess.run(
        argv, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        said = result.stderr.strip() or f"exit status {result.returncode}"
        raise OvsError(f"{' '.join(argv)}: {said}")
    return result.stdout


def _environment() -> dict[str, str]:
    """Without the variables that move Open vSwitch's directories, and with sbin on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OVS_")}
    kept["PATH"] = f"{kept.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
    return kept


def _last_lines(log: Path) -> str:
    with suppress(OSError):
        return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
    return f"no log at {log}"
