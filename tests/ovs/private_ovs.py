"""A whole Open vSwitch in a directory of its own, on the dummy datapath: no root, nothing of the machine's.

``ovs-vswitchd --enable-dummy=override`` makes every bridge and port a dummy; conntrack and NAT work.
Commands find it by the environment in ``PrivateOvs.environment``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class PrivateOvs:
    """``start`` and ``stop``; in between ``vsctl``, ``ofctl`` and ``appctl`` speak to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        names = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR")
        self.environment = os.environ | dict.fromkeys(names, str(directory))
        self.environment["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        self.log = directory / "vswitchd.log"
        self._db = directory / "db.sock"
        self._ovsdb: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database = str(self.directory / "conf.db")
        self._run("ovsdb-tool", "create", database, SCHEMA)
        self._ovsdb = self._daemon("ovsdb-server", database, f"--remote=punix:{self._db}")
        self._await(self._db)  # ovs-vsctl --retry would wait a whole second
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()

    def start_vswitchd(self) -> None:
        self._vswitchd = self._daemon(
            "ovs-vswitchd",
            f"unix:{self._db}",
            "--enable-dummy=override",
            "--disable-system",
            f"--unixctl={self.directory / 'vswitchd.ctl'}",
            f"--log-file={self.log}",
            "-vconsole:off",
        )
        self.vsctl("set", "Open_vSwitch", ".", f"external_ids:pid={self._vswitchd.pid}")  # waits for it

    def kill_vswitchd(self) -> None:
        """As a crash would; bridges come back at the next start, flows do not."""
        assert self._vswitchd is not None
        self._vswitchd.kill()
        self._vswitchd.wait()

    def stop(self) -> None:
        for daemon in (self._vswitchd, self._ovsdb):
            if daemon is not None:
                daemon.kill()
                daemon.wait()

    def add_bridge(
        self, name: str, *, datapath_id: int, ports: Iterable[str] = (), controller: str = ""
    ) -> None:
        settings = ["fail_mode=secure", "protocols=OpenFlow15"]
        settings.append(f"other_config:datapath-id={datapath_id:016x}")
        command = ["add-br", name, "--", "set", "Bridge", name, "datapath_type=dummy", *settings]
        for port in ports:
            command += ["--", "add-port", name, port]
        self.vsctl(*command)
        if controller:
            self.set_controller(name, controller)

    def set_controller(self, bridge: str, target: str) -> None:
        """Never del-controller: a bridge that loses its last controller loses its flows (seen)."""
        more = ("connection_mode=out-of-band", "max_backoff=1000")
        self.vsctl("set-controller", bridge, target, "--", "set", "Controller", bridge, *more)

    def vsctl(self, *args: str) -> str:
        return self._run("ovs-vsctl", f"--db=unix:{self._db}", "--retry", "--timeout=20", *args)

    def ofctl(self, *args: str) -> str:
        return self._run("ovs-ofctl", "-O", "OpenFlow15", *args)

    def appctl(self, *args: str) -> str:
        return self._run("ovs-appctl", "-t", str(self.directory / "vswitchd.ctl"), *args)

    @staticmethod
    def _await(listener: Path) -> None:
        """Until a daemon that has just been started accepts connections."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(listener)) == 0:
                    return
            time.sleep(0.002)
        raise AssertionError(f"nobody listens at {listener}")

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=30)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
        return done.stdout

    def _daemon(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *command),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
