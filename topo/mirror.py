"""The mirror: follows a real cluster's API, read-only, and plays what it hears in a lab.

    any Kubernetes API ──list, watch──► this process ──create, update, delete──► the lab's API

It is a process of its own, outside of the lab's sandbox, because that has no way to the source: it runs as
the user (behind sudo too), with the user's network, files and exec plugins, and reaches the lab as kubectl
does, by the kubeconfig of its loopback listener. All state is what both APIs say (``mirror_follow``): each
round computes from it what the lab should hold (``mirror_objects``) and writes the difference
(``mirror_play``).

With the process that started it (``scenarios.cli_mirror``) it talks JSON lines over a socket, whose end of
file ends it too:

    <- the fields of a Wish                                       what to look at
    -> the fields of a Found  or  {"error": "UserError", "text": ...}
    <- {"lab": KUBECONFIG}                                        play it there
    -> {"say": LINE} ...   {"playing": WHO STANDS FOR WHOM}
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

from controller.api import objects
from controller.api.errors import ApiError, Conflict, Forbidden, PodwireError, Unauthorized, Unreachable
from controller.api.objects import Key, Obj
from controller.api.wiring import RANGES
from topo import mirror_objects as mapping
from topo.mirror_follow import Board, Follower, Sides, Wish
from topo.mirror_kubeconfig import load
from topo.mirror_nodes import seat
from topo.mirror_objects import Stage
from topo.mirror_play import Player
from topo.mirror_source import Target
from topo.mirror_theirs import (
    Name,
    Port,
    addresses_of,
    by_family,
    is_played,
    node_addresses,
    ports_by_pod,
    ports_by_selector,
)

PER_NODE = 240
"""A node's /24 has addresses for a few more."""
_RETRY = 0.5
_FIRST = 60.0
"""Seconds after which the first round is called done, whichever stand-in still does not serve."""


