"""Writes into the lab what is wanted there: creates, changes, deletes, and says each in a line.

It knows what it wrote, so that only a change of the source (or something of ours that vanished) writes
again. What is wanted is ``mirror_objects``' answer; who asks when is ``mirror``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.api import objects
from controller.api.client import Client
from controller.api.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound
from controller.api.objects import Key, Obj
from topo.mirror_objects import MIRRORED_UID, MIRRORS
from topo.mirror_theirs import Name, service_of

_ORDER = ("Namespace", "Service", "Pod", "EndpointSlice")
Otherwise = Callable[[Key], Obj | None]
_GRACE = 1
"""Seconds for a stand-in to end: its address is free again, and its name, when it has."""


class Player:
    """``tell`` gets a line for each change, once ``loud`` is set; what goes wrong it gets at once."""

    def __init__(self, client: Client, tell: Callable[[str], None]) -> None:
        self.loud = False
        self._client, self._tell = client, tell
        self._applied: dict[Key, Obj] = {}
        self._leaving: set[Key] = set()
        self._refused: dict[Key, Obj] = {}
        self._ready: Counter[Name] = Counter()

    def holds(self, at: Key) -> bool:
        return at in self._applied

    def gone(self, at: Key) -> None:
        """The lab says that it is no more: by us, or by somebody else, and then it comes back."""
        self._applied.pop(at, None)
        self._leaving.discard(at)

    def play(self, wanted: Mapping[Key, Obj], otherwise: Otherwise = lambda at: None) -> bool:
        """One round; whether everything is as wanted now. Unreachable and Conflict: to be tried again.

        ``otherwise`` gives another form of an object that the lab refuses.
        """
        done = True
        for at in sorted(self._applied.keys() - wanted.keys(), key=lambda at: -_ORDER.index(at.kind)):
            if at.kind != "Namespace":
                self._remove(at)
                done = False
        self._refused = {at: obj for at, obj in self._refused.items() if wanted.get(at) == obj}
        for at in sorted(wanted, key=lambda at: (_ORDER.index(at.kind), at)):
            obj = wanted[at]
            if at in self._leaving:
                done = False
            elif at not in self._applied:
                if at not in self._refused:
                    self._create(at, obj, otherwise)
            elif self._applied[at] != obj:
                done = self._change(at, self._applied[at], obj) and done
        self._tell_endpoints(wanted)
        return done

    # -- one object

    def _create(self, at: Key, obj: Obj, otherwise: Otherwise) -> None:
        try:
            self._client.create(obj)
        except AlreadyExists:
            if at.kind != "Namespace":
                self._refuse(at, obj, "the lab has one of that name of its own")
                return
        except Conflict:
            raise
        except ApiError as error:
            other = otherwise(at) if isinstance(error, Invalid) else None
            if other is None or not self._create_otherwise(at, other, error):
                self._refuse(at, obj, str(error))
                return
        self._applied[at] = obj
        if at.kind in ("Pod", "Service"):
            self._say(f"+ {_words(at, obj)}")

    def _create_otherwise(self, at: Key, other: Obj, why: ApiError) -> bool:
        try:
            made = self._client.create(other)
        except ApiError:
            return False
        address = made["spec"].get("clusterIP")
        self._tell(f"! {_name(at)}: {why}; instead it has {address}, and node ports of the lab's choice")
        return True

    def _refuse(self, at: Key, obj: Obj, why: str) -> None:
        self._refused[at] = obj
        self._tell(f"! {_name(at)} is not played: {why}")

    def _change(self, at: Key, old: Obj, new: Obj) -> bool:
        """False if it has to go first: what a Pod is made of cannot change, nor a few words of a Service."""
        try:
            if at.kind == "Pod":
                if _is_another(old, new):
                    if _has_new_ports(old, new):
                        self._say(
                            f"~ {_name(at)}: its stand-in begins anew, to listen on another port as well"
                        )
                    self._remove(at)
                    return False
                self._client.patch("Pod", at.name, _relabel(old, new), at.namespace)
            else:
                self._replace(at, new)
        except Invalid:
            self._remove(at)
            return False
        except NotFound:
            return False  # the event is on its way
        self._applied[at] = new
        if at.kind in ("Pod", "Service"):
            self._say(f"~ {_words(at, new)}")
        return True

    def _replace(self, at: Key, new: Obj) -> None:
        held = self._client.get(at.kind, at.name, at.namespace)["metadata"]
        kept = {word: held[word] for word in ("resourceVersion", "finalizers") if held.get(word)}
        self._client.update({**new, "metadata": {**new["metadata"], **kept}})

    def _remove(self, at: Key) -> None:
        if at in self._leaving:
            return
        try:
            self._client.delete(at.kind, at.name, at.namespace, grace=_GRACE if at.kind == "Pod" else None)
        except NotFound:
            self.gone(at)
            return
        self._leaving.add(at)
        if at.kind in ("Pod", "Service"):
            self._say(f"- {_words(at, self._applied[at])}")

    # -- words

    def _say(self, line: str) -> None:
        if self.loud:
            self._tell(line)

    def _tell_endpoints(self, wanted: Mapping[Key, Obj]) -> None:
        ready: dict[Name, set[str]] = {}
        for at, obj in wanted.items():
            if at.kind == "EndpointSlice":
                ready.setdefault(service_of(obj), set()).update(_ready(obj))
        now = Counter({name: len(who) for name, who in ready.items()})
        for name in sorted(now.keys() | self._ready.keys()):
            if now[name] != self._ready[name]:
                self._say(f"~ endpoints of {'/'.join(name)}: {now[name]} ready (were {self._ready[name]})")
        self._ready = now


def _ready(piece: Obj) -> Iterator[str]:
    """The pods (or addresses) of a slice that are; a pod of both families is one."""
    for endpoint in piece["endpoints"]:
        if (endpoint.get("conditions") or {}).get("ready", True):
            yield (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]


def _name(at: Key) -> str:
    return f"{at.kind.lower()} {at.namespace}/{at.name}"


def _words(at: Key, obj: Obj) -> str:
    there = objects.annotation(obj, MIRRORS)
    where = f" on {obj['spec']['nodeName']}" if at.kind == "Pod" else ""
    return f"{_name(at)}{f' ({there} there)' if there else ''}{where}"


def _is_another(old: Obj, new: Obj) -> bool:
    uids = (objects.annotation(obj, MIRRORED_UID) for obj in (old, new))
    return old["spec"] != new["spec"] or len(set(uids)) > 1


def _has_new_ports(old: Obj, new: Obj) -> bool:
    uids = (objects.annotation(obj, MIRRORED_UID) for obj in (old, new))
    ports = ([one.get("ports") for one in obj["spec"]["containers"]] for obj in (old, new))
    return len(set(uids)) == 1 and next(ports) != next(ports)


def _relabel(old: Obj, new: Obj) -> dict[str, Any]:
    """A merge patch of labels and annotations."""
    made: dict[str, Any] = {}
    for part in ("labels", "annotations"):
        before, after = old["metadata"].get(part) or {}, new["metadata"].get(part) or {}
        made[part] = {**dict.fromkeys(before.keys() - after.keys()), **after}
    return {"metadata": made}
