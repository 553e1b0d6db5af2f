"""Which processes a lab consists of, and one way to kill and restart each of them.

Open vSwitch's daemons are started by ``topo.ovs``. ``vswitchd`` stands here beside the others; its
database, which nobody kills on purpose, is started again when it dies in a supervised lab.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controller.api.errors import PodwireError, UserError
from topo.components import BACK_OFF, Component, python
from topo.lab_state import API, LOGS, RUNTIME, STORE
from topo.netns import NAMES
from topo.network import OPENFLOW_LISTENER
from topo.ovs import PrivateOvs

VSWITCHD = "vswitchd"


class LabComponents:
    """apiserver, runtime, kubeproxy and vswitchd.

    ``control_plane`` is the namespace of the node on which the API server serves TLS, ``listener`` the
    descriptor of a socket for it on the user's loopback.
    ``reconnect`` is called when a kubeproxy serves again, ``bridges_back`` when a vswitchd does.
    """

    def __init__(
        self,
        run_dir: Path,
        ovs: PrivateOvs,
        *,
        controller: str,
        ip_family: str,
        control_plane: Path,
        supervised: bool,
        log: Callable[[str], None],
        reconnect: Callable[[], None],
        bridges_back: Callable[[], None],
        listener: int | None = None,
    ) -> None:
        self._bridges_back = bridges_back
        self._ovs, self._supervised, self._log = ovs, supervised, log
        self._state = threading.Condition()
        self._down = self._stopping = False
        self._watches = [
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True)
            for target in (self._watch_vswitchd, self._watch_ovsdb)
        ]
        rows: dict[str, tuple[str | Path, ...]] = {
            "apiserver": (
                "controller.api.server", "--socket", run_dir / API, "--db", run_dir / STORE,
                "--secure-netns", control_plane, *(("--ip-family", ip_family) if ip_family != "ipv4" else ()),
                *(("--loopback-fd", str(listener)) if listener is not None else ()),
            ),
            "runtime": ("topo.runtime", "serve", "--socket", run_dir / RUNTIME, "--dir", run_dir / "pods"),
            "kubeproxy": (
                "controller.kubeproxy.app", "--api", run_dir / API, "--listen", OPENFLOW_LISTENER,
                "--backend", controller, "--timing", run_dir / LOGS / "kubeproxy-timing.jsonl",
                "--netns-dir", NAMES,
            ),
        }  # fmt: skip
        self._components = {
            name: Component(
                name,
                python(*map(str, words)),
                log_file=run_dir / LOGS / f"{name}.log",
                log=log,
                supervised=supervised,
                pass_fds=(listener,) if name == "apiserver" and listener is not None else (),
                returned=reconnect if name == "kubeproxy" else lambda: None,
            )
            for name, words in rows.items()
        }

    @property
    def names(self) -> list[str]:
        return [*self._components, VSWITCHD]

    def start(self) -> None:
        """Begin with all but vswitchd."""
        for component in self._components.values():
            component.start()

    def watch(self) -> None:
        """From now on Open vSwitch, which runs, is restarted too when it dies (if the lab is supervised)."""
        for watch in self._watches if self._supervised else ():
            watch.start()

    def wait_ready(self, name: str) -> None:
        self._components[name].wait_ready()

    def dead(self) -> list[str]:
        """Who does not serve now."""
        dead = [name for name, component in self._components.items() if not component.alive]
        vswitchd = self._ovs.vswitchd
        return dead if vswitchd and vswitchd.poll() is None else [*dead, VSWITCHD]

    def kill(self, name: str) -> None:
        """End it as a crash would; it stays dead until ``restart``."""
        if name != VSWITCHD:
            self._component(name).kill()
            return
        with self._state:
            self._down = True
        self._ovs.kill_vswitchd()

    def restart(self, name: str) -> None:
        """It serves when this returns. A vswitchd has its bridges and ports again, but no flows yet."""
        if name != VSWITCHD:
            self._component(name).restart()
            return
        self.kill(name)
        self._ovs.restart_vswitchd()
        self._bridges_back()
        with self._state:
            self._down = False
            self._state.notify_all()

    def stop(self) -> None:
        """Ask all (but vswitchd) to end; ``join`` waits for them."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        for component in self._components.values():
            component.stop()

    def join(self) -> None:
        for component in self._components.values():
            component.join()

    def _component(self, name: str) -> Component:
        if name not in self._components:
            raise UserError(f"there is no component {name}; there are {', '.join(self.names)}")
        return self._components[name]

    def _watch_vswitchd(self) -> None:
        deaths = 0
        while True:
            assert self._ovs.vswitchd
            self._ovs.vswitchd.wait()
            with self._state:
                if self._down:
                    self._state.wait_for(lambda: self._stopping or not self._down)
                    continue
            if not self._pause("ovs-vswitchd", deaths):
                return
            deaths += 1
            try:
                self._ovs.restart_vswitchd()
                self._bridges_back()
            except PodwireError as error:
                self._log(str(error))

    def _watch_ovsdb(self) -> None:
        deaths = 0
        while True:
            assert self._ovs.ovsdb
            self._ovs.ovsdb.wait()
            if not self._pause("ovsdb-server", deaths):
                return
            deaths += 1
            try:
                self._ovs.start_ovsdb()
            except PodwireError as error:
                self._log(str(error))

    def _pause(self, program: str, deaths: int) -> bool:
        """The back-off before a daemon of Open vSwitch starts again; False when the lab ends instead."""
        pause = BACK_OFF[min(deaths, len(BACK_OFF) - 1)]
        with self._state:
            if not self._stopping:
                self._log(f"{program} ended; starting it again in {pause:g} s")
            return not self._state.wait_for(lambda: self._stopping, pause)
