"""The mirror: follows a real cluster's API, read-only, and plays what it hears in a lab.

    any Kubernetes API ──list, watch──► this process ──create, update, delete──► the lab's API

It is a process of its own, outside of the lab's sandbox, because that has no way to the source: it runs as
the user (behind sudo too), with the user's network, files and exec plugins, and reaches the lab as kubectl
does, by the kubeconfig of its loopback listener. All state is what both APIs say: each round computes from
it what the lab should hold (``mirror_objects``) and writes the difference (``mirror_play``).

With the process that started it (``scenarios.cli_mirror``) it talks JSON lines over a socket, whose end of
file ends it too:

    <- {"kubeconfig", "context", "namespaces", "nodes", "maxPods", "follow"}      what to look at
    -> {"nodes": 3, "ipFamily": "ipv4", "text": ...}  or  {"error": "UserError", "text": ...}
    <- {"lab": KUBECONFIG}                                                        play it there
    -> {"say": LINE} ...   {"playing": TEXT}
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.api import objects
from controller.api.client import Batch, Informer
from controller.api.errors import ApiError, Conflict, Forbidden, PodwireError, Unreachable, UserError
from controller.api.objects import Key, Obj
from topo import mirror_objects as mapping
from topo.mirror_kubeconfig import load
from topo.mirror_nodes import how_many, in_order, seat
from topo.mirror_objects import Name, Port, Stage
from topo.mirror_play import Player
from topo.mirror_source import Source, Target

PER_NODE = 240
"""A node's /24 has addresses for a few more."""
_RETRY = 0.5
_FIRST = 60.0
"""Seconds after which the first round is called done, whichever stand-in still does not serve."""
_OURS = ("Namespace", "Service", "Pod", "EndpointSlice", "Node")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asked for."""

    kubeconfig: str
    context: str | None = None
    namespaces: Sequence[str] = ()
    nodes: int | None = None
    max_pods: int = 1000
    follow: bool = True


class Line:
    """JSON lines to and from the process that started us."""

    def __init__(self, sock: socket.socket) -> None:
        self._read, self._write = sock.makefile("r", encoding="utf-8"), sock.makefile("w", encoding="utf-8")
        self._lock = threading.Lock()

    def hear(self) -> dict[str, Any] | None:
        """The next message; None when the other side is gone."""
        text = self._read.readline()
        return json.loads(text) if text else None

    def tell(self, **message: Any) -> None:
        with self._lock:
            try:
                self._write.write(json.dumps(message) + "\n")
                self._write.flush()
            except BrokenPipeError:
                os._exit(0)

    def say(self, line: str) -> None:
        self.tell(say=line)


class Mirror:
    """Both sides as they are known, and the rounds between them."""

    def __init__(self, wish: Wish, line: Line) -> None:
        self._wish, self._line = wish, line
        self._changed = threading.Condition()
        self._dirty = False
        self._error: BaseException | None = None
        self._theirs: dict[Key, Obj] = {}
        self._ours: dict[Key, Obj] = {}
        self._source = Source(load(wish.kubeconfig, wish.context), line.say)
        self._informers: list[Informer] = []
        self._seats: dict[str, str] = {}
        self._noted: dict[str, Obj] = {}
        self._ports: dict[str, set[Port]] = {}
        self._told: set[str] = set()
        self._stage = Stage()

    # -- the source

    def look(self) -> tuple[int, str, str]:
        """List everything and follow it from now on: how many nodes and which family the lab needs, and
        what there is, in words."""
        for namespace in self._wish.namespaces:
            if namespace in mapping.NOT_PLAYED:
                raise UserError(f"namespace {namespace} is not played: a lab has a control plane of its own")
        scopes: Sequence[str | None] = self._wish.namespaces or [None]
        kinds = [kind for kind in mapping.KINDS if kind != "Node"]
        try:
            self._source.list("Node")
        except Forbidden:
            self._line.say("nodes may not be listed with this kubeconfig: known by their pods, without zones")
        else:
            self._follow(["Node"], None)
        for scope in scopes:
            self._source.list("Service", scope)  # the first to say that this is forbidden
            self._follow(kinds, scope)
        for informer in self._informers:
            informer.wait_synced()
        with self._changed:
            theirs = dict(self._theirs)
        return self._sizes(theirs)

    def _follow(self, kinds: Sequence[str], namespace: str | None) -> None:
        scopes = dict.fromkeys(kinds, namespace) if namespace else {}
        informer = Informer(
            self._source,
            kinds,
            self._on_source,
            namespaces=scopes,
            on_error=self._on_error,
        )
        self._informers.append(informer.start())

    def _sizes(self, theirs: dict[Key, Obj]) -> tuple[int, str, str]:
        played = Counter(at.kind for at, obj in theirs.items() if mapping.is_played(obj))
        names = self._names(theirs)
        if played["Pod"] > self._wish.max_pods:
            raise UserError(
                f"the cluster has {played['Pod']} pods to play, more than --max-pods {self._wish.max_pods}: "
                "choose namespaces by -n, or raise it (a lab takes about 100 a second)"
            )
        dual = any(
            "IPv6" in (obj["spec"].get("ipFamilies") or ())
            for at, obj in theirs.items()
            if at.kind == "Service"
        )
        text = f"{len(names)} nodes, {played['Service']} Services, {played['Pod']} pods"
        return how_many(len(names), self._wish.nodes), "dual" if dual else "ipv4", text

    @staticmethod
    def _names(theirs: dict[Key, Obj]) -> list[str]:
        nodes = [obj for at, obj in theirs.items() if at.kind == "Node"]
        return in_order(nodes, (obj for at, obj in theirs.items() if at.kind == "Pod"))

    def _on_source(self, batch: Batch) -> None:
        with self._changed:
            for event in batch.events:
                at = objects.key(event.obj)
                if event.type == "DELETED":
                    self._theirs.pop(at, None)
                else:
                    self._theirs[at] = event.obj
            self._wake()

    def _on_error(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        self._dirty = True
        self._changed.notify_all()

    # -- the lab

    def play(self, kubeconfig: str) -> None:
        """Round after round, until an error ends it."""
        client = Target(load(kubeconfig))
        player = Player(client, self._line.say, self._otherwise)
        vanished: list[Key] = []

        def on_lab(batch: Batch) -> None:
            with self._changed:
                for event in batch.events:
                    at = objects.key(event.obj)
                    if event.type == "DELETED":
                        self._ours.pop(at, None)
                        vanished.append(at)
                    else:
                        self._ours[at] = event.obj
                self._wake()

        informer = Informer(client, _OURS, on_lab, on_error=self._on_error).start()
        informer.wait_synced()
        began, retry = time.monotonic(), None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty, retry)
                self._dirty = False
                if self._error is not None:
                    raise self._error
                theirs, ours, left = dict(self._theirs), dict(self._ours), list(vanished)
                vanished.clear()
            for at in left:
                player.gone(at)
            try:
                self._take_seats(client, theirs, ours)
                wanted = self._wanted(theirs, ours, player)
                done, retry = player.play(wanted), None
            except (Unreachable, Conflict):
                done, retry = False, _RETRY
            if player.loud:
                continue
            served = sum(at.kind == "Pod" for at in wanted) <= len(self._stage.pods)
            if (done and served) or time.monotonic() - began > _FIRST:
                player.loud = True
                self._line.tell(playing=self._table(theirs, ours))
                if not self._wish.follow:
                    for followed in self._informers:
                        followed.stop()
            else:
                retry = _RETRY

    def _take_seats(self, client: Target, theirs: dict[Key, Obj], ours: dict[Key, Obj]) -> None:
        """Give every node a place and write on ours for whom it stands."""
        places = sorted((at.name for at in ours if at.kind == "Node"), key=lambda name: (len(name), name))
        names = self._names(theirs)
        before, self._seats = self._seats, seat(self._seats, names, places)
        for name in names:
            if name not in self._seats:
                self._once(
                    f"! node {name} has no place in the lab: its pods are not played (more by --nodes)"
                )
        for name, place in self._seats.items():
            if before and name not in before:
                self._line.say(f"+ node {name} is {place}")
        standing = {place: name for name, place in self._seats.items()}
        for place in places:
            node = theirs.get(Key("Node", "", standing.get(place, "")))
            if node is None and place in standing:
                node = {"metadata": {"name": standing[place]}}
            patch = mapping.node_patch(node)
            if self._noted.get(place) != patch:
                client.patch("Node", place, patch)
                self._noted[place] = patch

    def _wanted(self, theirs: dict[Key, Obj], ours: dict[Key, Obj], player: Player) -> dict[Key, Obj]:
        played = {at: obj for at, obj in theirs.items() if at.kind != "Node" and mapping.is_played(obj)}
        slices = [obj for at, obj in played.items() if at.kind == "EndpointSlice"]
        pods = self._admitted(played, player)
        self._stage = self._set(theirs, ours, pods)
        self._learn_ports(pods, played, slices)
        made: dict[Key, Obj] = {}
        for at, obj in played.items():
            mine: Obj | None = None
            if at in pods:
                mine = mapping.pod(obj, self._stage, self._ports[objects.uid(obj)])
            elif at.kind == "Service":
                mine = mapping.service(obj, self._stage)
            elif at.kind == "EndpointSlice":
                mine = mapping.endpoint_slice(obj, self._stage)
            if mine is not None:
                made[at] = mine
        return mapping.namespaces(made) | made

    def _admitted(self, played: dict[Key, Obj], player: Player) -> dict[Key, Obj]:
        """The pods that there is room for; who is there stays."""
        found: dict[Key, Obj] = {}
        on_node: Counter[str] = Counter()
        candidates = [at for at in played if at.kind == "Pod"]
        for at in sorted(candidates, key=lambda at: (not player.holds(at), at)):
            pod = played[at]
            place = self._seats.get(pod["spec"]["nodeName"])
            if place is None:
                continue
            on_node[place] += 1
            if on_node[place] > PER_NODE or len(found) >= self._wish.max_pods:
                self._once(f"! pod {at.namespace}/{at.name} is not played: no more room on {place}")
            else:
                found[at] = pod
        return found

    def _set(self, theirs: dict[Key, Obj], ours: dict[Key, Obj], pods: dict[Key, Obj]) -> Stage:
        places = {at.name: obj for at, obj in ours.items() if at.kind == "Node"}
        addresses = {}
        for name, place in self._seats.items():
            node = theirs.get(Key("Node", "", name))
            mine = mapping.by_family(mapping.node_addresses(places[place]))
            addresses.update(dict.fromkeys(mapping.node_addresses(node) if node else (), mine))
        families = tuple(mapping.by_family(mapping.node_addresses(next(iter(places.values())))))
        serving: dict[Name, dict[str, str]] = {}
        for at, pod in pods.items():
            mine_pod = ours.get(at)
            if (
                mine_pod is not None
                and objects.is_ready(mine_pod)
                and not objects.is_deleting(mine_pod)
                and objects.annotation(mine_pod, mapping.MIRRORED_UID) == objects.uid(pod)
            ):
                serving[at.namespace, at.name] = mapping.by_family(mapping.addresses_of(mine_pod))
        return Stage(families=families, nodes=dict(self._seats), node_addresses=addresses, pods=serving)

    def _learn_ports(self, pods: dict[Key, Obj], played: dict[Key, Obj], slices: list[Obj]) -> None:
        """What a pod has once listened on it listens on for life: another port means another stand-in."""
        by_slice = mapping.ports_by_pod(slices)
        services: dict[str, list[Obj]] = {}
        for at, obj in played.items():
            if at.kind == "Service":
                services.setdefault(at.namespace, []).append(obj)
        known: dict[str, set[Port]] = {}
        for at, pod in pods.items():
            uid = objects.uid(pod)
            before = self._ports.get(uid)
            if before is None:
                before = mapping.ports_by_selector(pod, services.get(at.namespace, ()))
            known[uid] = before | by_slice.get((at.namespace, at.name), set())
        self._ports = known

    def _otherwise(self, at: Key) -> Obj | None:
        theirs = self._theirs.get(at)
        return mapping.service(theirs, self._stage, free=True) if theirs and at.kind == "Service" else None

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._line.say(line)

    def _table(self, theirs: dict[Key, Obj], ours: dict[Key, Obj]) -> str:
        """Who stands for whom."""
        rows = []
        for name, place in sorted(self._seats.items(), key=lambda item: (len(item[1]), item[1])):
            node = theirs.get(Key("Node", "", name))
            there = next(iter(mapping.node_addresses(node)), "") if node else ""
            here = next(iter(mapping.node_addresses(ours[Key("Node", "", place)])), "")
            rows.append(f"  {place} {here} is {name} {there}".rstrip())
        moved = 0
        for at, obj in theirs.items():
            mine = ours.get(at)
            if at.kind == "Service" and mine is not None and mapping.is_played(obj):
                moved += obj["spec"].get("clusterIP") != mine["spec"].get("clusterIP")
        if moved:
            rows.append(
                f"  {moved} Services have another ClusterIP: theirs are outside of the lab's 10.96.0.0/12"
            )
        return "\n".join(rows)


def main(line: Line) -> int:
    """Look, and play when told where; an error is told, not raised."""
    asked = line.hear()
    if asked is None:
        return 0
    try:
        mirror = Mirror(Wish(**asked), line)
        nodes, family, text = mirror.look()
        line.tell(nodes=nodes, ip_family=family, text=text)
        told = line.hear()
        if told is None:
            return 0
        threading.Thread(target=_end_with, args=(line,), daemon=True).start()
        mirror.play(told["lab"])
    except (Unreachable, ApiError) as error:
        line.tell(error="UserError", text=_sentence(error))
    except PodwireError as error:
        line.tell(error=type(error).__name__, text=str(error))
    return 1


def _sentence(error: PodwireError) -> str:
    if isinstance(error, Forbidden):
        return f"the kubeconfig's user may not read what is followed (-n NAMESPACE asks for less): {error}"
    return str(error)


def _end_with(line: Line) -> None:
    while line.hear() is not None:
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(Line(socket.socket(fileno=int(sys.argv[1])))))
