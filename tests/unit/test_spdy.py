"""SPDY/3.1 frames: what kubectl's streams are made of."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.errors import BadRequest
from controller.api.spdy import DICTIONARY, MOST, Codec, Data, Frame, GoAway, Opened, Ping, Reset

STREAM = st.integers(1, 0x7FFFFFFF)
HEADERS = st.dictionaries(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1), st.text(), max_size=5)
FRAMES = st.one_of(
    st.builds(Data, STREAM, st.binary(max_size=2000), st.booleans()),
    st.builds(Opened, STREAM, HEADERS, st.booleans(), st.booleans()),
    st.builds(Reset, STREAM, st.integers(0, 11)),
    st.builds(Ping, STREAM),
    st.just(GoAway()),
)


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_every_frame_arrives_as_it_was_sent_however_it_is_cut(frames: list[Frame], size: int) -> None:
    sender, receiver = Codec(), Codec()
    wire = b"".join(sender.encode(frame) for frame in frames)
    got = [frame for at in range(0, len(wire), size) for frame in receiver.feed(wire[at : at + size])]
    assert got == frames


def test_a_frame_has_the_drafts_bytes() -> None:
    codec = Codec()
    assert codec.encode(Data(5, b"abc", fin=True)) == b"\0\0\0\x05\x01\0\0\x03abc"
    assert codec.encode(Ping(1)) == b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x01"
    assert codec.encode(Reset(3, 5)) == b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x03\0\0\0\x05"
    opened = codec.encode(Opened(1, {"streamtype": "data"}))
    assert opened[:4] == b"\x80\x03\0\x01"
    assert opened[8:18] == b"\0\0\0\x01" + bytes(6)
    block = zlib.decompressobj(zdict=DICTIONARY).decompress(opened[18:])
    assert block == b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x04data"


def test_settings_and_other_frames_that_change_nothing_here_are_passed_over() -> None:
    settings = b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0"
    assert Codec().feed(settings + Codec().encode(Ping(2))) == [Ping(2)]


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (b"\x80\x02\0\x01\0\0\0\0", "version 2"),
        (b"\0\0\0\x01\0" + (MOST + 1).to_bytes(3), "is the most"),
        (b"\x80\x03\0\x01\0\0\0\x0c" + bytes(12), "broken"),
        (b"\x80\x03\0\x06\0\0\0\0", "broken"),
    ],
)
def test_what_is_no_spdy_is_refused(wire: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        Codec().feed(wire)


def test_a_header_that_claims_more_than_there_is_is_refused() -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(b"\0\0\0\x01\0\0\x10\0ab") + deflate.flush(zlib.Z_SYNC_FLUSH)
    body = b"\0\0\0\x01" + bytes(6) + block
    with pytest.raises(BadRequest, match="longer"):
        Codec().feed(b"\x80\x03\0\x01" + len(body).to_bytes(4) + body)
