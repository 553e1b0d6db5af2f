"""The Lab: a whole cluster as one object, booted, used, and gone again.

    with Lab(ClusterConfig(nodes=3)) as lab:
        lab.apply("manifests/web.yaml")
        lab.settle()
        lab.outside().run(["curl", "http://192.168.49.2:30080/"])

It only puts the rooms together (wires, Open vSwitch, components, kubelet) and must know nothing of
Services or flows. It runs inside a sandbox (``topo.sandbox.enter``), which removes whatever is left.
"""

from __future__ import annotations

import fnmatch
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from controller.api.client import Client
from controller.api.errors import NotSettled, Unreachable, UsageError, UserError
from controller.api.manifests import Document, check, load
from controller.api.objects import Obj
from controller.api.wiring import ANNOTATION
from topo import sandbox
from topo.capture import Capture, LinkEnd, keep_timestamps
from topo.config import ClusterConfig
from topo.hosts import HostHandle, Node, Outside, Pod
from topo.kubelet import Kubelet
from topo.lab_components import LabComponents
from topo.lab_state import API, LOGS, RUNTIME, Control, LabState, Verbs, is_asked
from topo.network import Network
from topo.network_parts import EndHost
from topo.nodes import addresses, node_object
from topo.ovs import PrivateOvs
from topo.plan import FABRIC, Plan, pod_host_name
from topo.runtime_client import RuntimeClient
from topo.wires import PodWires

__all__ = ["ClusterConfig", "Lab"]

HEARTBEAT = ANNOTATION + "heartbeat"


