"""Pairing of sightings through translation, with packets made by hand.

client1 198.51.100.11 --- fabric --- node1 192.168.49.2 (no pod) --- node2: pod 10.244.2.2:8501
NodePort 30000 on every node; Service 10.96.0.50:80
"""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from scenarios.evidence import Connection, Journey, connections
from scenarios.kinship import PATIENCE_NS
from scenarios.packet import Endpoint, Packet, Place, Tuple5

CLIENT, CLIENT2 = "198.51.100.11", "198.51.100.12"
NODE1, POD, POD2, VIP, VIP2 = "192.168.49.2", "10.244.2.2", "10.244.3.2", "10.96.0.50", "10.96.0.51"
PORT = 40001


def packet(
    link: str,
    time: int,
    ttl: int,
    tuple5: Tuple5,
    *,
    out: bool = True,
    flags: str = "SYN",
    seq: int = 100,
    same: Hashable = None,
    payload: bytes = b"",
) -> Packet:
    return Packet(
        time_ns=time,
        place=Place(link, out),
        tuple5=tuple5,
        ttl=ttl,
        flags=flags,
        seq=seq,
        payload=payload,
        unchanged=(flags, seq, same, payload),
    )


def line(src: str, sport: int, dst: str, dport: int, protocol: str = "TCP") -> Tuple5:
    return Tuple5(protocol, Endpoint(src, sport), Endpoint(dst, dport))


ASKED = line(CLIENT, PORT, NODE1, 30000)
SERVED = line(NODE1, PORT, POD, 8501)


def there(
    start: int, asked: Tuple5 = ASKED, served: Tuple5 = SERVED, client: str = "client1", **kw: object
) -> list[Packet]:
    """One packet from a client by node1, which has no pod, to the pod on node2."""
    return [
        packet(client, start, 64, asked, out=False, **kw),  # type: ignore[arg-type]
        packet("node1-uplink", start + 10, 63, asked, out=False, **kw),  # type: ignore[arg-type]
        packet("node1-uplink", start + 20, 62, served, **kw),  # type: ignore[arg-type]
        packet("node2-web", start + 30, 60, served, **kw),  # type: ignore[arg-type]
    ]


def back(
    start: int, asked: Tuple5 = ASKED, served: Tuple5 = SERVED, client: str = "client1", **kw: object
) -> list[Packet]:
    kw = {"flags": "SYN,ACK", "seq": 900, **kw}
    return [
        packet("node2-web", start, 64, served.reverse, out=False, **kw),  # type: ignore[arg-type]
        packet("node1-uplink", start + 10, 62, served.reverse, out=False, **kw),  # type: ignore[arg-type]
        packet("node1-uplink", start + 20, 61, asked.reverse, **kw),  # type: ignore[arg-type]
        packet(client, start + 30, 60, asked.reverse, **kw),  # type: ignore[arg-type]
    ]


def links(journey: Journey) -> list[str]:
    return [hop.link for hop in journey.hops]


def only(found: list[Connection]) -> Connection:
    assert len(found) == 1, found
    return found[0]


def test_a_packet_is_followed_through_a_node_that_translates_both_addresses() -> None:
    connection = only(connections(there(0) + back(100)))
    assert [len(journey.hops) for journey in connection.journeys] == [4, 4]
    assert (connection.asked, connection.served) == (ASKED, SERVED)
    assert [[str(rewrite.what) for rewrite in step] for step in connection.opening.rewrites()] == [
        [],
        ["DNAT", "SNAT"],
        [],
    ]
    dnat, snat = connection.opening.rewrites()[1]
    assert (str(dnat.before), str(dnat.after)) == (f"{NODE1}:30000", f"{POD}:8501")
    assert (str(snat.before), str(snat.after)) == (f"{CLIENT}:{PORT}", f"{NODE1}:{PORT}")


def test_the_way_back_is_named_as_the_undoing() -> None:
    connection = only(connections(there(0) + back(100)))
    (reply,) = connection.replies()
    assert [rewrite.what for step in reply.rewrites() for rewrite in step] == ["un-SNAT", "un-DNAT"]


def test_the_order_in_which_sightings_come_in_does_not_matter() -> None:
    assert connections((there(0) + back(100))[::-1]) == connections(there(0) + back(100))


def test_a_retransmission_with_equal_bytes_is_a_second_packet() -> None:
    connection = only(connections(there(0) + there(300_000_000)))
    assert [links(journey) for journey in connection.journeys] == [
        ["client1", "node1-uplink", "node1-uplink", "node2-web"]
    ] * 2
    assert [journey.again for journey in connection.journeys] == [False, True]


def test_a_lost_packet_and_its_retransmission_are_told_apart_by_time() -> None:
    first = there(0)[:2]  # lost in node1
    second = there(PATIENCE_NS + 100)
    connection = only(connections(first + second))
    assert [len(journey.hops) for journey in connection.journeys] == [2, 4]
    assert connection.journeys[1].again


