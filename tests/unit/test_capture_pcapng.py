"""pcapng files as Wireshark's own reader sees them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from topo import pcapng

CLIENT, NODE = "198.51.100.11", "192.168.49.2"
TIME = 1_700_000_000_123_456_789


def frame(payload: bytes = b"") -> bytes:
    return bytes(Ether() / IP(src=CLIENT, dst=NODE) / TCP(sport=40000, dport=30080, flags="S") / payload)


def read(path: Path, *fields: str) -> list[list[str]]:
    """One row a packet: the fields by tshark, checksums checked."""
    options = [item for name in fields for item in ("-e", name)]
    check = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]
    text = subprocess.run(
        ["tshark", "-n", "-r", str(path), *check, "-T", "fields", *options],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [line.split("\t") for line in text.splitlines()]


def test_tshark_reads_links_by_name_times_in_nanoseconds_directions_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "two.pcapng"
    path.write_bytes(
        pcapng.section_header()
        + pcapng.interface("client1", description="client1, seen at client1")
        + pcapng.interface("node1-frontend-a")
        + pcapng.packet(0, TIME, frame(), direction="in", comment="before translation: ä")
        + pcapng.packet(1, TIME + 1, frame(b"odd"), direction="out")
        + pcapng.statistics(0, TIME + 2, received=1, dropped=0)
    )
    rows = read(
        path, "frame.interface_name", "frame.time_epoch", "frame.packet_flags_direction", "frame.comment",
        "ip.checksum.status", "tcp.checksum.status", "frame.len",
    )  # fmt: skip
    assert rows[0][0] == "client1"
    assert rows[0][1] == "1700000000.123456789"
    assert int(rows[0][2], 16) == 1
    assert rows[0][3] == "before translation: ä"
    assert rows[1][0] == "node1-frontend-a"
    assert int(rows[1][2], 16) == 2
    assert [row[4:6] for row in rows] == [["1", "1"], ["1", "1"]]
    assert rows[1][6] == str(len(frame(b"odd")))


def test_a_packet_with_a_wrong_checksum_is_seen_as_such(tmp_path: Path) -> None:
    data = bytearray(frame())
    data[50] ^= 0xFF
    path = tmp_path / "bad.pcapng"
    path.write_bytes(
        pcapng.section_header()
        + pcapng.interface("client1")
        + pcapng.packet(0, TIME, bytes(data), direction="in")
    )
    assert read(path, "tcp.checksum.status") == [["0"]]


def test_blocks_are_whole_words_with_their_length_at_both_ends() -> None:
    blocks = [
        pcapng.section_header(comment="why"),
        pcapng.interface("x"),
        pcapng.packet(0, TIME, b"odd", direction="out", comment="c"),
        pcapng.statistics(0, TIME, received=2**33, dropped=1),
    ]
    for block in blocks:
        assert len(block) % 4 == 0
        assert int.from_bytes(block[4:8], "little") == len(block)
        assert block[4:8] == block[-4:]
