"""The group of a Service port: one bucket or several for each endpoint.

How many and of what weight is ``balance``'s business. A group is at most LARGEST_GROUP buckets: asked to
describe one that takes more than 65,535 bytes, ovs-vswitchd 3.1 aborts (``ofpmp_postappend``), whoever asks.
More endpoints than that are in several groups, and one group chooses among these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from controller.kubeproxy.actions import Action, Resubmit, SetField, ToGroup
from controller.kubeproxy.balance import by_weight, shares
from controller.kubeproxy.fields import DST_PORT, IP_PROTO, PROTOCOLS, SRC_PORT, Family, Field
from controller.kubeproxy.flow import Bucket, Category, Cause, Group, hash_bits
from controller.kubeproxy.flows_endpoint import union
from controller.kubeproxy.flows_scheduler import hashed, weight_of
from controller.kubeproxy.openflow_actions import encode_actions
from controller.kubeproxy.pipeline import endpoint_ip
from controller.kubeproxy.services import Address, Endpoint, ServicePort

LARGEST_GROUP = 800
"""Buckets; one takes up to 72 bytes as the switch describes it."""
_MAX_BUCKET_ID = 0xFFFFFF00


def groups_of(
    port: ServicePort,
    endpoints: Sequence[Endpoint],
    group_id: int,
    part_id: Callable[[int], int],
    *,
    local: bool = False,
) -> list[Group]:
    """The select group of a Service port; when it would be too large, its parts and a group over them.

    ``part_id``: the ids of the parts, by number from 0; asked for as many as there are.
    """
    whole = group_of(port, endpoints, group_id, local=local)
    if len(whole.buckets) <= LARGEST_GROUP:
        return [whole]
    number = -(-len(whole.buckets) // LARGEST_GROUP)  # all of one size, give or take one, and of equal weight
    parts = [
        replace(whole, group_id=part_id(turn), buckets=whole.buckets[turn::number]) for turn in range(number)
    ]
    over = tuple(
        _made(whole.method, 100, to, encode_actions(to))
        for part in parts
        for to in [(ToGroup(part.group_id),)]
    )
    return [*parts, replace(whole, buckets=over)]


def group_of(
    port: ServicePort, endpoints: Sequence[Endpoint], group_id: int, *, local: bool = False
) -> Group:
    """One group, however large: buckets as ``balance`` says, in the endpoints' order."""
    # With affinity each new connection must ask (what the switch has just learned is in no cached flow yet).
    weights = tuple(weight_of(endpoint, port.scheduler) for endpoint in endpoints)
    fields = hashed(port)
    if fields or port.affinity_seconds or any(weight != 1 for weight in weights):
        method, buckets_of = by_weight(weights)
    else:
        method, buckets_of = shares(len(endpoints))
    then = after_choice(port)
    if method == "hash" and not fields:
        fields = _hash_fields(port.family, PROTOCOLS[port.name.protocol])
    how = f"{method}({','.join(field.set_name for field in fields)})"
    buckets: list[Bucket] = []
    taken: set[int] = set()
    for index, weight, turn in buckets_of:
        endpoint = endpoints[index]
        bucket = _bucket(endpoint.address, endpoint.port, weight, how, port.family, then, turn)
        if bucket.bucket_id in taken:
            bucket = bucket._replace(bucket_id=_free(bucket.bucket_id, taken))
        taken.add(bucket.bucket_id)
        buckets.append(bucket)
    cause = Cause(Category.SERVICE, port.name.namespace, port.name.name)
    return Group(group_id, method, fields, tuple(buckets), cause, local)


def after_choice(port: ServicePort) -> str:
    """The table where a packet goes on whose endpoint is chosen."""
    return "SessionLearn" if port.affinity_seconds else "EndpointDNAT"


def _free(bucket_id: int, taken: set[int]) -> int:
    while bucket_id in taken:
        bucket_id = (bucket_id + 1) % _MAX_BUCKET_ID
    return bucket_id


def _bucket(
    address: Address, port: int, weight: int, how: str, family: Family, then: str, turn: int = 0
) -> Bucket:
    """The bucket that chooses this endpoint.

    ``turn``: which of several like it, when an endpoint weighs more than another.
    """
    chosen = SetField(endpoint_ip(family)(int(address)))
    more, encoded = _and_then(port, then)
    return _made(how, weight, (chosen, *more), encode_actions((chosen,)) + encoded, turn)


@lru_cache(maxsize=1 << 10)
def _and_then(port: int, then: str) -> tuple[tuple[Action, ...], bytes]:
    """What buckets have in common, with its bytes."""
    actions: tuple[Action, ...] = (SetField(union(port)), Resubmit(then))
    return actions, encode_actions(actions)


def _made(how: str, weight: int, actions: tuple[Action, ...], encoded: bytes, turn: int = 0) -> Bucket:
    """Its id tells all of it: ids are what is read back of a group."""
    number = hash_bits(b"%s %d %d %s" % (how.encode(), weight, turn, encoded), 32)
    return Bucket(number % _MAX_BUCKET_ID, weight, actions, encoded)


def _hash_fields(family: Family, number: int) -> tuple[Field, ...]:
    return family.src, family.dst, IP_PROTO, SRC_PORT[number], DST_PORT[number]
