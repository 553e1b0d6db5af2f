"""What to send so that a switch comes to hold what is desired, in an order that never breaks traffic.

Values only: the messages are plain dataclasses, ``openflow.encode`` turns them into bytes. Nothing
here knows about connections, bundles' transport or Kubernetes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.kubeproxy.flow import Bucket, Changes, Desired, Flow, FlowKey, Group


@dataclass(slots=True)
class Have:
    """What a switch is known to hold: read back on connect, or remembered after a barrier."""

    flows: set[FlowKey] = field(default_factory=set)
    groups: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Group id to its bucket ids in order; a bucket's id is a hash of its text, so this identifies the group."""


@dataclass(frozen=True, slots=True)
class AddFlow:
    flow: Flow


@dataclass(frozen=True, slots=True)
class DeleteFlow:
    """Delete what carries exactly this cookie in this table."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class AddGroup:
    group: Group


@dataclass(frozen=True, slots=True)
class ModifyGroup:
    group: Group


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    group_id: int


@dataclass(frozen=True, slots=True)
class InsertBuckets:
    """More buckets at the end of a group too large for one message (OpenFlow 1.5)."""

    group_id: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class RemoveBucket:
    group_id: int
    bucket_id: int


Message = AddFlow | DeleteFlow | AddGroup | ModifyGroup | DeleteGroup | InsertBuckets | RemoveBucket


def diff(have: Have, want: Desired) -> list[Message]:
    """Groups first, then flows that use them; flows deleted before the groups they used.

    Adds come before deletes, so a flow whose actions change is overwritten in place and its old cookie
    then finds nothing to delete. To be sent as one ordered bundle and a barrier.
    """
    raise NotImplementedError


def after(have: Have, want: Desired) -> Have:
    """What the switch holds once the messages of ``diff(have, want)`` are in."""
    return Have(flows=set(want.flows), groups={i: g.signature for i, g in want.groups.items()})


def messages(changes: Changes, known: Have) -> list[Message]:
    """The same order for what ``Proxier.changes()`` says, in time of the change, not of the whole."""
    raise NotImplementedError
