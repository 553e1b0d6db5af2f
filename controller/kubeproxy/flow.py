"""Flows and groups as values: what they match and do, who caused them, and how they read.

``str(flow)`` is ovs-ofctl syntax with table names. A flow that its table does not allow raises when it
is built. What a flow matches and does is encoded then, once: its cookie is a hash of these bytes, its place
in the switch is known by them, and messages (``openflow``) are put together from them. Text is made only
where somebody reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from controller.kubeproxy.actions import Action, Ct, GoTo, Resubmit, ToGroup
from controller.kubeproxy.fields import ETH_TYPE, FAMILIES, IP_PROTO, ORDER, Field, FieldMatch
from controller.kubeproxy.openflow_actions import encode_instructions, encode_match
from controller.kubeproxy.table import PipelineError, Table


class Category(IntEnum):
    """What kind of object causes a flow: the highest byte of its cookie."""

    NODE = 1
    POD = 2
    SERVICE = 3
    ENDPOINT = 4
    AFFINITY = 5
    """Flows that the switch learned by itself; no object's, and none of those that are compared."""
    CONNECTION = 6
    """One for each open connection that a scheduler counts; not compared either, as the next."""
    LEASE = 7
    """While it stands, a kubeproxy schedules."""


_KINDS = {category: category.name.capitalize() for category in Category}


class Cause(NamedTuple):
    """The object because of which a flow exists; an endpoint is named ``10.244.1.2:8080/TCP``."""

    category: Category
    namespace: str
    name: str

    def __str__(self) -> str:
        kind = _KINDS[self.category]
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"


class FlowKey(NamedTuple):
    """How a flow is known on the switch: read back with a flow description, deleted by cookie."""

    table: int
    priority: int
    cookie: int


def hash_bits(what: str | bytes, bits: int) -> int:
    """A hash that is the same in every process, unlike ``hash``."""
    data = what.encode() if isinstance(what, str) else what
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> (64 - bits)


@lru_cache(maxsize=1 << 10)
def cause_bits(cause: Cause) -> int:
    """The upper 32 bits of the cookies of everything this object causes: category and 24 bits of hash."""
    return cause.category << 24 | hash_bits(str(cause), 24)


def _match_text(match: tuple[FieldMatch, ...]) -> str:
    words: list[str] = []
    family = None
    for item in match:
        if item.field is ETH_TYPE:
            family = FAMILIES.get(item.value)
            words.append(family.word if family else "arp")
        elif item.field is IP_PROTO and family:
            words[-1] = family.words[item.value]
        else:
            words.append(str(item))
    return ",".join(words)


def _place_of(item: FieldMatch) -> int:
    return ORDER[item.field]


def _canonical(match: tuple[FieldMatch, ...]) -> tuple[FieldMatch, ...]:
    """In ovs-ofctl's order, with matches on several parts of one register as one."""
    items: list[FieldMatch] = []
    before = None
    for item in sorted(match, key=_place_of):
        if item.field is before:
            first = items.pop()
            if first.mask is None or item.mask is None:
                raise PipelineError(f"{item.field.name} is matched twice")
            item = FieldMatch(item.field, first.value | item.value, first.mask | item.mask)
        before = item.field
        items.append(item)
    return tuple(items)


def _check(table: Table, match: tuple[FieldMatch, ...], actions: tuple[Action, ...]) -> None:
    allowed = table.matches
    for item in match:
        if item.field not in allowed:
            raise PipelineError(f"table {table.name} does not allow a match on {item.field.name}")
    for action in actions:
        leads = action.table if isinstance(action, Ct | GoTo | Resubmit) else ""
        if leads and leads not in table.next:
            raise PipelineError(f"table {table.name} does not lead to {leads}")


@dataclass(slots=True, eq=False)
class Flow:
    """One flow. Equal to another when table, priority, match, actions and cause are.

    ``why`` is one sentence for people and no part of what the flow is. Never changed once it is built; not
    frozen only because there are a hundred thousand, and that would double the time to build one.
    """

    table: Table
    priority: int
    match: tuple[FieldMatch, ...]
    actions: tuple[Action, ...]
    cause: Cause
    why: str
    match_bytes: bytes = field(init=False)
    instructions: bytes = field(init=False)
    key: FlowKey = field(init=False)

    def __post_init__(self) -> None:
        _check(self.table, self.match, self.actions)
        self.match = _canonical(self.match)
        self.match_bytes = encode_match(self.match)
        self.instructions = encode_instructions(self.actions)
        cookie = cause_bits(self.cause) << 32 | hash_bits(self.match_bytes + self.instructions, 32)
        self.key = FlowKey(self.table.id, self.priority, cookie)

    @property
    def cookie(self) -> int:
        return self.key.cookie

    @property
    def place(self) -> tuple[int, int, bytes]:
        """What is unique on a switch: a second flow with the same place replaces the first."""
        return self.table.id, self.priority, self.match_bytes

    @property
    def match_text(self) -> str:
        return _match_text(self.match)

    def __str__(self) -> str:
        text = self.match_text
        match = f",{text}" if text else ""
        actions = ",".join(map(str, self.actions)) or "drop"
        return f"table={self.table.name}, priority={self.priority}{match} actions={actions}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flow) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Bucket(NamedTuple):
    """One choice of a group. Its id is a hash of what it does, so ids read back tell what the buckets are."""

    bucket_id: int
    weight: int
    actions: tuple[Action, ...]
    encoded: bytes
    """The actions."""

    def __str__(self) -> str:
        actions = ",".join(map(str, self.actions))
        weight = f",weight:{self.weight}" if self.weight != 1 else ""
        return f"bucket=bucket_id:{self.bucket_id}{weight},actions={actions}"


@dataclass(frozen=True, slots=True)
class Group:
    """A select group: one bucket is chosen for each connection by hash of its 5-tuple.

    ``method`` is ``dp_hash`` (computed once a packet, by the datapath) or ``hash`` (over ``fields``, an
    upcall a connection). ``cause`` is the Service port; ``local``: its endpoints on this node alone.
    """

    group_id: int
    method: str
    fields: tuple[Field, ...]
    buckets: tuple[Bucket, ...]
    cause: Cause
    local: bool = False

    @property
    def leads_to_groups(self) -> bool:
        """Whether its buckets are groups: those must be there before it."""
        return any(isinstance(action, ToGroup) for bucket in self.buckets[:1] for action in bucket.actions)

    @property
    def signature(self) -> tuple[int, ...]:
        return tuple(bucket.bucket_id for bucket in self.buckets)

    def __str__(self) -> str:
        method = f"selection_method={self.method}"
        if self.fields:
            method += f",fields({','.join(f.set_name for f in self.fields)})"
        buckets = ",".join(map(str, self.buckets))
        return f"group_id={self.group_id},type=select,{method},{buckets}"


@dataclass(frozen=True, slots=True)
class Desired:
    """What one node's bridge should hold, whole."""

    flows: Mapping[FlowKey, Flow]
    groups: Mapping[int, Group]


@dataclass(slots=True)
class Changes:
    """What became different since the last look: new or changed values, and what is no longer wanted."""

    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    flows_gone: set[FlowKey] = field(default_factory=set)
    groups: dict[int, Group] = field(default_factory=dict)
    groups_gone: set[int] = field(default_factory=set)
