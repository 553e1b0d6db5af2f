"""Packet, register and conntrack fields as data: their OXM headers, widths and how ovs-ofctl writes them.

Only what the pipeline uses. Values are plain integers; nothing here knows a table or a Kubernetes object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

NXM_0, NXM_1, OXM_BASIC = 0x0000, 0x0001, 0x8000


def _decimal(value: int) -> str:
    return str(value)


def _hexadecimal(value: int) -> str:
    return hex(value) if value else "0"


def _ipv4(value: int) -> str:
    return str(IPv4Address(value))


def _ipv6(value: int) -> str:
    return str(IPv6Address(value))


def _mac(value: int) -> str:
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field that a flow may match or an action may set. Compared by identity: each exists once.

    ``order`` is its place in ovs-ofctl's canonical text of a match; ``nxm`` its name in ``move:``.
    """

    name: str
    order: int
    oxm_class: int
    number: int
    bits: int
    show: Callable[[int], str] = _decimal
    nxm: str = ""
    set_name: str = ""

    @property
    def bytes(self) -> int:
        return (self.bits + 7) // 8

    @property
    def all_ones(self) -> int:
        return (1 << self.bits) - 1

    def header(self, masked: bool = False) -> int:
        """The 32-bit OXM header: class, field, has-mask, length of what follows."""
        length = self.bytes * (2 if masked else 1)
        return self.oxm_class << 16 | self.number << 9 | masked << 8 | length


class Part(NamedTuple):
    """Some bits of a register, under the name of what they mean."""

    field: Field
    low: int
    bits: int
    name: str = ""
    why: str = ""

    @property
    def mask(self) -> int:
        return ((1 << self.bits) - 1) << self.low

    def __str__(self) -> str:
        return f"{self.field.nxm}[{self.low}..{self.low + self.bits - 1}]" if self.bits < self.field.bits \
            else f"{self.field.nxm}[]"


class FieldMatch(NamedTuple):
    """``field`` under ``mask`` (None: exactly) equals ``value``."""

    field: Field
    value: int
    mask: int | None = None
