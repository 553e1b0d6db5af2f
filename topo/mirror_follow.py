"""What the two APIs hold, kept by informers: the side that is followed, and the lab's.

Here is known what is asked of the source (list and watch, nothing else) and what is said when it may not
be, or is too much. What is made of it is ``mirror``'s.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.api import objects
from controller.api.client import Batch, Client, Informer
from controller.api.errors import Forbidden, UserError
from controller.api.objects import Key, Obj
from topo.mirror_kubeconfig import load
from topo.mirror_nodes import how_many, in_order
from topo.mirror_source import Source
from topo.mirror_theirs import KINDS, NOT_PLAYED, is_played

_LIST_SECONDS = 120.0
"""For the first lists: a large cluster far away takes its time."""
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """The lab that the source needs, and what there is in words."""

    nodes: int
    ip_family: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides at one moment. ``vanished``: what is no more in the lab since the moment before."""

    theirs: dict[Key, Obj]
    ours: dict[Key, Obj]
    vanished: list[Key]

    def node_names(self) -> list[str]:
        """Theirs, in the order in which they are given places."""
        return in_order(_of_kind(self.theirs, "Node"), _of_kind(self.theirs, "Pod"))


class Board:
    """Where the informers of both sides write, and the rounds read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._dirty = False
        self._error: BaseException | None = None
        self._theirs: dict[Key, Obj] = {}
        self._ours: dict[Key, Obj] = {}
        self._vanished: list[Key] = []

    def look(self, seconds: float | None = 0) -> Sides:
        """Wait for a change, that long at most; raise what ended an informer."""
        with self._changed:
            self._changed.wait_for(lambda: self._dirty, seconds)
            self._dirty = False
            if self._error is not None:
                raise self._error
            vanished, self._vanished = self._vanished, []
            return Sides(theirs=dict(self._theirs), ours=dict(self._ours), vanished=vanished)

    def on_theirs(self, batch: Batch) -> None:
        with self._changed:
            self._take(batch, self._theirs)

    def on_ours(self, batch: Batch) -> None:
        with self._changed:
            self._vanished += self._take(batch, self._ours)

    def on_error(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._wake()

    def follow_lab(self, client: Client) -> None:
        Informer(client, _OURS, self.on_ours, on_error=self.on_error).start().wait_synced()

    def _take(self, batch: Batch, held: dict[Key, Obj]) -> list[Key]:
        vanished = []
        for event in batch.events:
            at = objects.key(event.obj)
            if event.type == "DELETED":
                held.pop(at, None)
                vanished.append(at)
            else:
                held[at] = event.obj
        self._wake()
        return vanished

    def _wake(self) -> None:
        self._dirty = True
        self._changed.notify_all()


class Follower:
    """Lists and watches the source. ``tell`` gets what the user should know of it."""

    def __init__(self, wish: Wish, board: Board, tell: Callable[[str], None]) -> None:
        self._wish, self._board, self._tell = wish, board, tell
        self._source = Source(load(wish.kubeconfig, wish.context), tell)
        self._informers: list[Informer] = []

    def start(self) -> Found:
        """List everything, and follow it from now on."""
        for namespace in self._wish.namespaces:
            if namespace in NOT_PLAYED:
                raise UserError(f"namespace {namespace} is not played: a lab has a control plane of its own")
        try:
            self._source.list("Node")
        except Forbidden:
            self._tell("nodes may not be listed with this kubeconfig: known by their pods, without zones")
        else:
            self._follow(["Node"], None)
        scopes: Sequence[str | None] = self._wish.namespaces or [None]
        for scope in scopes:
            self._source.list("Service", scope)  # the first to say that this is forbidden
            self._follow([kind for kind in KINDS if kind != "Node"], scope)
        for informer in self._informers:
            informer.wait_synced(_LIST_SECONDS)
        return self._found(self._board.look())

    def stop(self) -> None:
        for informer in self._informers:
            informer.stop()

    def _follow(self, kinds: Sequence[str], namespace: str | None) -> None:
        scopes = dict.fromkeys(kinds, namespace) if namespace else {}
        informer = Informer(
            self._source, kinds, self._board.on_theirs, namespaces=scopes, on_error=self._board.on_error
        )
        self._informers.append(informer.start())

    def _found(self, sides: Sides) -> Found:
        played = {at: obj for at, obj in sides.theirs.items() if is_played(obj)}
        count = Counter(at.kind for at in played)
        if count["Pod"] > self._wish.max_pods:
            raise UserError(
                f"the cluster has {count['Pod']} pods to play, more than --max-pods {self._wish.max_pods}: "
                "choose namespaces by -n, or raise it (a lab starts about 150 pods a second)"
            )
        for namespace in self._wish.namespaces:
            if not any(at.namespace == namespace for at in played):
                self._tell(f"namespace {namespace} has nothing to play, so far")
        services = _of_kind(played, "Service")
        dual = any("IPv6" in (service["spec"].get("ipFamilies") or ()) for service in services)
        names = sides.node_names()
        return Found(
            nodes=how_many(len(names), self._wish.nodes),
            ip_family="dual" if dual else "ipv4",
            text=", ".join(
                f"{number} {word}{'s' if number != 1 else ''}"
                for number, word in (
                    (len(names), "node"),
                    (count["Service"], "Service"),
                    (count["Pod"], "pod"),
                )
            ),
        )


def _of_kind(held: dict[Key, Obj], kind: str) -> list[Obj]:
    return [obj for at, obj in held.items() if at.kind == kind]