class Lab:
    """A running cluster. ``log`` gets one line for each thing worth saying.

    ``supervised`` restarts components that die (``./lab up``); a scenario restarts them itself.
    """

    def __init__(
        self,
        config: ClusterConfig | None = None,
        *,
        log: Callable[[str], None] = lambda line: None,
        supervised: bool = False,
    ) -> None:
        assert sandbox.inside(), "a lab runs inside a sandbox: topo.sandbox.enter"
        self.config = config or ClusterConfig()
        self.run_dir = sandbox.run_dir()
        self.plan = Plan(self.config)
        self.client = Client(self.run_dir / API, user_agent="podwire-lab")
        self.runtime = RuntimeClient(self.run_dir / RUNTIME)
        self.ovs = PrivateOvs(self.run_dir, self.config.datapath, offload=self.config.offload)
        self._log = log
        self._spare = list(self.plan.spare_node_addresses)
        self._undo: list[Callable[[], None]] = []
        self.components = LabComponents(
            self.run_dir,
            self.ovs,
            controller=self.config.controller,
            supervised=supervised,
            log=log,
            reconnect=lambda: self.network.connect(),
            bridges_back=lambda: self.network.forget_gateway(),
        )

    # -- life

    def start(self) -> Lab:
        """Boot everything; the cluster is at rest when this returns. A failure leaves nothing running."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        began = time.monotonic()
        _allow_many_files()
        for directory in (self.run_dir, self.run_dir / LOGS):
            directory.mkdir(mode=0o700, exist_ok=True)
        if is_asked(self.run_dir):
            raise UsageError("a lab runs in this sandbox already; another lab needs a sandbox of its own")
        for left in self.run_dir.glob("*.db*"):  # of an earlier lab in this sandbox
            left.unlink()
        self._log(f"datapath: {self.ovs.datapath}")
        self.components.start()
        self._undo.append(self.ovs.stop)
        self.ovs.start()
        self.network = Network(self.plan, self.ovs, inside=self._inside_pod)
        self._undo.append(self.network.stop)
        self.network.build()
        self.network.start()
        clock = keep_timestamps()
        self._undo.append(clock.close)
        self.components.wait_ready("apiserver")
        self._register_nodes()
        self.components.wait_ready("runtime")
        self.kubelet = Kubelet(
            self.client,
            PodWires(self.network, self._save_state),
            [node.name for node in self.plan.nodes],
            self.run_dir / RUNTIME,
            log=self._log,
            logs=self.run_dir / LOGS,
        )
        self._undo.append(self.kubelet.stop)
        self.kubelet.start()
        self.components.wait_ready("kubeproxy")
        self.network.connect()
        self.components.watch()
        self._save_state()
        verbs: Verbs = {"kill": self.kill, "restart": self.restart, "readdress": self._readdress_by_name}
        self._undo.append(Control(self.run_dir, verbs).close)
        self.settle()
        self._log(f"{len(self.plan.nodes)} nodes up in {time.monotonic() - began:.1f} s")

    def stop(self) -> None:
        """End everything in order; twice is fine."""
        self.components.stop()
        while self._undo:
            self._undo.pop()()
        self.components.join()

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the cluster

    def apply(self, *manifests: str | Path | Obj) -> list[Obj]:
        """Check every document of files, directories or objects; then apply them in order, or none."""
        found: list[Document] = []
        for number, manifest in enumerate(manifests, 1):
            if isinstance(manifest, str | Path):
                found += load([manifest])
            else:
                found.append(Document(file=f"object {number}", number=1, obj=manifest))
        held = [obj for kind in ("Service", "Namespace") for obj in self.client.list(kind)[0]]
        check(found, held)
        return [self.client.apply(document.obj) for document in found]

    def settle(self, timeout: float = 30) -> int:
        """Wait until every component has done all work that was asked for, and the datapath follows.

        Returns the resourceVersion reached; NotSettled names who is behind.
        """
        proxies = [f"kubeproxy/{node.name}" for node in self.plan.nodes]
        try:
            version = self.client.settle(["managers", "kubelet", *proxies], timeout)
        except (NotSettled, Unreachable) as error:
            dead = ", ".join(self.components.dead())
            raise NotSettled(f"{error}; not running: {dead}" if dead else str(error)) from None
        self.ovs.appctl("revalidator/purge")
        return version

    def kill(self, component: str) -> None:
        """End a component as a crash would: apiserver, kubeproxy, runtime or vswitchd."""
        self.components.kill(component)

    def restart(self, component: str) -> None:
        """Start a component again; it serves when this returns, and ``settle`` waits for its catching up."""
        self.components.restart(component)
        if component in ("kubeproxy", "vswitchd"):
            self._heartbeat()

    # -- its hosts

    @property
    def net(self) -> Network:
        """The Mininet network, for its command line."""
        return self.network

    def node(self, which: int | str) -> Node:
        name = f"node{which}" if isinstance(which, int) else which
        self._known(name, [node.name for node in self.plan.nodes], "node")
        return Node(self.network, name, self._readdress)

    def outside(self, name: str = "client1") -> Outside:
        self._known(name, [client.name for client in self.plan.clients], "client")
        return Outside(self.network, name)

    def pod(self, name: str, namespace: str = "default") -> Pod:
        """A running pod by its whole name; NotFound when there is none."""
        return self._pod(self.client.get("Pod", name, namespace))

    def pods(self, selector: str = "", namespace: str = "default") -> list[Pod]:
        """The pods that have an address, by name; ``selector`` as kubectl's -l."""
        found, _ = self.client.list("Pod", namespace, labels=selector)
        ready = [pod for pod in found if pod.get("status", {}).get("podIP")]
        return [self._pod(pod) for pod in sorted(ready, key=lambda pod: str(pod["metadata"]["name"]))]

    def host(self, name: str) -> HostHandle:
        """Any host by its Mininet name: ``node1``, ``client1``, a pod's, ``<namespace>.<pod>``."""
        if name in {node.name for node in self.plan.nodes}:
            return self.node(name)
        if name in {client.name for client in self.plan.clients}:
            return self.outside(name)
        namespace, _, pod = name.rpartition(".")
        return self.pod(pod, namespace or "default")

    # -- captures

    def links(self) -> list[LinkEnd]:
        """Every link of the lab, with the label captures use."""
        ends = []
        for node in self.plan.nodes:
            for label, interface in (
                (f"{node.name}-host", node.host_interface),
                (f"{node.name}-uplink", node.uplink_interface),
            ):
                ends.append(LinkEnd(label=label, host=node.name, netns="", interface=interface))
        for client in self.plan.clients:
            ends.append(
                LinkEnd(label=client.name, host=client.name, netns=FABRIC, interface=client.fabric_interface)
            )
        for pod in self.network.pods():
            ends.append(
                LinkEnd(label=f"{pod.node}-{pod.name}", host=pod.name, netns="", interface=pod.interface)
            )
        return ends

    def capture(self, *labels: str, stream: BinaryIO | None = None) -> Capture:
        """A recorder (to be started by ``with``) on links by label or pattern; none: on all."""
        return Capture(choose_links(self.links(), labels), stream=stream)

    # -- inside

    def _register_nodes(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for node in self.plan.nodes:
            self.client.create(node_object(node, cpus=os.cpu_count() or 1, memory_kib=memory, now=now))

    def _heartbeat(self) -> None:
        """A new resourceVersion, as from the Lease of a real kubelet.

        What a kubeproxy reported before it or its switches died says nothing of the flows of now; only a
        report on a newer version does.
        """
        for node in self.plan.nodes:
            patch = {"metadata": {"annotations": {HEARTBEAT: datetime.now(UTC).isoformat()}}}
            self.client.patch("Node", node.name, patch)

    def _readdress(self, name: str, new: IPv4Address | None) -> IPv4Address:
        taken = {host.address for host in self.network.hosts if isinstance(host, EndHost)}
        if new is None:
            new = next(address for address in self._spare if address not in taken)
        if new not in self.plan.spare_node_addresses or new in taken:
            spare = self.plan.spare_node_addresses
            raise UserError(f"{name} cannot have {new}: a free one of {spare[0]}-{spare[-1]} is needed")
        self.network.readdress(name, new)
        self.client.patch("Node", name, {"status": {"addresses": addresses(name, new)}}, subresource="status")
        self._save_state()
        return new

    def _readdress_by_name(self, node: str, address: str | None = None) -> str:
        return str(self.node(node).readdress(address))

    def _save_state(self) -> None:
        with self.network.lock:
            LabState(
                datapath=self.ovs.datapath,
                config=asdict(self.config),
                hosts=self.network.describe(),
                links=self.links(),
            ).save(self.run_dir)

    def _inside_pod(self, name: str) -> list[str]:
        """The command that enters a pod's mount and UTS namespaces, for Mininet's shell."""
        for _ in range(2):
            for running in self.runtime.containers():
                if pod_host_name(running["namespace"], running["pod"]) != name:
                    continue
                if running["box"] is not None:
                    return ["nsenter", "--mount", "--uts", "--target", str(running["box"]), "--"]
                # A light image has no namespaces of its own until something runs in it
                self.runtime.run(running["pod"], ["true"], namespace=running["namespace"])
                break
        return []

    def _pod(self, obj: Obj) -> Pod:
        metadata = obj["metadata"]
        name = pod_host_name(metadata["namespace"], metadata["name"])
        return Pod(self.network, name, obj, self.runtime)

    @staticmethod
    def _known(name: str, names: Sequence[str], kind: str) -> None:
        if name not in names:
            raise UserError(f"there is no {kind} {name}; there are {', '.join(names)}")


def choose_links(links: Sequence[LinkEnd], labels: Sequence[str]) -> list[LinkEnd]:
    """Links by label or shell pattern, each once, in the lab's order; no label: all of them."""
    for label in labels:
        if not any(fnmatch.fnmatchcase(link.label, label) for link in links):
            raise UserError(f"there is no link {label}; there are {', '.join(link.label for link in links)}")
    return [
        link
        for link in links
        if not labels or any(fnmatch.fnmatchcase(link.label, label) for label in labels)
    ]


def _allow_many_files() -> None:
    """A pod keeps three descriptors open."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
