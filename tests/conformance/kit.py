"""The vocabulary of the cases: pods, Services, who reaches whom. One Kit for each case.

    kit.pods("web", nodes=[1, 2])
    service = kit.service("web", type="NodePort")
    kit.reach(kit.client(3), service, expect={"web-1", "web-2"}, source="sender")

Every Kit has a namespace of its own and takes it away again. What was asked for is in force when
``settle`` returns; only timers (probes, affinity) are waited for, by their condition. Nothing sleeps.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from controller.api.errors import ApiError, NotFound
from controller.api.transport import Transport
from controller.api.wiring import RANGES
from tests.conformance.case import NotThere
from tests.conformance.objects import Obj, agnhost, delayed, service_object
from tests.conformance.traffic import Answer, Target, ask
from topo.hosts import HostHandle, Node, Outside, Pod
from topo.lab import Lab
from topo.lab_state import API

MOST = 40
"""Connections until every endpoint must have answered one: two that share evenly miss one by 2^-39."""
HAIRPINS = frozenset(str(one.hairpin_virtual) for one in RANGES.values())
T = TypeVar("T")
_PACE = threading.Event()


class UnixHttp(http.client.HTTPConnection):
    """HTTP to the API server's Unix socket, for answers of any kind."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Kit:
    """One case's view of the lab."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab, self.client_api, self.namespace = lab, lab.client, namespace
        self.api = Transport(lab.run_dir / API, "podwire-conformance")
        self._extra: list[tuple[str, str]] = []
        self._host_pods: dict[str, str] = {}
        self.unnamed: list[str] = []
        """Services that upstream's helper asks by name too, which the lab could not."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def close(self) -> None:
        """Take everything away; the lab is at rest, and empty, when this returns."""
        for pod in self.list("Pod"):
            with contextlib.suppress(NotFound):
                self.client_api.delete("Pod", pod["metadata"]["name"], self.namespace, grace=0)
        for kind, name in self._extra:
            with contextlib.suppress(NotFound):
                self.client_api.delete(kind, name)
        with contextlib.suppress(NotFound):
            self.client_api.delete("Namespace", self.namespace)
        self.settle()

    # -- objects

    def settle(self, timeout: float = 120) -> None:
        """Everything asked for is done and in force. The case's own time is over long before."""
        self.lab.settle(timeout)

    def create(self, obj: Obj) -> Obj:
        if obj["kind"] not in ("Namespace", "Node", "ServiceCIDR", "IPAddress"):
            obj["metadata"].setdefault("namespace", self.namespace)
        elif obj["kind"] != "Namespace":
            self._extra.append((obj["kind"], obj["metadata"]["name"]))
        return self.client_api.create(obj)

    def get(self, kind: str, name: str) -> Obj:
        return self.client_api.get(kind, name, self.namespace)

    def list(self, kind: str, labels: str = "") -> list[Obj]:
        return self.client_api.list(kind, self.namespace, labels=labels)[0]

    def patch(self, kind: str, name: str, patch: Obj, *, subresource: str = "") -> Obj:
        """A merge patch, in force when this returns."""
        done = self.client_api.patch(kind, name, patch, self.namespace, subresource=subresource)
        self.settle()
        return done

    def delete(self, kind: str, *names: str, grace: int | None = 0) -> None:
        for name in names:
            self.client_api.delete(kind, name, self.namespace, grace=grace)
        self.settle()

    def rejected(self, text: str, act: Callable[[], object]) -> None:
        """The API server refuses what is done, in these words."""
        try:
            act()
        except ApiError as error:
            if text not in str(error):
                raise AssertionError(f"refused, but with the words: {error}") from None
            return
        raise AssertionError(f"it was accepted, instead of: {text}")

    def http(self, method: str, path: str) -> tuple[int, str]:
        """Status and body of a request to the API server whose answer need not be JSON."""
        with contextlib.closing(UnixHttp(self.lab.run_dir / API)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    def text(self, method: str, path: str) -> str:
        """The body of an answer that must be 2xx."""
        code, body = self.http(method, path)
        assert 200 <= code < 300, f"{method} {path}: {code} {body.strip()[:120]}"
        return body

    # -- pods

    def pod(self, name: str, node: int = 1, *, app: str = "", run: bool = True, **more: Any) -> str:
        """A netexec pod on 8080 (TCP and UDP). ``more`` as ``objects.agnhost`` takes it. Returns its name."""
        self.create(agnhost(name, f"node{node}", app or name, **more))
        if more.get("host_network"):
            self._host_pods[f"node{node}"] = name
        if run:
            self.settle()
        return name

    def pods(self, app: str, nodes: Sequence[int] = (1, 2), **more: Any) -> set[str]:
        """One pod on each node, named ``app-N``."""
        names = {self.pod(f"{app}-{node}", node, app=app, run=False, **more) for node in nodes}
        self.settle()
        return names

    def lingering(self, app: str, nodes: Sequence[int] = (1,), **more: Any) -> set[str]:
        """Pods that go on serving for a minute after they are told to end (upstream: --delay-shutdown)."""
        return self.pods(app, nodes, change=delayed, **more)

    def terminate(self, *names: str) -> None:
        """Tell pods to end, in their own time; they terminate, and serve, when this returns."""
        self.delete("Pod", *names, grace=None)

    def client(self, node: int = 1, name: str = "", **more: Any) -> str:
        """A pod to ask from; a sender's word."""
        name = name or f"client-{node}"
        self.pod(name, node, app="client", **more)
        return f"pod/{name}"

    def host_client(self, node: int = 1) -> str:
        """A hostNetwork pod sends from its node's network, as the node itself does."""
        return f"node{node}"

    def wait_ready(self, name: str) -> None:
        self.until(lambda: _is_ready(self.get("Pod", name)), f"{name} is ready")
        self.settle()

    # -- services

    def service(self, name: str, *, ports: Sequence[Any] = (80,), **spec: Any) -> Obj:
        """A Service over the pods of app ``name``; ports as ``objects.service_object`` takes them."""
        made = self.create(service_object(name, ports, **spec))
        self.settle()
        return self.get("Service", made["metadata"]["name"])

    def refresh(self, service: Obj) -> Obj:
        return self.get("Service", service["metadata"]["name"])

    def addresses(self, name: str) -> set[str]:
        """Every address in the Service's slices, whatever its conditions."""
        slices = self.list("EndpointSlice", f"kubernetes.io/service-name={name}")
        return {a for s in slices for e in s.get("endpoints") or () for a in e["addresses"]}

    def ip(self, pod: str) -> str:
        return str(self.get("Pod", pod)["status"]["podIP"])

    # -- traffic

    def host(self, word: str | HostHandle) -> HostHandle:
        """``pod/NAME``, ``node1`` or ``client1``; or what was looked up before."""
        if isinstance(word, HostHandle):
            return word
        _kind, slash, name = word.rpartition("/")
        return self.lab.pod(name, self.namespace) if slash else self.lab.host(word)

    def target(self, to: str | Obj, *, port: int = 0) -> Target:
        """A Service object (its cluster address), or ``HOST:PORT/PROTOCOL`` where HOST is a sender's word,
        ``localhost`` or an address."""
        if not isinstance(to, str):
            first = to["spec"]["ports"][0]
            assert to["spec"].get("clusterIP") not in ("", "None", None), "the Service has no cluster address"
            return Target(
                address=to["spec"]["clusterIP"],
                port=port or first["port"],
                protocol=first.get("protocol", "TCP").lower(),
            )
        at, _, protocol = to.rpartition("/") if to.endswith(("/tcp", "/udp", "/sctp")) else (to, "", "tcp")
        host, _, number = at.rpartition(":")
        host = host.strip("[]")
        if host == "localhost":
            address = "127.0.0.1"
        elif host.startswith("pod/"):
            address = self.ip(host.removeprefix("pod/"))
        else:
            address = str(self.lab.host(host).ip) if host[:1].isalpha() and ":" not in host else host
        return Target(address=address, port=port or int(number), protocol=protocol)

    def node_port(
        self, service: Obj, node: int | str = 1, *, protocol: str = "TCP", family: str = "IPv4"
    ) -> str:
        """``node1:30123/tcp`` of a Service; by the node's IPv6 address, that is written out."""
        for port in service["spec"]["ports"]:
            if port.get("protocol", "TCP") == protocol:
                where = f"node{node}" if isinstance(node, int) else node
                if family == "IPv6":
                    where = f"[{self.address(where, family)}]"
                return f"{where}:{port['nodePort']}/{protocol.lower()}"
        raise AssertionError(f"no {protocol} port in {service['spec']['ports']}")

    def address(self, word: str | HostHandle, family: str = "IPv4") -> str:
        """The address that a host has in a family."""
        return next(str(one) for one in self.host(word).ips if f"IPv{one.version}" == family)

    def ask(self, sender: str | HostHandle, to: str | Obj, **more: Any) -> Answer:
        """One connection; who answered goes by pod names, of hostNetwork pods too."""
        return self._named(ask(self.host(sender), self.target(to), **more))

    def who(self, hostname: str) -> str:
        """The pod that says this hostname: a hostNetwork pod says its node's."""
        return self._host_pods.get(hostname, hostname)

    def _named(self, answer: Answer) -> Answer:
        return Answer(who=self.who(answer.who), source=answer.source, fate=answer.fate)

    def reach(
        self,
        sender: str | HostHandle,
        to: str | Obj,
        expect: Collection[str] | str,
        *,
        source: str = "",
        times: int = 0,
    ) -> None:
        """Over several connections exactly these pods answer; or every one of a few ends as ``expect`` says
        (``refused``, ``dropped``, ``unreachable``). ``source``: as whom the pod sees the sender."""
        target, host = self.target(to), self.host(sender)
        what = f"{sender} to {target}"
        if isinstance(expect, str):
            for _ in range(times or (1 if expect == "dropped" else 2)):
                answer = self._named(ask(host, target, timeout=1 if expect == "dropped" else 2))
                assert answer.fate == expect, (
                    f"{what} was {answer.fate} {answer.who}".rstrip() + f", not {expect}"
                )
            return
        wanted, seen = set(expect), set[str]()
        for number in range(times or MOST):
            answer = self._named(ask(host, target))
            assert answer.who in wanted, f"{what}: {answer.who or answer.fate}, not one of {sorted(wanted)}"
            self._check_source(what, source, sender, answer)
            seen.add(answer.who)
            if seen == wanted and number + 1 >= (times or 2 * len(wanted)):
                return
        assert seen == wanted, f"{what}: never {sorted(wanted - seen)}"

    def _check_source(self, what: str, word: str, sender: str | HostHandle, answer: Answer) -> None:
        if word:
            words = [sender if one == "sender" else one for one in word.split(" or ")]
            allowed: set[str] = set()
            for one in words:
                allowed |= HAIRPINS if one == "hairpin" else {str(ip) for ip in self.host(one).ips}
            assert answer.source in allowed, (
                f"{what}: {answer.who} saw {answer.source}, not {sorted(allowed)}"
            )

    def until(self, condition: Callable[[], T], what: str, timeout: float = 8) -> T:
        """Wait for a condition that hangs on a timer; AssertionError when it does not come."""
        end = time.monotonic() + timeout
        while True:
            held = condition()
            if held:
                return held
            assert time.monotonic() < end, f"after {timeout:g} s still not: {what}"
            _PACE.wait(0.05)

    def lapse(self, seconds: float) -> None:
        """Let a time-out that the case is about run out."""
        _PACE.wait(seconds)

    def by_name(self, sender: str, service: Obj, expect: Collection[str], *, strict: bool = False) -> None:
        """Upstream asks by the Service's name as well. Where the name is what the case promises
        (``strict``) the case does not pass without DNS; elsewhere it is passed with a remark."""
        name = f"{service['metadata']['name']}.{self.namespace}.svc.cluster.local"
        if not has_dns(self.lab):
            if strict:
                raise NotThere(f"the cluster's DNS: all passed but the name {name}")
            self.unnamed.append(name)
            return
        port = service["spec"]["ports"][0]["port"]
        done = self.host(sender).run(["curl", "-sS", "--max-time", "5", f"http://{name}:{port}/hostname"])
        assert done.stdout in expect, f"{sender} to {name}: {done.stdout or done.stderr}"

    # -- the lab's hosts

    def node(self, number: int) -> Node:
        return self.lab.node(number)

    def outside(self) -> Outside:
        return self.lab.outside()

    def running(self, name: str) -> Pod:
        return self.lab.pod(name, self.namespace)


def has_dns(lab: Lab) -> bool:
    """Whether kube-dns has a ready endpoint."""
    slices, _ = lab.client.list("EndpointSlice", "kube-system", labels="kubernetes.io/service-name=kube-dns")
    return any((e.get("conditions") or {}).get("ready") for s in slices for e in s.get("endpoints") or ())


def await_dns(lab: Lab, seconds: float) -> None:
    """Until the lab's DNS server answers; a lab without one is taken as it is."""
    lab.settle(seconds)
    end = time.monotonic() + seconds
    servers, _ = lab.client.list("Deployment", "kube-system", labels="k8s-app=kube-dns")
    while servers and not has_dns(lab) and time.monotonic() < end:
        _PACE.wait(0.05)
    lab.settle(seconds)


def _is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
