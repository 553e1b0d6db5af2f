"""What to send so that a switch comes to hold what is desired, in an order that never breaks traffic.

Values only: the messages are plain dataclasses, ``openflow.encode`` turns them into bytes. Nothing
here knows about connections, bundles' transport or Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.kubeproxy.flow import Bucket, Changes, Desired, Flow, FlowKey, Group

BUCKETS_IN_A_MESSAGE = 500
"""An OpenFlow message ends at 65535 bytes; our buckets take 88 (IPv4) or 112 (IPv6). The rest is inserted."""


@dataclass(slots=True)
class Have:
    """What a switch is known to hold: read back on connect, or remembered after a barrier.

    ``groups``: id to bucket ids in order; a bucket's id is a hash of its text, so this identifies the group.
    """

    flows: set[FlowKey] = field(default_factory=set)
    groups: dict[int, tuple[int, ...]] = field(default_factory=dict)


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
    groups = [g for g in want.groups.values() if have.groups.get(g.group_id) != g.signature]
    flows = [f for key, f in want.flows.items() if key not in have.flows]
    return list(
        _ordered(have, groups, flows, have.flows - want.flows.keys(), have.groups.keys() - want.groups.keys())
    )


def messages(changes: Changes, have: Have) -> list[Message]:
    """The same order for what ``Proxier.changes()`` says, in time of the change, not of the whole."""
    groups = [g for g in changes.groups.values() if have.groups.get(g.group_id) != g.signature]
    flows = [f for key, f in changes.flows.items() if key not in have.flows]
    return list(
        _ordered(
            have, groups, flows, changes.flows_gone & have.flows, changes.groups_gone & have.groups.keys()
        )
    )


def after(have: Have, want: Desired) -> Have:
    """What the switch holds once the messages of ``diff(have, want)`` are in."""
    return Have(flows=set(want.flows), groups={i: g.signature for i, g in want.groups.items()})


def applied(have: Have, sent: Iterable[Message]) -> Have:
    """The same in time of the change: ``have`` itself brought up to date with these messages."""
    for message in sent:
        match message:
            case AddFlow(flow):
                have.flows.add(flow.key)
            case DeleteFlow(key):
                have.flows.discard(key)
            case AddGroup(group) | ModifyGroup(group):
                have.groups[group.group_id] = group.signature
            case DeleteGroup(group_id):
                have.groups.pop(group_id, None)
            case InsertBuckets() | RemoveBucket():
                pass  # part of the AddGroup or ModifyGroup before it
    return have


def _ordered(
    have: Have,
    groups: Iterable[Group],
    flows: Iterable[Flow],
    flows_gone: Iterable[FlowKey],
    groups_gone: Iterable[int],
) -> Iterator[Message]:
    for group in sorted(groups, key=lambda g: (g.leads_to_groups, g.group_id)):
        yield from _whole_group(group, known=group.group_id in have.groups)
    yield from (AddFlow(flow) for flow in sorted(flows, key=lambda f: f.key))
    yield from (DeleteFlow(key) for key in sorted(flows_gone))
    yield from (DeleteGroup(group_id) for group_id in sorted(groups_gone))


def _whole_group(group: Group, *, known: bool) -> Iterator[Message]:
    """A group in as many messages as it needs; the first buckets are encoded with the group."""
    yield ModifyGroup(group) if known else AddGroup(group)
    for start in range(BUCKETS_IN_A_MESSAGE, len(group.buckets), BUCKETS_IN_A_MESSAGE):
        yield InsertBuckets(group.group_id, group.buckets[start : start + BUCKETS_IN_A_MESSAGE])