class Line:
    """JSON lines to and from the process at the other end of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._read, self._write = sock.makefile("r", encoding="utf-8"), sock.makefile("w", encoding="utf-8")
        self._lock = threading.Lock()

    def hear(self) -> dict[str, Any] | None:
        """The next message; None when the other side is gone."""
        text = self._read.readline()
        return json.loads(text) if text else None

    def tell(self, **message: Any) -> None:
        with self._lock:
            self._write.write(json.dumps(message) + "\n")
            self._write.flush()

    def say(self, line: str) -> None:
        self.tell(say=line)


class Mirror:
    """The rounds. What it remembers from one to the next: places, ports, and what it has said."""

    def __init__(self, wish: Wish, line: Line) -> None:
        self._wish, self._line, self._board = wish, line, Board()
        self.follower = Follower(wish, self._board, line.say)
        self._seats: dict[str, str] = {}
        self._noted: dict[str, Obj] = {}
        self._ports: dict[str, set[Port]] = {}
        self._told: set[str] = set()
        self._stage = Stage()

    def play(self, kubeconfig: str) -> None:
        """Round after round, until an error ends it."""
        client = Target(load(kubeconfig))
        player = Player(client, self._line.say)
        self._board.follow_lab(client)
        first_until = time.monotonic() + _FIRST
        again: float | None = _RETRY
        while True:
            sides = self._board.look(again)
            again = None if player.loud else _RETRY
            for at in sides.vanished:
                player.gone(at)
            try:
                self._take_seats(client, sides)
                wanted = self._wanted(sides, player)
                done = player.play(wanted, partial(self._otherwise, sides))
            except (Unreachable, Conflict):
                again = _RETRY
                continue
            if player.loud:
                continue
            serving = sum(at.kind == "Pod" for at in wanted) <= len(self._stage.pods)
            if (done and serving) or time.monotonic() > first_until:
                player.loud = True
                self._line.tell(playing=self._who_is_who(sides))
                if not self._wish.follow:
                    self.follower.stop()

    def _take_seats(self, client: Target, sides: Sides) -> None:
        """Give every node a place, and write on ours for whom it stands."""
        places = sorted(_nodes(sides.ours), key=lambda name: (len(name), name))
        names = sides.node_names()
        before, self._seats = self._seats, seat(self._seats, names, places)
        for name in names:
            if name not in self._seats:
                self._once(f"! node {name} has no place in the lab (see --nodes): its pods are not played")
            elif before and name not in before:
                self._line.say(f"+ node {name} is {self._seats[name]}")
        standing = {place: name for name, place in self._seats.items()}
        theirs = _nodes(sides.theirs)
        for place in places:
            name = standing.get(place, "")
            patch = mapping.node_patch(name, theirs.get(name))
            if self._noted.get(place) != patch:
                client.patch("Node", place, patch)
                self._noted[place] = patch

    def _wanted(self, sides: Sides, player: Player) -> dict[Key, Obj]:
        played = {at: obj for at, obj in sides.theirs.items() if at.kind != "Node" and is_played(obj)}
        pods = self._admitted(played, player)
        self._stage = self._set(sides, pods)
        self._learn_ports(pods, played)
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
            place = self._seats.get(played[at]["spec"]["nodeName"])
            if place is None:
                continue
            on_node[place] += 1
            if on_node[place] > PER_NODE or len(found) >= self._wish.max_pods:
                self._once(
                    f"! pod {at.namespace}/{at.name} is not played: there is no more room (see --max-pods)"
                )
            else:
                found[at] = played[at]
        return found

    def _set(self, sides: Sides, pods: dict[Key, Obj]) -> Stage:
        places, theirs = _nodes(sides.ours), _nodes(sides.theirs)
        addresses = {}
        for name, place in self._seats.items():
            mine = by_family(node_addresses(places[place]))
            addresses.update(dict.fromkeys(node_addresses(theirs.get(name)), mine))
        serving: dict[Name, dict[str, str]] = {}
        for at, pod in pods.items():
            stand_in = sides.ours.get(at)
            if (
                stand_in is not None
                and objects.is_ready(stand_in)
                and not objects.is_deleting(stand_in)
                and objects.annotation(stand_in, mapping.MIRRORED_UID) == objects.uid(pod)
            ):
                serving[at.namespace, at.name] = by_family(addresses_of(stand_in))
        families = tuple(by_family(node_addresses(next(iter(places.values())))))
        return Stage(families=families, nodes=dict(self._seats), node_addresses=addresses, pods=serving)

    def _learn_ports(self, pods: dict[Key, Obj], played: dict[Key, Obj]) -> None:
        """What a pod has once listened on it listens on for life: another port means another stand-in."""
        by_slice = ports_by_pod(obj for at, obj in played.items() if at.kind == "EndpointSlice")
        services: dict[str, list[Obj]] = {}
        for at, obj in played.items():
            if at.kind == "Service":
                services.setdefault(at.namespace, []).append(obj)
        known: dict[str, set[Port]] = {}
        for at, pod in pods.items():
            uid = objects.uid(pod)
            before = self._ports.get(uid)
            if before is None:
                before = ports_by_selector(pod, services.get(at.namespace, ()))
            known[uid] = before | by_slice.get((at.namespace, at.name), set())
        self._ports = known

    def _otherwise(self, sides: Sides, at: Key) -> Obj | None:
        theirs = sides.theirs.get(at)
        return mapping.service(theirs, self._stage, free=True) if theirs and at.kind == "Service" else None

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._line.say(line)

    def _who_is_who(self, sides: Sides) -> str:
        rows, places, theirs = [], _nodes(sides.ours), _nodes(sides.theirs)
        for name, place in sorted(self._seats.items(), key=lambda item: (len(item[1]), item[1])):
            here, there = (next(iter(node_addresses(node)), "") for node in (places[place], theirs.get(name)))
            rows.append(f"  {place} {here} stands for {name} {there}".rstrip())
        moved = 0
        for at, obj in sides.theirs.items():
            mine = sides.ours.get(at)
            if at.kind == "Service" and mine is not None and is_played(obj):
                moved += obj["spec"].get("clusterIP") != mine["spec"].get("clusterIP")
        if moved:
            have = "Services have" if moved > 1 else "Service has"
            rows.append(
                f"  {moved} {have} another ClusterIP than there, outside of {RANGES['IPv4'].services}: "
                f"that one is in the annotation {mapping.MIRRORS}"
            )
        return "\n".join(rows)


def _nodes(held: dict[Key, Obj]) -> dict[str, Obj]:
    return {at.name: obj for at, obj in held.items() if at.kind == "Node"}


def main(line: Line) -> int:
    """Look, and play when told where; an error is told, not raised."""
    asked = line.hear()
    if asked is None:
        return 0
    wish = Wish(**asked)
    try:
        mirror = Mirror(wish, line)
        line.tell(**asdict(mirror.follower.start()))
        told = line.hear()
        if told is None:
            return 0
        threading.Thread(target=_end_with, args=(line,), daemon=True).start()
        mirror.play(told["lab"])
    except BrokenPipeError:
        return 0
    except (Unreachable, ApiError) as error:
        line.tell(error="UserError", text=_sentence(error, wish))
    except PodwireError as error:
        line.tell(error=type(error).__name__, text=str(error))
    except Exception:  # a bug of ours: shown where the rest is shown
        line.say(traceback.format_exc())
    return 1


def _sentence(error: PodwireError, wish: Wish) -> str:
    if isinstance(error, Forbidden):
        return f"{wish.kubeconfig} may not read what is followed (-n NAMESPACE asks for less): {error}"
    if isinstance(error, Unauthorized):
        return f"the API server does not know the user of {wish.kubeconfig}: {error}"
    return f"{wish.kubeconfig}: {error}"


def _end_with(line: Line) -> None:
    while line.hear() is not None:
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(Line(socket.socket(fileno=int(sys.argv[1])))))
