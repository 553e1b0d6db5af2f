"""Fragments of a datagram that opens a connection: the first one chooses, and the others follow it.

Only the first fragment has ports. Open vSwitch's userspace conntrack puts the fragments of a datagram
together, takes them apart again, and lets each go on alone with what it found: on a known connection that
is enough, on a new one nobody knows where the later ones are to go. But when the fragments meet in a
``ct`` action, all of them go on with the actions, registers and translation of the one that came last. So:

1. ConntrackZone sends fragments through ``ct`` to Fragments. Known connections go on as ever.
2. There each fragment of a new one is sent to a zone in which nothing is kept, and back here; the later
   ones leave a copy waiting in the DNAT zone before they do. That zone lets none go on until all are there.
3. When they come back every copy is in place. The originals are dropped; the first one goes on alone, as
   the first packet of any connection, and its commit in the DNAT zone takes the waiting ones along. What
   was written into its headers before that they would not have; so it comes before L3Forwarding in any case.

Conntrack puts together only what was recirculated to the same state. Hence one table in both turns, no
register written before, and the dp_hash of a group computed in advance: it would recirculate later. The
kernel's conntrack hands over the datagram whole; there no packet matches in Fragments.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.kubeproxy.actions import Clone, Ct, GoTo, Nat, ToGroup
from controller.kubeproxy.fields import (
    CT_ZONE,
    FIRST_FRAGMENT,
    FRAGMENT,
    LATER_FRAGMENT,
    FieldMatch,
    ct_state,
)
from controller.kubeproxy.flow import Bucket, Flow, Group
from controller.kubeproxy.groupids import MOST
from controller.kubeproxy.node import Node
from controller.kubeproxy.openflow_actions import encode_actions
from controller.kubeproxy.pipeline import (
    CONNTRACK_STATE,
    CONNTRACK_ZONE,
    EP_NONE,
    EP_STATE,
    FRAGMENT_ZONE,
    FRAGMENTS,
    HIGH,
    HIGHEST,
    L3_FORWARDING,
    LEAST,
    MISS,
    NORMAL,
    OUTPUT,
    SERVICE_LB,
    SNAT,
)

FRAGMENT_GROUP = MOST
"""An id that no Service port's group ever has; the same in both families."""
_WAIT = Ct(FRAGMENT_ZONE, "Fragments")


def group_of_fragments(node: Node) -> Group:
    """One bucket: what is wanted of the group is that the datapath computes the hash."""
    track = Ct(node.dnat_zone, "Fragments", nat=Nat())
    return Group(
        FRAGMENT_GROUP, "dp_hash", (), (Bucket(1, 1, (track,), encode_actions((track,))),), node.cause
    )


def flows_of_fragments(node: Node) -> Iterator[Flow]:
    """ConntrackZone for fragments, Fragments, and the ends of what nobody serves or what waits in vain."""
    ip, new = node.family.ip, ct_state("+new+trk")
    here, waiting = FieldMatch(CT_ZONE, node.dnat_zone), FieldMatch(CT_ZONE, FRAGMENT_ZONE)
    yield Flow(
        CONNTRACK_ZONE,
        HIGH,
        (ip, FRAGMENT),
        (ToGroup(FRAGMENT_GROUP),),
        node.cause,
        "A fragment: which connection is it of? The group only computes the hash that others will use.",
    )
    yield Flow(
        FRAGMENTS,
        NORMAL,
        (ip, new, here, LATER_FRAGMENT),
        (Clone((Ct(node.dnat_zone, ""),)), _WAIT),
        node.cause,
        "A later one of a new connection: a copy waits in the DNAT zone for the first one's choice.",
    )
    yield Flow(
        FRAGMENTS,
        NORMAL,
        (ip, new, here, FIRST_FRAGMENT),
        (_WAIT,),
        node.cause,
        "The first one of a new connection waits until all the copies do.",
    )
    yield Flow(
        FRAGMENTS,
        NORMAL,
        (ip, waiting, LATER_FRAGMENT),
        (),
        node.cause,
        "Its copy goes on with the first one.",
    )
    yield Flow(
        FRAGMENTS,
        MISS,
        (),
        (GoTo("ConntrackState"),),
        node.cause,
        "Of a known connection; or the first one, which chooses for all.",
    )
    yield Flow(
        SERVICE_LB,
        LEAST,
        (ip, FIRST_FRAGMENT),
        (Ct(node.dnat_zone, "L3Forwarding", commit=True),),
        node.cause,
        "Not to a Service: committed here already, so that the others are routed with it.",
    )
    yield Flow(
        L3_FORWARDING,
        HIGHEST,
        (ip, ct_state("+trk"), EP_STATE(EP_NONE), waiting, FIRST_FRAGMENT),
        (Ct(node.dnat_zone, "L3Forwarding"),),
        node.cause,
        "Nobody serves this: the others are fetched, so that the node's kernel gets them all.",
    )
    for table in (CONNTRACK_ZONE, FRAGMENTS, CONNTRACK_STATE, L3_FORWARDING, SNAT, OUTPUT):
        yield Flow(
            table,
            HIGHEST,
            (ip, ct_state("+inv-trk"), FRAGMENT),
            (),
            node.cause,
            "Waited for others that did not come: conntrack lets go of it with whatever packet comes next.",
        )
