"""The groups of one Service port: how large they may be, and what weights and schedulers make of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from controller.kubeproxy.fields import IPV4, IPV6, Family
from controller.kubeproxy.flow import Group
from controller.kubeproxy.groups import LARGEST_GROUP, groups_of
from controller.kubeproxy.openflow_actions import encode_actions
from controller.kubeproxy.schedulers import SCHEDULERS
from controller.kubeproxy.services import Endpoint, ServicePort, ServicePortName

FIRST = {IPV4: ip_address("10.244.2.2"), IPV6: ip_address("fd00:10:244:2::2")}


def groups(count: int, family: Family = IPV4, weight: int = 1, **spec: object) -> list[Group]:
    name = ServicePortName("default", "web", "", "TCP")
    port = ServicePort(name=name, family=family, cluster_ip=FIRST[family], port=80, **spec)  # type: ignore[arg-type]
    endpoints = [Endpoint(FIRST[family] + place, 8080, weight=weight) for place in range(count)]
    return groups_of(port, endpoints, 7, lambda turn: 100 + turn)


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=str)
@pytest.mark.parametrize("affinity", [0, 60])
def test_the_largest_group_can_be_described_in_one_message(family: Family, affinity: int) -> None:
    """If not, ovs-vswitchd aborts when anyone asks for its groups."""
    (group,) = groups(LARGEST_GROUP, family, affinity_seconds=affinity)
    described = sum(8 + len(encode_actions(bucket.actions)) + 8 for bucket in group.buckets)
    assert described + 16 + 72 + 32 < 0xFFFF


def test_more_endpoints_are_in_parts_of_one_size_under_a_group_that_keeps_its_id() -> None:
    *parts, over = groups(2 * LARGEST_GROUP + 1)
    assert [part.group_id for part in parts] == [100, 101, 102]
    assert over.group_id == 7
    assert over.leads_to_groups
    sizes = [len(part.buckets) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len({bucket.actions for part in parts for bucket in part.buckets}) == 2 * LARGEST_GROUP + 1


def test_weights_are_numbers_of_buckets_each_with_an_id_of_its_own() -> None:
    (group,) = groups(2, weight=3)
    assert len(group.buckets) == 6
    assert len(set(group.signature)) == 6
    assert group.method == "hash"


def test_where_nobody_takes_connections_the_group_is_empty() -> None:
    (group,) = groups(2, weight=0)
    assert group.buckets == ()
    assert not group.leads_to_groups


def test_another_scheduler_makes_another_group() -> None:
    """What is read back of a group are its buckets' ids: they must tell of its fields, too."""
    names = (None, "sh", "mh", "dh")
    found = {groups(3, scheduler=SCHEDULERS[n] if n else None)[0].signature for n in names}
    assert len(found) == len(names)


def test_a_bucket_of_a_hashing_scheduler_depends_on_its_own_endpoint_alone() -> None:
    (three,), (two,) = groups(3, scheduler=SCHEDULERS["sh"]), groups(2, scheduler=SCHEDULERS["sh"])
    assert three.buckets[:2] == two.buckets
