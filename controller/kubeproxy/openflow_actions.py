"""Matches, actions and instructions as OpenFlow 1.5 bytes; the inner half of ``openflow``.

Standard actions where OpenFlow 1.5 has them (Open vSwitch refuses the older Nicira forms in that version),
Nicira's for conntrack, resubmit, the stack and output to a register.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from ipaddress import IPv4Address
from struct import Struct

from controller.kubeproxy.actions import (
    Action,
    Clone,
    Ct,
    DecTtl,
    GoTo,
    InPort,
    Learn,
    Move,
    Nat,
    OutputTo,
    Pop,
    Push,
    Resubmit,
    SetField,
    ToGroup,
)
from controller.kubeproxy.fields import Field, FieldMatch, Part
from controller.kubeproxy.pipeline import TABLE_IDS

OFPP_IN_PORT = 0xFFFFFFF8
NX_VENDOR = 0x2320
NXAST_RESUBMIT_TABLE, NXAST_OUTPUT_REG, NXAST_LEARN, NXAST_CT, NXAST_NAT, NXAST_CLONE = 14, 15, 16, 35, 36, 42
NXAST_STACK_PUSH, NXAST_STACK_POP = 27, 28
NX_LEARN_F_DELETE_LEARNED = 2
NX_LEARN_SRC_IMMEDIATE, NX_LEARN_DST_LOAD = 1 << 13, 1 << 11
NX_CT_F_COMMIT, NX_CT_RECIRC_NONE = 1, 0xFF
NX_NAT_F_SRC, NX_NAT_F_DST = 1, 2
NX_NAT_IPV4_MIN, NX_NAT_IPV6_MIN, NX_NAT_PROTO_MIN, NX_NAT_PROTO_MAX = 1, 4, 16, 32
MAX_LEN = 0xFFFF

_OXM = Struct("!I")
_MATCH = Struct("!HH")
_TYPE_LENGTH = Struct("!HH")
_OUTPUT = Struct("!HHIH6x")
_GROUP = Struct("!HHI")
_COPY = Struct("!HHHHH2xII")
_NX = Struct("!HHIH6x")
_RESUBMIT = Struct("!HHIHHB3x")
_OUTPUT_REG = Struct("!HHIHHIH6x")
_STACK = Struct("!HHIHHIH6x")
_CT = Struct("!HHIHHIHB3xH")
_NAT = Struct("!HHIH2xHH")
_LEARN = Struct("!HHIHHHHQHBxHH")
_SPEC = Struct("!H")
_SPEC_FIELD = Struct("!IH")
_INSTRUCTION = Struct("!HH4x")
_GOTO = Struct("!HHB3x")


def oxm(item: FieldMatch) -> bytes:
    """A match on a field, or the value of a set_field: header, value, and mask if there is one."""
    field, value, mask = item
    size = field.bytes
    if mask is None:
        return _oxm_header(field, False) + value.to_bytes(size, "big")
    return _oxm_header(field, True) + value.to_bytes(size, "big") + mask.to_bytes(size, "big")


@cache
def _oxm_header(field: Field, masked: bool) -> bytes:
    return _OXM.pack(field.header(masked))


def encode_match(match: Iterable[FieldMatch]) -> bytes:
    """An ofp_match: type, length, fields, padding."""
    fields = b"".join(map(oxm, match))
    length = 4 + len(fields)
    return _MATCH.pack(1, length) + fields + bytes(-length % 8)


def encode_instructions(actions: Iterable[Action]) -> bytes:
    """apply_actions with everything up to a final goto_table, and that goto_table."""
    encoded, goto = b"", b""
    for action in actions:
        if isinstance(action, GoTo):
            goto = _GOTO.pack(1, 8, TABLE_IDS[action.table])
        else:
            encoded += _encode(action)
    return _INSTRUCTION.pack(4, 8 + len(encoded)) + encoded + goto if encoded else goto


def encode_actions(actions: Iterable[Action]) -> bytes:
    return b"".join(map(_encode, actions))


def _encode(action: Action) -> bytes:
    """The three that every endpoint and every bucket has of its own, and all others, which are few."""
    if isinstance(action, Ct):
        return _ct(action)
    if isinstance(action, SetField):
        return _headed(25, oxm(action.what))
    if isinstance(action, ToGroup):
        return _GROUP.pack(22, 8, action.group_id)
    return _encode_known(action)


@lru_cache(maxsize=1 << 10, typed=True)  # typed: as tuples, InPort() and DecTtl() are equal
def _encode_known(action: Action) -> bytes:
    match action:
        case Move(src, dst):
            assert src.bits == dst.bits, f"{action}: the widths differ"
            body = _COPY.pack(28, 0, src.bits, src.low, dst.low, _id(src.field), _id(dst.field))
            return _headed(28, body[4:])
        case Push(part):
            return _stack(NXAST_STACK_PUSH, part)
        case Pop(part):
            return _stack(NXAST_STACK_POP, part)
        case Resubmit(table):
            return _RESUBMIT.pack(0xFFFF, 16, NX_VENDOR, NXAST_RESUBMIT_TABLE, 0xFFF8, TABLE_IDS[table])
        case Clone(actions):
            inner = encode_actions(actions)
            return _NX.pack(0xFFFF, _NX.size + len(inner), NX_VENDOR, NXAST_CLONE) + inner
        case Learn():
            return _learn(action)
        case InPort():
            return _OUTPUT.pack(0, 16, OFPP_IN_PORT, MAX_LEN)
        case OutputTo(port):
            return _OUTPUT_REG.pack(
                0xFFFF, 24, NX_VENDOR, NXAST_OUTPUT_REG, _ofs_nbits(port), _id(port.field), MAX_LEN
            )
        case DecTtl():
            return _GROUP.pack(24, 8, 0)
        case _:
            raise AssertionError(f"{action} is no action of this kind")


def _headed(type: int, body: bytes) -> bytes:
    length = 4 + len(body)
    return _TYPE_LENGTH.pack(type, length + -length % 8) + body + bytes(-length % 8)


def _id(field: Field) -> int:
    return field.header()


def _stack(subtype: int, part: Part) -> bytes:
    return _STACK.pack(0xFFFF, 24, NX_VENDOR, subtype, part.low, _id(part.field), part.bits)


def _ofs_nbits(part: Part) -> int:
    return part.low << 6 | (part.bits - 1)


def _ct(ct: Ct) -> bytes:
    inner = (_nat(ct.nat) if ct.nat is not None else b"") + _encode_marks(ct.exec)
    flags = NX_CT_F_COMMIT if ct.commit else 0
    table = TABLE_IDS[ct.table] if ct.table else NX_CT_RECIRC_NONE
    return _CT.pack(0xFFFF, _CT.size + len(inner), NX_VENDOR, NXAST_CT, flags, 0, ct.zone, table, 0) + inner


@lru_cache(maxsize=1 << 6)
def _encode_marks(actions: tuple[SetField | Move, ...]) -> bytes:
    return encode_actions(actions)


def _learn(learn: Learn) -> bytes:
    specs = b""
    for item in learn.constants:
        specs += _SPEC.pack(NX_LEARN_SRC_IMMEDIATE | item.field.bits) + _immediate(
            item.value, item.field.bits
        )
        specs += _SPEC_FIELD.pack(_id(item.field), 0)
    for field in learn.fields:
        specs += _SPEC.pack(field.bits) + 2 * _SPEC_FIELD.pack(_id(field), 0)
    for value, part in learn.loads:
        specs += _SPEC.pack(NX_LEARN_SRC_IMMEDIATE | NX_LEARN_DST_LOAD | part.bits)
        specs += _immediate(value, part.bits) + _SPEC_FIELD.pack(_id(part.field), part.low)
    length = _LEARN.size + len(specs)
    padding = -length % 8
    head = _LEARN.pack(
        0xFFFF,
        length + padding,
        NX_VENDOR,
        NXAST_LEARN,
        learn.idle_timeout,
        0,
        learn.priority,
        learn.cookie,
        NX_LEARN_F_DELETE_LEARNED,
        TABLE_IDS[learn.table],
        0,
        0,
    )
    return head + specs + bytes(padding)


def _immediate(value: int, bits: int) -> bytes:
    return value.to_bytes((bits + 15) // 16 * 2, "big")


def _nat(nat: Nat) -> bytes:
    flags = present = 0
    ranges = b""
    if nat.address is not None:
        flags = NX_NAT_F_SRC if nat.side == "src" else NX_NAT_F_DST
        present = NX_NAT_IPV4_MIN if isinstance(nat.address, IPv4Address) else NX_NAT_IPV6_MIN
        ranges = nat.address.packed
        if nat.port:
            present |= NX_NAT_PROTO_MIN
            ranges += nat.port.to_bytes(2, "big")
        if nat.last_port:
            present |= NX_NAT_PROTO_MAX
            ranges += nat.last_port.to_bytes(2, "big")
    length = _NAT.size + len(ranges)
    padding = -length % 8
    return _NAT.pack(0xFFFF, length + padding, NX_VENDOR, NXAST_NAT, flags, present) + ranges + bytes(padding)
