"""The only encoder of OpenFlow 1.5 messages: values of ``flow`` and ``diff`` to bytes and back.

Written directly with ``struct`` because os-ken's and Ryu's parser objects cost 10 to 25 times as much
and share codec bugs. ``ovs-ofctl ofp-print`` is the oracle of every encoding (see the unit tests).
Nothing here opens a connection or imports a controller framework.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from controller.kubeproxy.diff import (
    BUCKETS_IN_A_MESSAGE,
    AddFlow,
    AddGroup,
    DeleteFlow,
    DeleteGroup,
    InsertBuckets,
    Message,
    ModifyGroup,
    RemoveBucket,
)
from controller.kubeproxy.fields import UDP
from controller.kubeproxy.flow import Bucket, Flow, FlowKey, Group
from controller.kubeproxy.openflow_actions import NX_VENDOR
from controller.kubeproxy.services import Address
from controller.kubeproxy.stale import Stale

VERSION = 6
OFPT_ERROR, OFPT_EXPERIMENTER, OFPT_SET_CONFIG, OFPT_FLOW_MOD, OFPT_GROUP_MOD = 1, 4, 9, 14, 15
NXT_CT_FLUSH = 32
OFPT_MULTIPART_REQUEST, OFPT_MULTIPART_REPLY, OFPT_BARRIER_REQUEST, OFPT_BARRIER_REPLY = 18, 19, 20, 21
OFPT_BUNDLE_CONTROL, OFPT_BUNDLE_ADD_MESSAGE = 33, 34
OFPMP_FLOW_DESC, OFPMP_GROUP_DESC, OFPMP_PORT_DESC = 1, 7, 13
OFPFC_ADD, OFPFC_DELETE = 0, 3
OFPGC_ADD, OFPGC_MODIFY, OFPGC_DELETE, OFPGC_INSERT_BUCKET, OFPGC_REMOVE_BUCKET = 0, 1, 2, 3, 5
OFPGT_SELECT = 1
OFPG_BUCKET_LAST, OFPG_BUCKET_ALL = 0xFFFFFFFE, 0xFFFFFFFF
OFPBCT_OPEN_REQUEST, OFPBCT_OPEN_REPLY, OFPBCT_COMMIT_REQUEST, OFPBCT_COMMIT_REPLY = 0, 1, 4, 5
OFPBF_ATOMIC, OFPBF_ORDERED = 1, 2
OFPC_FRAG_NX_MATCH = 3
MISS_SEND_LEN = 128
ANY = 0xFFFFFFFF
NO_BUFFER = 0xFFFFFFFF
EVERY_BIT = 0xFFFFFFFFFFFFFFFF
PIECE = 1 << 18
"""Bytes of one write."""

_HEADER = Struct("!BBHI")
_FLOW_MOD = Struct("!QQBBHHHIIIHH")
_MATCH = Struct("!HH")
_GROUP_MOD = Struct("!HBxIHxxI")
_BUCKET = Struct("!HHI")
_WEIGHT = Struct("!HHH2x")
_SELECTION = Struct("!HHII4x16sQ")
_BUNDLE = Struct("!IHH")
_MULTIPART = Struct("!HH4x")
_EXPERIMENTER = Struct("!IIB7x")
_FLUSH_TUPLE = Struct("!HH4x")
_FLUSH_ADDRESS = Struct("!HH16s4x")
_FLUSH_NUMBER = Struct("!HHH2x")


def encode(message: Message, xid: int) -> bytes:
    """One message as it goes over the wire: a flow-mod or a group-mod."""
    match message:
        case AddFlow(flow):
            return _add_flow(flow, xid)
        case DeleteFlow(key):
            return _delete_flow(key, xid)
        case AddGroup(group):
            return _group(OFPGC_ADD, group, xid)
        case ModifyGroup(group):
            return _group(OFPGC_MODIFY, group, xid)
        case DeleteGroup(group_id):
            return _group_mod(OFPGC_DELETE, group_id, xid, OFPG_BUCKET_ALL)
        case InsertBuckets(group_id, buckets):
            return _group_mod(
                OFPGC_INSERT_BUCKET, group_id, xid, OFPG_BUCKET_LAST, b"".join(map(_bucket, buckets))
            )
        case RemoveBucket(group_id, bucket_id):
            return _group_mod(OFPGC_REMOVE_BUCKET, group_id, xid, bucket_id)


def _message(type: int, xid: int, body: bytes) -> bytes:
    length = 8 + len(body)
    assert length <= 0xFFFF, f"an OpenFlow message of {length} bytes"
    return _HEADER.pack(VERSION, type, length, xid) + body


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


_NO_MATCH = _padded(_MATCH.pack(1, 4))


def _add_flow(flow: Flow, xid: int) -> bytes:
    table, priority, cookie = flow.key
    head = _FLOW_MOD.pack(cookie, 0, table, OFPFC_ADD, 0, 0, priority, NO_BUFFER, ANY, ANY, 0, 0)
    return _message(OFPT_FLOW_MOD, xid, head + flow.match_bytes + flow.instructions)


def _delete_flow(key: FlowKey, xid: int) -> bytes:
    head = _FLOW_MOD.pack(key.cookie, EVERY_BIT, key.table, OFPFC_DELETE, 0, 0, 0, NO_BUFFER, ANY, ANY, 0, 0)
    return _message(OFPT_FLOW_MOD, xid, head + _NO_MATCH)


def _group(command: int, group: Group, xid: int) -> bytes:
    """The group with as many buckets as fit a message; ``diff`` has the rest inserted."""
    fields = b"".join(
        field.header().to_bytes(4, "big") + field.all_ones.to_bytes(field.bytes, "big")
        for field in group.fields
    )
    length = _SELECTION.size + len(fields)
    # An experimenter property of Open vSwitch: vendor NTR, type 1, "selection method".
    selection = _padded(_SELECTION.pack(0xFFFF, length, 0x154D, 1, group.method.encode(), 0) + fields)
    buckets = b"".join(map(_bucket, group.buckets[:BUCKETS_IN_A_MESSAGE]))
    return _group_mod(command, group.group_id, xid, OFPG_BUCKET_ALL, buckets, selection)


def _group_mod(
    command: int, group_id: int, xid: int, bucket_id: int, buckets: bytes = b"", properties: bytes = b""
) -> bytes:
    head = _GROUP_MOD.pack(command, OFPGT_SELECT, group_id, len(buckets), bucket_id)
    return _message(OFPT_GROUP_MOD, xid, head + buckets + properties)


def _bucket(bucket: Bucket) -> bytes:
    size = len(bucket.encoded)
    head = _BUCKET.pack(8 + size + _WEIGHT.size, size, bucket.bucket_id)
    return head + bucket.encoded + _WEIGHT.pack(0, 8, bucket.weight)


def bundle(messages: Iterable[Message], bundle_id: int, xid: int) -> Iterator[bytes]:
    """Open, add each, commit: atomic and ordered, all under one ``xid``.

    The switch answers open and commit with a bundle-control message each, and an error to the first
    message it refuses, in which case nothing of the bundle is kept. Encoded one by one as they are asked
    for, so that the switch can work on the first while the last are still values.
    """
    flags = OFPBF_ATOMIC | OFPBF_ORDERED
    add = _BUNDLE.pack(bundle_id, 0, flags)
    opened, committed = (
        _message(OFPT_BUNDLE_CONTROL, xid, _BUNDLE.pack(bundle_id, type, flags))
        for type in (OFPBCT_OPEN_REQUEST, OFPBCT_COMMIT_REQUEST)
    )
    yield opened
    for message in messages:
        yield _message(OFPT_BUNDLE_ADD_MESSAGE, xid, add + encode(message, xid))
    yield committed


def flush(stale: Stale, xid: int) -> bytes:
    """NXT_CT_FLUSH (Open vSwitch 3.1): forget the UDP connections of these tuples, original and reply."""
    body = _flush_tuple(0, 1, 3, stale.asked, stale.port)
    if stale.endpoint is not None:
        body += _flush_tuple(1, 0, 2, stale.endpoint, stale.endpoint_port)
    zone = _FLUSH_NUMBER.pack(2, 8, stale.zone)
    return _message(OFPT_EXPERIMENTER, xid, _EXPERIMENTER.pack(NX_VENDOR, NXT_CT_FLUSH, UDP) + body + zone)


def _flush_tuple(type: int, address_type: int, port_type: int, address: Address, port: int) -> bytes:
    mapped = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
    inner = _FLUSH_ADDRESS.pack(address_type, 20, mapped) + _FLUSH_NUMBER.pack(port_type, 8, port)
    return _FLUSH_TUPLE.pack(type, 8 + len(inner)) + inner


def set_config(xid: int) -> bytes:
    """Have first fragments show their ports (Open vSwitch's nx-match), which they do not by default."""
    return _message(OFPT_SET_CONFIG, xid, _MATCH.pack(OFPC_FRAG_NX_MATCH, MISS_SEND_LEN))


def barrier_request(xid: int) -> bytes:
    return _message(OFPT_BARRIER_REQUEST, xid, b"")


def flow_stats_request(xid: int) -> bytes:
    """Ask for all flows: a multipart request of type flow description."""
    body = Struct("!B3xII4xQQ").pack(0xFF, ANY, ANY, 0, 0) + _NO_MATCH
    return _message(OFPT_MULTIPART_REQUEST, xid, _MULTIPART.pack(OFPMP_FLOW_DESC, 0) + body)


def group_desc_request(xid: int) -> bytes:
    """Ask for all groups with their buckets."""
    body = Struct("!I4x").pack(0xFFFFFFFC)
    return _message(OFPT_MULTIPART_REQUEST, xid, _MULTIPART.pack(OFPMP_GROUP_DESC, 0) + body)


def port_desc_request(xid: int) -> bytes:
    """Ask for all ports."""
    return _message(
        OFPT_MULTIPART_REQUEST, xid, _MULTIPART.pack(OFPMP_PORT_DESC, 0) + Struct("!I4x").pack(ANY)
    )


def multipart_more(message: bytes) -> bool:
    """Whether further parts of this multipart reply follow."""
    return bool(message[11] & 1)


def decode_flow_stats(message: bytes) -> Iterator[FlowKey]:
    """The keys in one part of the reply to ``flow_stats_request`` (whole message, header included)."""
    entry = Struct("!HxxBxHHHHHQ")  # length, table, priority, idle, hard, flags, importance, cookie
    offset = 16
    while offset < len(message):
        length, table, priority, _, _, _, _, cookie = entry.unpack_from(message, offset)
        yield FlowKey(table, priority, cookie)
        offset += length


def decode_group_desc(message: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(group id, bucket ids in order) of each group in one part of the reply."""
    entry = Struct("!HBxIH")  # length, type, group id, length of the buckets
    offset = 16
    while offset < len(message):
        length, _, group_id, buckets = entry.unpack_from(message, offset)
        ids: list[int] = []
        place = offset + 16
        while place < offset + 16 + buckets:
            size, _, bucket_id = _BUCKET.unpack_from(message, place)
            ids.append(bucket_id)
            place += size
        yield group_id, tuple(ids)
        offset += length


def decode_port_desc(message: bytes) -> Iterator[tuple[str, int]]:
    """(name, ofport) of each port in one part of the reply."""
    entry = Struct("!IH2x6s2x16s")  # number, length, MAC, name
    offset = 16
    while offset < len(message):
        number, length, _, name = entry.unpack_from(message, offset)
        yield name.rstrip(b"\0").decode(), number
        offset += length


def split(stream: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages at the front of a byte stream, and what is left over."""
    found: list[bytes] = []
    offset = 0
    while len(stream) - offset >= 8:
        length = _HEADER.unpack_from(stream, offset)[2]
        if len(stream) - offset < length:
            break
        found.append(stream[offset : offset + length])
        offset += length
    return found, stream[offset:]


def joined(chunks: Iterable[bytes], limit: int = PIECE) -> Iterator[bytes]:
    """Messages joined to pieces of about ``limit`` bytes: few writes, each well below a send time-out.

    After each write the sending thread may wait 5 ms (``sys.getswitchinterval``) for one that encodes.
    """
    piece: list[bytes] = []
    size = 0
    for chunk in chunks:
        piece.append(chunk)
        size += len(chunk)
        if size >= limit:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)
