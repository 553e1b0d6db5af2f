"""The translation to one endpoint: flows shared by all Services that use it.

They belong to the endpoint (address, port, protocol), not to a Service: two Services over the same pod
need the same flow, and it must live as long as the last of them.
"""

from __future__ import annotations

from functools import lru_cache

from controller.kubeproxy.actions import Ct, Move, Nat, SetField
from controller.kubeproxy.fields import DST_PORT, PROTOCOLS, FieldMatch, address_text, proto
from controller.kubeproxy.flow import Category, Cause, Flow
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    ENDPOINT_DNAT,
    EP_SELECTED,
    EP_UNION,
    HIGH,
    HIGHEST,
    MARK_HAIRPIN,
    MARK_SERVICE,
    MARK_SNAT,
    NEEDS_SNAT,
    NORMAL,
    endpoint_ip,
)
from controller.kubeproxy.services import Address

__all__ = ["cause_of_endpoint", "flows_of_endpoint", "union"]
_SERVICE, _COPY_SNAT = SetField(MARK_SERVICE()), Move(NEEDS_SNAT, MARK_SNAT)
_EXEC = (_SERVICE, _COPY_SNAT)


@lru_cache(maxsize=1 << 10)
def union(port: int) -> FieldMatch:
    """EndpointPort and EndpointState "selected", written by the bucket and matched here."""
    return EP_UNION(EP_SELECTED << 16 | port)


def cause_of_endpoint(address: Address, port: int, protocol: str) -> Cause:
    text = address_text(address)
    host = f"[{text}]" if address.version == 6 else text
    return Cause(Category.ENDPOINT, "", f"{host}:{port}/{protocol}")


def flows_of_endpoint(address: Address, port: int, protocol: str, node: Node) -> list[Flow]:
    """DNAT to the endpoint, and for one on this node the way back to itself.

    The mark is written by the commit that translates: a second commit would not find the connection
    under its new address on the userspace datapath.
    """
    family = node.family
    hairpin = family.ranges.hairpin_virtual
    cause = cause_of_endpoint(address, port, protocol)
    match = (family.ip, proto(PROTOCOLS[protocol]), endpoint_ip(family)(int(address)), union(port))
    nat = Nat("dst", address, port)

    def dnat(*marks: SetField | Move) -> Ct:
        return Ct(node.dnat_zone, "L3Forwarding", commit=True, nat=nat, exec=marks)

    here = address == node.address
    inside = node.is_inside(address)
    marks = _EXEC if inside else (_SERVICE, SetField(MARK_SNAT()))
    flows = [
        # The node itself is reached through its bridge both ways: a reply passes here anyhow, and with
        # its own address as source it would take the packet for a forgery. So no SNAT, as in kube-proxy,
        # where local delivery never passes POSTROUTING.
        Flow(
            ENDPOINT_DNAT,
            NORMAL,
            match,
            (dnat(_SERVICE) if here else dnat(*marks),),
            cause,
            "The connection goes to this endpoint, every packet of it."
            if inside
            else "The connection goes to this endpoint, outside the cluster: with the node's address.",
        )
    ]
    if here:
        # Any address of a Service that is an address of the node's: a NodePort with the number of its target.
        asked = (FieldMatch(family.dst, int(address)), FieldMatch(DST_PORT[PROTOCOLS[protocol]], port))
        flows.append(
            Flow(
                ENDPOINT_DNAT,
                HIGHEST,
                (*match, *asked),
                (Ct(node.dnat_zone, "L3Forwarding", commit=True, exec=(_SERVICE,)),),
                cause,
                "Asked by its own address and port: known from now on, and not translated to what it is.",
            )
        )
    if node.is_local(address):
        back = (*match, FieldMatch(family.src, int(address)))
        flows.append(
            Flow(
                ENDPOINT_DNAT,
                HIGH,
                back if here else (*back, NEEDS_SNAT(0)),
                (dnat(_SERVICE, SetField(MARK_HAIRPIN())),),
                cause,
                f"It comes from this very endpoint: with the source {hairpin} its replies pass the bridge.",
            )
        )
    return flows