def test_when_either_of_two_equal_packets_may_have_arrived_neither_is_claimed() -> None:
    first, second = there(0)[:1], there(5)[:1]
    arrived = there(0)[1]
    connection = only(connections([*first, *second, arrived]))
    assert sorted(len(journey.hops) for journey in connection.journeys) == [1, 1, 1]
    unsure = connection.journeys[-1]
    assert unsure.hops == (arrived,)
    assert set(unsure.doubts) == {first[0], second[0]}


def test_two_equal_packets_that_both_arrive_keep_their_order() -> None:
    connection = only(connections(there(0) + there(5)))
    assert [(journey.hops[0].time_ns, journey.hops[1].time_ns) for journey in connection.journeys] == [
        (0, 10),
        (5, 15),
    ]


def test_equal_datagrams_from_two_clients_are_told_apart_by_the_address_that_was_kept() -> None:
    def query(client: str, link: str, pod: str, start: int) -> list[Packet]:
        return [
            packet(link, start, 64, line(client, 5000, VIP, 53, "UDP"), flags="", same=0),
            packet(f"pod {pod}", start + 50, 62, line(client, 5000, pod, 53, "UDP"), flags="", same=0),
        ]

    found = connections(query(CLIENT, "client1", POD, 0) + query(CLIENT2, "client2", POD2, 1))
    assert [(c.asked.src.address, c.served.dst.address) for c in found] == [
        (CLIENT, POD),
        (CLIENT2, POD2),
    ]


def test_a_crowd_that_asks_the_same_at_once_is_told_apart_too() -> None:
    packets, expected = [], {}
    for number in range(300):
        asked = line(CLIENT, 5000 + number, VIP, 53, "UDP")
        served = line(CLIENT, 5000 + number, POD if number % 2 else POD2, 53, "UDP")
        expected[asked] = served
        packets.append(packet("client1", number, 64, asked, flags="", out=False))
        packets.append(packet(f"pod {served.dst}", 1000 - number, 62, served, flags=""))
    found = connections(packets)
    assert {c.asked: c.served for c in found} == expected
    assert not any(journey.doubts for c in found for journey in c.journeys)


def masked_queries() -> tuple[list[Packet], Tuple5, Tuple5, Tuple5, Tuple5]:
    """Two clients, equal datagrams at the same time, both sources hidden behind the node."""
    one, two = line(CLIENT, 5000, NODE1, 30053, "UDP"), line(CLIENT2, 5000, NODE1, 30053, "UDP")
    first, second = line(NODE1, 5000, POD, 53, "UDP"), line(NODE1, 61234, POD, 53, "UDP")
    packets = [
        packet("client1", 0, 64, one, flags="", out=False),
        packet("client2", 1, 64, two, flags="", out=False),
        packet("node2-web", 50, 60, first, flags=""),
        packet("node2-web", 51, 60, second, flags=""),
    ]
    return packets, one, two, first, second


def test_equal_datagrams_hidden_behind_one_address_are_reported_as_ambiguous() -> None:
    packets, one, two, first, second = masked_queries()
    journeys = [journey for c in connections(packets) for journey in c.journeys]
    assert [len(journey.hops) for journey in journeys] == [1, 1, 1, 1]
    doubtful = {journey.hops[0].tuple5: journey.doubts for journey in journeys}
    assert {d.tuple5 for d in doubtful[first]} == {one, two}
    assert {d.tuple5 for d in doubtful[second]} == {one, two}
    assert doubtful[one] == doubtful[two] == ()


def test_one_conntrack_entry_settles_both_of_them() -> None:
    packets, one, two, first, second = masked_queries()
    found = connections(packets, known=[(one, second)])
    assert {c.asked: c.served for c in found} == {one: second, two: first}


def test_an_unmistakable_packet_settles_the_ambiguous_ones_of_its_connection() -> None:
    packets, one, two, first, second = masked_queries()
    clear = [
        packet("client1", 1000, 64, one, flags="", same="clear"),
        packet("node2-web", 1050, 60, second, flags="", same="clear"),
    ]
    found = connections(packets + clear)
    assert {c.asked: c.served for c in found} == {one: second, two: first}
    assert all(not journey.doubts for c in found for journey in c.journeys)


def test_a_port_pair_used_again_is_another_connection() -> None:
    other = line(NODE1, PORT, POD2, 8501)
    found = connections(
        there(0) + back(100) + there(5000, served=other, seq=7) + back(6000, served=other, seq=8)
    )
    assert [c.served.dst.address for c in found] == [POD, POD2]
    assert [len(c.journeys) for c in found] == [2, 2]


