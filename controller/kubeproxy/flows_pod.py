"""The flows of one pod on its own node: where it is, what it may send, how packets reach it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.kubeproxy.actions import GoTo, SetField
from controller.kubeproxy.fields import ETH_DST, ETH_SRC, IN_PORT, FieldMatch
from controller.kubeproxy.flow import Category, Cause, Flow
from controller.kubeproxy.flows_routing import GATEWAY_MAC
from controller.kubeproxy.node import Node
from controller.kubeproxy.pipeline import (
    CLASSIFIER,
    FROM_POD,
    L3_FORWARDING,
    NORMAL,
    OUT_PORT,
    SOURCE,
    SPOOF_GUARD,
)
from controller.kubeproxy.services import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPod:
    """A pod that has an address and a port on this node's bridge; in one family, as its ``Node``."""

    namespace: str
    name: str
    address: Address
    mac: int
    ofport: int

    @property
    def cause(self) -> Cause:
        return Cause(Category.POD, self.namespace, self.name)


def flows_of_pod(pod: LocalPod, node: Node) -> list[Flow]:
    """Classifier, SpoofGuard and L3Forwarding entries of one pod."""
    family, ip = node.family, node.family.ip
    in_port = FieldMatch(IN_PORT, pod.ofport)
    return [
        Flow(
            CLASSIFIER,
            NORMAL,
            (ip, in_port),
            (SetField(SOURCE(FROM_POD)), GoTo("SpoofGuard")),
            pod.cause,
            "This port leads to the pod.",
        ),
        Flow(
            SPOOF_GUARD,
            NORMAL,
            (ip, in_port, FieldMatch(ETH_SRC, pod.mac), FieldMatch(family.src, int(pod.address))),
            (GoTo("UnSNAT"),),
            pod.cause,
            "The pod speaks with its own addresses only.",
        ),
        Flow(
            L3_FORWARDING,
            NORMAL,
            (ip, FieldMatch(family.dst, int(pod.address))),
            (
                GATEWAY_MAC,
                SetField(FieldMatch(ETH_DST, pod.mac)),
                SetField(OUT_PORT(pod.ofport)),
                GoTo("SNATMark"),
            ),
            pod.cause,
            "To the pod, with its MAC address, by its port.",
        ),
    ]
