"""OpenFlow actions and the two instructions we use, as values that read like ovs-ofctl.

Tables are named, never numbered: ``openflow`` looks ids up when it encodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from controller.kubeproxy.fields import ETH_TYPE, Field, FieldMatch, Part, address_text


class SetField(NamedTuple):
    """Write ``what.value`` to ``what.field``, under its mask if it has one."""

    what: FieldMatch

    def __str__(self) -> str:
        field, value, mask = self.what
        under = "" if mask is None else f"/{field.show(mask)}"
        return f"set_field:{field.show(value)}{under}->{field.set_name}"


class Move(NamedTuple):
    """Copy bits from one place to another of the same width."""

    src: Part
    dst: Part

    def __str__(self) -> str:
        return f"move:{self.src}->{self.dst}"


class Push(NamedTuple):
    """Put these bits on the packet's stack."""

    src: Part

    def __str__(self) -> str:
        return f"push:{self.src}"


class Pop(NamedTuple):
    """Write what is on top of the packet's stack to these bits."""

    dst: Part

    def __str__(self) -> str:
        return f"pop:{self.dst}"


class OutputTo(NamedTuple):
    """Output to the port whose number these bits hold."""

    port: Part

    def __str__(self) -> str:
        return f"output:{self.port}"


class InPort(NamedTuple):
    """Output to the port the packet came in by."""

    def __str__(self) -> str:
        return "IN_PORT"


class DecTtl(NamedTuple):
    def __str__(self) -> str:
        return "dec_ttl"


class Clone(NamedTuple):
    """Do this with a copy, and go on with the packet as it was."""

    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return f"clone({','.join(map(str, self.actions))})"


class ToGroup(NamedTuple):
    group_id: int

    def __str__(self) -> str:
        return f"group:{self.group_id}"


class Resubmit(NamedTuple):
    """Look the packet up in another table and come back: what a bucket can do and goto_table cannot."""

    table: str

    def __str__(self) -> str:
        return f"resubmit(,{self.table})"


class GoTo(NamedTuple):
    table: str

    def __str__(self) -> str:
        return f"goto_table:{self.table}"


class Nat(NamedTuple):
    """Translate as the connection says (no address given), or to this address and port from now on.

    With ``last_port`` a free port from ``port`` to it is chosen.
    """

    side: str = ""
    address: IPv4Address | IPv6Address | None = None
    port: int = 0
    last_port: int = 0

    def __str__(self) -> str:
        if self.address is None:
            return "nat"
        text = address_text(self.address)
        where = f"[{text}]" if self.address.version == 6 and self.port else text
        ports = f":{self.port}" if self.port else ""
        return f"nat({self.side}={where}{ports}{f'-{self.last_port}' if self.last_port else ''})"


@dataclass(frozen=True, slots=True)
class Ct:
    """Pass the packet through connection tracking and go on in ``table``, or (``""``) nowhere."""

    zone: int
    table: str
    commit: bool = False
    nat: Nat | None = None
    exec: tuple[SetField | Move, ...] = ()

    def __str__(self) -> str:
        parts = ["commit"] if self.commit else []
        parts += [f"table={self.table}"] if self.table else []
        parts.append(f"zone={self.zone}")
        if self.nat is not None:
            parts.append(str(self.nat))
        if self.exec:
            parts.append(f"exec({','.join(map(str, self.exec))})")
        return f"ct({','.join(parts)})"


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a flow to ``table`` that matches the packets to come which are like this one.

    ``constants`` and the packet's own ``fields`` are its match, ``loads`` its actions. It goes after
    ``idle_timeout`` seconds without a match (0: never), and with the flow that learned it; ``cookie`` is
    what ties it to that flow.
    """

    table: str
    priority: int
    idle_timeout: int
    cookie: int
    constants: tuple[FieldMatch, ...]
    fields: tuple[Field, ...]
    loads: tuple[tuple[int, Part], ...]

    def __str__(self) -> str:
        parts = [f"table={self.table}"]
        parts += [f"idle_timeout={self.idle_timeout}"] if self.idle_timeout else []
        parts += [f"priority={self.priority}", "delete_learned", f"cookie={self.cookie:#x}"]
        parts += [f"{'eth_type' if item.field is ETH_TYPE else item.field.name}={item.field.show(item.value)}"
                  for item in self.constants]  # fmt: skip
        parts += [f"{field.nxm}[]" for field in self.fields]
        parts += [f"load:{value:#x}->{part}" for value, part in self.loads]
        return f"learn({','.join(parts)})"


Action = (
    Learn | Clone | SetField | Move | Push | Pop | OutputTo | InPort | DecTtl | ToGroup | Resubmit | GoTo | Ct
)
