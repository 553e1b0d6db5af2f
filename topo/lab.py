"""The Lab: a whole cluster as one object, booted, used, and gone again.

    with Lab(ClusterConfig(nodes=3)) as lab:
        lab.apply("manifests/web.yaml")
        lab.settle()
        lab.outside().run(["curl", "http://192.168.49.2:30080/"])

It only puts the rooms together (wires, Open vSwitch, components, kubelet) and must know nothing of
Services or flows. It runs inside a sandbox (``topo.sandbox.enter``), which removes whatever is left.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from controller.api.client import Client
from controller.api.errors import MachineError, NotSettled, Unreachable, UsageError, UserError
from controller.api.manifests import Document, check, load, read
from controller.api.objects import Obj
from topo import cloud as clouds
from topo import dns, ingress, sandbox
from topo import tunnel as tunnels
from topo.addons import cluster_dns
from topo.capture import Capture, LinkEnd, keep_timestamps
from topo.capture_links import choose_links, link_ends
from topo.config import ClusterConfig
from topo.hosts import HostHandle, Node, Outside, Pod
from topo.internet import Internet
from topo.kubelet import Kubelet
from topo.lab_components import LabComponents
from topo.lab_nodes import LabNodes
from topo.lab_state import API, LOGS, PKI, RUNTIME, Control, LabState, Verbs, is_asked
from topo.links import need_families
from topo.netns import NAMES
from topo.network import Network
from topo.ovs import PrivateOvs
from topo.plan import INTERNET, Plan, pod_host_name
from topo.runtime_client import RuntimeClient
from topo.tunnel import Tunnel
from topo.wires import PodWires

__all__ = ["ClusterConfig", "Lab", "choose_links"]

PROGRAMS = {"nft": "nftables", "tc": "iproute2", "mnexec": "mininet", "ifconfig": "net-tools"}
"""With the Debian packages they come from."""


class Lab:
    """A running cluster. ``log`` gets one line for each thing worth saying.

    ``supervised`` restarts components that die (``./lab up``); a scenario restarts them itself.
    ``listener`` is the descriptor of a listening socket on the user's loopback, for the API server.
    """

    def __init__(
        self,
        config: ClusterConfig | None = None,
        *,
        log: Callable[[str], None] = lambda line: None,
        supervised: bool = False,
        listener: int | None = None,
    ) -> None:
        assert sandbox.inside(), "a lab runs inside a sandbox: topo.sandbox.enter"
        self.config = config or ClusterConfig()
        self.run_dir = sandbox.run_dir()
        self.plan = Plan(self.config)
        self.client = Client(self.run_dir / API, user_agent="podwire-lab")
        self.runtime = RuntimeClient(self.run_dir / RUNTIME)
        self.ovs = PrivateOvs(self.run_dir, self.config.datapath, offload=self.config.offload)
        self._log = log
        self.nodes = LabNodes(self.plan, self.client)
        self.cloud: clouds.Cloud | None = None
        self._tunnels: set[Tunnel] = set()
        self._undo = contextlib.ExitStack()
        self.components = LabComponents(
            self.run_dir,
            self.ovs,
            controller=self.config.controller,
            ip_family=self.config.ip_family,
            control_plane=NAMES / self.plan.nodes[0].name,
            supervised=supervised,
            log=log,
            reconnect=lambda: self.network.connect(),
            bridges_back=lambda: self.network.forget_gateway(),
            listener=listener,
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

    def facts(self) -> str:
        """On what it runs, before it is started too: what a user should read in the first line."""
        config = self.config
        nodes = f"{config.nodes} node{'s' if config.nodes > 1 else ''}"
        hosts = f"{nodes}, {config.clients} outside" + (", dual stack" if config.ip_family == "dual" else "")
        return f"{hosts}, {self.ovs.datapath} datapath, {config.controller}"

    def _start(self) -> None:
        began = time.monotonic()
        _need_programs()
        need_families(self.plan.families)
        dns.need(self.config.dns)
        _allow_many_files()
        for directory in (self.run_dir, self.run_dir / LOGS):
            directory.mkdir(mode=0o700, exist_ok=True)
        if is_asked(self.run_dir):
            raise UsageError("a lab runs in this sandbox already; another lab needs a sandbox of its own")
        for left in self.run_dir.glob("*.db*"):  # of an earlier lab in this sandbox
            left.unlink()
        shutil.rmtree(self.run_dir / PKI, ignore_errors=True)
        self._undo.callback(self.components.stop)
        self.components.start()
        self._undo.callback(self.ovs.stop)
        self.ovs.start()
        self.network = Network(self.plan, self.ovs, inside=self._inside_pod)
        self._undo.callback(self.network.stop)
        self.network.build()
        self.network.start()
        clock = keep_timestamps()
        self._undo.callback(clock.close)
        self._undo.callback(self.components.stop)  # asked early: they end while the wires go
        self.components.wait_ready("apiserver")
        self.nodes.register()
        for obj in cluster_dns(self.config.dns):
            self.client.create(obj)
        self.components.wait_ready("runtime")
        self.kubelet = Kubelet(
            self.client,
            PodWires(self.network, self._save_state),
            [node.name for node in self.plan.nodes],
            self.run_dir / RUNTIME,
            log=self._log,
            logs=self.run_dir / LOGS,
            resolv_conf="".join(f"nameserver {address}\n" for address in self.plan.internet.addresses),
        )
        self._undo.callback(self.kubelet.stop)
        self.kubelet.start()
        self.components.wait_ready("kubeproxy")
        self.network.connect()
        self.components.watch()
        self._save_state()
        verbs: Verbs = {"kill": self.kill, "restart": self.restart, "readdress": self._readdress_by_name}
        self._undo.callback(Control(self.run_dir, verbs).close)
        if self.config.cloud:
            self.start_cloud()
        internet = Internet(self.host(INTERNET).netns, self.plan)
        self._undo.callback(internet.stop)
        internet.start()
        self.settle()
        self._log(f"up in {time.monotonic() - began:.1f} s")

    def stop(self) -> None:
        """End everything in order; twice is fine."""
        try:
            self._undo.close()
        finally:
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
        held = [obj for kind in ("Service", "Namespace") for obj in self.client.list(kind)[0]]
        if all(isinstance(manifest, str | Path) for manifest in manifests):
            files = [manifest for manifest in manifests if isinstance(manifest, str | Path)]
            found = read(files, held, ip_family=self.config.ip_family)
        else:
            found = []
            for number, manifest in enumerate(manifests, 1):
                if isinstance(manifest, str | Path):
                    found += load([manifest])
                else:
                    found.append(Document(file=f"object {number}", number=1, obj=manifest))
            check(found, held, ip_family=self.config.ip_family)
        return [self.client.apply(document.obj) for document in found]

    def settle(self, timeout: float = 30) -> int:
        """Wait until every component has done all work that was asked for, and the datapath follows.

        Returns the resourceVersion reached; NotSettled names who is behind.
        """
        proxies = [f"kubeproxy/{node.name}" for node in self.plan.nodes]
        try:
            names = dns.components(self.client) if self.config.dns == "podwire" else []
            names += ingress.components(self.client)
            others = [clouds.COMPONENT] * bool(self.cloud) + [tunnels.COMPONENT] * bool(self._tunnels)
            version = self.client.settle(["managers", "kubelet", *proxies, *names, *others], timeout)
        except (NotSettled, Unreachable) as error:
            dead = ", ".join(self.components.dead())
            raise NotSettled(f"{error}; not running: {dead}" if dead else str(error)) from None
        self.ovs.appctl("revalidator/purge")
        return version

    def wait_dns(self, timeout: float = 30) -> None:
        """Until names resolve, which no start waits for; ``settle`` keeps them new from then on."""
        dns.wait_ready(self.client, timeout)
        self.settle(timeout)

    def start_cloud(self) -> clouds.Cloud:
        """There is a cloud from now on: type LoadBalancer gets its addresses. ``settle`` waits for it."""
        if self.cloud is None:
            made = clouds.Cloud(self.client, self.plan, log=self._log)
            self._undo.callback(made.stop)
            self.cloud = made.start()
        return self.cloud

    @contextlib.contextmanager
    def tunnel(self) -> Iterator[Tunnel]:
        """As ``./lab tunnel``, for the length of a ``with`` block: clients reach ClusterIPs by a node."""
        with Tunnel(self.client, self.plan) as tunnel:
            self._tunnels.add(tunnel)
            try:
                self.settle()
                yield tunnel
            finally:
                self._tunnels.remove(tunnel)

    def kill(self, component: str) -> None:
        """End a component as a crash would: apiserver, kubeproxy, runtime or vswitchd."""
        self.components.kill(component)

    def restart(self, component: str) -> None:
        """Start a component again; it serves when this returns, and ``settle`` waits for its catching up."""
        self.components.restart(component)
        if component in ("kubeproxy", "vswitchd"):
            self.nodes.heartbeat()

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
        self._known(name, [client.name for client in self.plan.outside], "client")
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
        if name in {client.name for client in self.plan.outside}:
            return self.outside(name)
        namespace, _, pod = name.rpartition(".")
        return self.pod(pod, namespace or "default")

    # -- captures

    def links(self) -> list[LinkEnd]:
        """Every link of the lab, with the label captures use."""
        return link_ends(self.plan, self.network.pods())

    def capture(self, *labels: str, stream: BinaryIO | None = None) -> Capture:
        """A recorder (to be started by ``with``) on links by label or pattern; none: on all."""
        return Capture(choose_links(self.links(), labels), stream=stream)

    # -- inside

    def _readdress(self, name: str, new: IPv4Address | None) -> IPv4Address:
        took = self.nodes.readdress(self.network, name, new)
        self._save_state()
        return took

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


def _need_programs() -> None:
    """What the wires call, and Mininet itself (which would end the process)."""
    path = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([path, "/usr/local/sbin", "/usr/sbin", "/sbin"])
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise MachineError(f"the program {program} is missing: apt-get install {package} (./lab does)")


def _allow_many_files() -> None:
    """A pod keeps three descriptors open."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
