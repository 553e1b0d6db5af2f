"""Flows and groups as values: what they match and do, who caused them, and how they read.

``str(flow)`` is ovs-ofctl syntax with table names. A flow that its table does not allow raises when it
is built. Tables themselves are declared in ``pipeline``; bytes are made in ``openflow``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class FlowKey(NamedTuple):
    """How a flow is known on the switch: read back with a flow description, deleted by cookie."""

    table: int
    priority: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Flow:
    """See the module; fields: table, priority, match, actions, cause; computed: key, cookie, text."""


@dataclass(frozen=True, slots=True)
class Bucket:
    bucket_id: int
    weight: int


@dataclass(frozen=True, slots=True)
class Group:
    """A select group; ``signature`` is the tuple of its bucket ids, each a hash of the bucket's text."""

    group_id: int
    buckets: tuple[Bucket, ...]

    @property
    def signature(self) -> tuple[int, ...]:
        return tuple(bucket.bucket_id for bucket in self.buckets)


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