def test_a_connection_to_itself_is_followed_through_the_hairpin() -> None:
    asked, served = line(POD, PORT, VIP, 80), line("169.254.0.253", PORT, POD, 8501)
    connection = only(
        connections([packet("web", 0, 64, asked, out=False), packet("web", 9, 63, served)]),
    )
    assert [rewrite.what for rewrite in connection.opening.rewrites()[0]] == ["DNAT", "SNAT"]


def test_a_node_that_translates_its_own_packet_does_not_count_a_hop() -> None:
    asked, served = line(NODE1, PORT, VIP, 80), line(NODE1, PORT, POD, 8501)
    connection = only(
        connections(
            [
                packet("node1-host", 0, 64, asked, out=False),
                packet("node1-uplink", 9, 64, served),
                packet("node2-web", 20, 62, served),
                packet("node2-web", 30, 64, served.reverse, out=False, flags="SYN,ACK"),
                packet("node1-uplink", 40, 62, served.reverse, out=False, flags="SYN,ACK"),
                packet("node1-host", 50, 62, asked.reverse, flags="SYN,ACK"),
            ]
        )
    )
    assert [len(journey.hops) for journey in connection.journeys] == [3, 3]
    assert connection.served == served


def test_two_links_that_saw_equal_packets_with_the_same_ttl_saw_two_packets() -> None:
    found = connections(
        [
            packet("client1", 0, 64, line(CLIENT, 5000, VIP, 53, "UDP"), flags="", out=False),
            packet("client2", 1, 64, line(CLIENT2, 5000, VIP, 53, "UDP"), flags="", out=False),
        ]
    )
    assert [len(c.journeys[0].hops) for c in found] == [1, 1]


def test_both_ends_of_one_wire_are_two_hops_of_one_packet() -> None:
    connection = only(
        connections([packet("client1", 0, 64, ASKED), packet("fabric-client1", 1, 64, ASKED, out=False)])
    )
    assert links(connection.opening) == ["client1", "fabric-client1"]


def test_what_came_before_a_syn_on_the_same_ports_was_an_older_connection() -> None:
    late = packet("client1", 5, 60, ASKED.reverse, flags="ACK", seq=4, out=False)
    found = connections([late, *there(10)])
    assert [(c.journeys[0].hops[0].flags, len(c.journeys)) for c in found] == [("ACK", 1), ("SYN", 1)]


def test_in_a_connection_that_began_before_the_capture_the_first_to_speak_is_the_client() -> None:
    connection = only(connections(there(0, flags="ACK") + back(100, flags="ACK", seq=3)))
    assert connection.asked == ASKED
    assert [journey.reply for journey in connection.journeys] == [False, True]


def test_an_icmp_error_belongs_to_the_connection_it_is_about() -> None:
    asked = line(CLIENT, PORT, VIP, 80)
    error = Packet(
        time_ns=20,
        place=Place("client1", False),
        tuple5=line("198.51.100.1", 0, CLIENT, 0, "ICMP"),
        ttl=64,
        flags="net unreachable",
        unchanged=("ICMP", 1),
        quoted=asked,
    )
    connection = only(connections([packet("client1", 0, 64, asked), error]))
    assert [journey.reply for journey in connection.journeys] == [False, True]


def test_all_copies_lost_downstream_leave_the_first_link_alone() -> None:
    connection = only(connections(there(0)[:1] + there(300)[:1]))
    assert [links(journey) for journey in connection.journeys] == [["client1"], ["client1"]]


@given(st.lists(st.integers(min_value=0, max_value=400), min_size=1, max_size=12, unique=True), st.data())
def test_what_is_claimed_as_certain_is_true(starts: list[int], data: st.DataObject) -> None:
    """Equal packets, some lost midway: every pair that is claimed is a pair that was sent."""
    starts.sort()
    truth: dict[tuple[str, int], int] = {}
    packets = []
    for start in starts:
        reach = data.draw(st.integers(min_value=1, max_value=4))
        for hop in there(start)[:reach]:
            truth[f"{hop.link}{hop.place.outgoing}", hop.time_ns] = start
            packets.append(hop)
    for connection in connections(packets):
        for journey in connection.journeys:
            sources = {truth[f"{hop.link}{hop.place.outgoing}", hop.time_ns] for hop in journey.hops}
            assert len(sources) == 1, journey
    assert sum(len(j.hops) for c in connections(packets) for j in c.journeys) == len(packets)


@given(st.permutations(range(24)))
def test_many_connections_at_once_are_each_followed_to_their_own_pod(order: list[int]) -> None:
    packets, expected = [], {}
    for number in order:
        asked = line(CLIENT, 41000 + number, NODE1, 30000)
        served = line(NODE1, 41000 + (number * 7) % 24, POD if number % 2 else POD2, 8501)
        expected[asked] = served
        packets += there(order.index(number), asked=asked, served=served, seq=number)
        packets += back(1000 + number, asked=asked, served=served, seq=500 + number)
    found = connections(packets)
    assert {c.asked: c.served for c in found} == expected
    assert all(len(c.journeys) == 2 for c in found)
