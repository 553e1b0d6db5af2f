"""Dual stack: the same pods, the same Service, in IPv4 and in IPv6.

Which addresses there are, how a host finds its router without ARP, what ``ipFamilyPolicy`` asks for, how a
packet travels in IPv6, and how a living Service gets a second family and gives it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.lesson import Lesson
    from scenarios.packet import Packet

NODES = 3
IP_FAMILY = "dual"
FAMILIES = ("IPv4", "IPv6")
CURL = "curl -sS --max-time 5"
NODE_PORT = 30080
CHANGED = "nothing-said"
"""The Service that changes its families in the last steps."""
POLICIES: dict[str, dict[str, Any]] = {
    CHANGED: {},
    "only-ipv6": {"ipFamilies": ["IPv6"]},
    "prefer-dual": {"ipFamilyPolicy": "PreferDualStack"},
    "require-dual": {"ipFamilyPolicy": "RequireDualStack"},
    "ipv6-first": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]},
}
"""What each Service of the third step says of its families."""


def tell(lesson: Lesson) -> None:
    """From the addresses to a Service that changes its mind."""
    two_addresses(lesson)
    neighbours(lesson)
    what_a_service_asks_for(lesson)
    same_pods(lesson)
    node_ports(lesson)
    not_from_outside(lesson)
    upgrade(lesson)
    downgrade(lesson)


def two_addresses(lesson: Lesson) -> None:
    from scenarios.objects import pod, service

    with lesson.step("Two addresses each"):
        lesson.say(
            "Every node, pod and client of a dual-stack cluster has an IPv4 and an IPv6 address. In this lab "
            "both are written with the same digits, so that 10.244.2.2 and fd00:10:244:2::2 are one pod."
        )
        lesson.apply(
            pod("alice", "node1"),
            pod("web-0", "node2", "web"),
            pod("web-1", "node3", "web"),
            service("web", ipFamilyPolicy="RequireDualStack"),
        )
        client = lesson.lab.client
        rows = []
        for node in client.list("Node")[0]:
            internal = [e["address"] for e in node["status"]["addresses"] if e["type"] == "InternalIP"]
            rows.append((node["metadata"]["name"], *internal))
        for found in pods(lesson):
            rows.append((f"pod {found['metadata']['name']}", *addresses(found)))
        outside = lesson.lab.outside()
        rows.append((outside.name, *map(str, outside.ips)))
        lesson.table(("who", *FAMILIES), rows)
        alice = client.get("Pod", "alice")
        lesson.check(
            "a pod has an address of each family (status.podIPs)", expected=2, seen=len(addresses(alice))
        )
        lesson.check(
            "status.podIP is the one of the cluster's primary family",
            expected=addresses(alice)[0],
            seen=alice["status"]["podIP"],
        )
        node = client.get("Node", "node1")
        lesson.check(
            "a node has a range for pods in each family (spec.podCIDRs)",
            expected="10.244.1.0/24, fd00:10:244:1::/64",
            seen=", ".join(node["spec"]["podCIDRs"]),
        )


def neighbours(lesson: Lesson) -> None:
    with lesson.step("Who is my router? NDP instead of ARP"):
        lesson.say(
            "All that a pod knows is its gateway: 169.254.1.1, and in IPv6 fe80::1. Whose MAC is that? IPv4 "
            "shouts the question to everybody on the link (ARP). IPv6 sends an ICMPv6 neighbour "
            "solicitation to a multicast group that only hosts with such an address join (NDP). Here the "
            "node's bridge answers both by itself. alice has never sent a packet before:"
        )
        lab = lesson.lab
        alice, (ipv4, ipv6) = lab.pod("alice"), addresses(lab.client.get("Pod", "web-0"))
        with lesson.watch("node1-alice") as seen:
            for target in (ipv4, f"[{ipv6}]"):
                lesson.run(alice, f"{CURL} http://{target}:8080/hostname")
        asked = [packet for packet in seen.packets if packet.on_one_link]
        lesson.table(("protocol", "packet", "to MAC"), [told(packet) for packet in asked])
        by_ndp = [packet for packet in asked if packet.protocol == "NDP"]
        questions = [packet for packet in by_ndp if packet.flags == "who has"]
        answers = [packet for packet in by_ndp if packet.flags == "is at"]
        lesson.check(
            "alice asks for fe80::1",
            expected="fe80::1",
            seen=", ".join(p.dst.address for p in questions),
        )
        lesson.check(
            "to the multicast group of that address, not to everybody",
            expected="33:33:ff:00:00:01",
            seen=", ".join(packet.mac_dst for packet in questions),
        )
        from controller.api.wiring import GATEWAY_MAC

        lesson.check(
            "the bridge answers with the MAC address that ARP gives for 169.254.1.1 too",
            expected=f"{GATEWAY_MAC}, {GATEWAY_MAC}",
            seen=", ".join(packet.mac_src for packet in asked if packet.flags == "is at"),
        )
        lesson.check(
            "nobody looks for routers or prefixes: addresses come from Kubernetes, as on a real node",
            expected="",
            seen=", ".join({p.flags for p in by_ndp} - {"who has", "is at"}),
        )
        lesson.check("one answer is enough for all that follows", expected=1, seen=len(answers))


def what_a_service_asks_for(lesson: Lesson) -> None:
    from scenarios.asking import ask
    from scenarios.objects import endpoint_addresses, service

    with lesson.step("What a Service asks for: ipFamilyPolicy and ipFamilies"):
        lesson.say(
            "A Service that says nothing is SingleStack and gets the cluster's primary family, even where "
            "there are two. PreferDualStack takes both where there are two; RequireDualStack insists (in a "
            "cluster of one family it is refused). ipFamilies says which, and which comes first."
        )
        lesson.apply(*(service(name, "web", **spec) for name, spec in POLICIES.items()))
        found = {name: lesson.lab.client.get("Service", name)["spec"] for name in POLICIES}
        lesson.table(
            ("manifest", "ipFamilyPolicy", "ipFamilies", "clusterIPs"),
            [
                (name, spec["ipFamilyPolicy"], " ".join(spec["ipFamilies"]), " ".join(spec["clusterIPs"]))
                for name, spec in found.items()
            ],
        )
        for name, policy, families in (
            ("nothing-said", "SingleStack", "IPv4"),
            ("only-ipv6", "SingleStack", "IPv6"),
            ("prefer-dual", "PreferDualStack", "IPv4, IPv6"),
            ("ipv6-first", "RequireDualStack", "IPv6, IPv4"),
        ):
            spec = found[name]
            lesson.check(
                f"{name} is {policy}, and of {families}",
                expected=f"{policy}: {families}",
                seen=f"{spec['ipFamilyPolicy']}: {', '.join(spec['ipFamilies'])}",
            )
        lesson.check(
            "clusterIP is the first of clusterIPs, always",
            expected=", ".join(spec["clusterIPs"][0] for spec in found.values()),
            seen=", ".join(spec["clusterIP"] for spec in found.values()),
        )
        lesson.say("Each family has EndpointSlices of its own, with the addresses of the same pods:")
        rows = [
            (name, one["addressType"], " ".join(sorted(endpoint_addresses(one))))
            for name in ("nothing-said", "only-ipv6", "prefer-dual")
            for one in slices(lesson, name)
        ]
        lesson.table(("Service", "addressType", "endpoints"), rows)
        lesson.check(
            "prefer-dual has slices of both families",
            expected="IPv4, IPv6",
            seen=", ".join(sorted(one["addressType"] for one in slices(lesson, "prefer-dual"))),
        )
        answer = ask(lesson.lab.pod("alice"), found["only-ipv6"]["clusterIP"], 80)
        lesson.check_that(
            "an IPv6-only Service is an ordinary Service; its pods have IPv4 all the same",
            answer.pod in ("web-0", "web-1"),
            expected="web-0 or web-1",
            seen=answer.pod or answer.fate,
        )
        lesson.delete("Service", *(name for name in POLICIES if name != CHANGED))


def same_pods(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("One Service, the same pods behind both addresses"):
        ipv4, ipv6 = cluster_ips(lesson)
        alice = lesson.lab.pod("alice")
        lesson.say(f"Service web is {ipv4} and {ipv6}. alice asks by IPv6, and everything is as in IPv4:")
        with lesson.watch() as seen:
            answer = lesson.run(alice, f"{CURL} --local-port 40001 http://[{ipv6}]/hostname")
        connection = seen.by(40001)
        lesson.packets(connection)
        lesson.flows(seen, "node1", "web")
        lesson.memory(seen, connection)
        served = connection.served
        (pod,) = (found for found in pods(lesson) if found["metadata"]["name"] == answer.stdout.strip())
        lesson.check(
            "the destination became the IPv6 address of the pod that answered",
            expected=f"[{addresses(pod)[1]}]:8080",
            seen=str(served.dst),
        )
        lesson.check(
            "the source stays alice's own", expected=str(alice.ips[1]), seen=served.src.address
        )  # fmt: skip
        lesson.check(
            "three routers on the way, as in IPv4: the hop limit is what IPv6 calls the TTL",
            expected=61,
            seen=connection.opening.hops[-1].ttl,
        )
        rows = []
        for family, address in zip(FAMILIES, (ipv4, ipv6), strict=True):
            answered = {ask(alice, address, 80, source_port=port).pod for port in range(41001, 41017)}
            rows.append((family, address, ", ".join(sorted(answered))))
        lesson.say("Sixteen connections in each family:")
        lesson.table(("family", "asked", "who answered"), rows)
        lesson.check("the same pods answer in both", expected=rows[0][2], seen=rows[1][2])
        lesson.check("both of them do", expected="web-0, web-1", seen=rows[1][2])


def node_ports(lesson: Lesson) -> None:
    with lesson.step("A NodePort in both families, but no localhost in IPv6"):
        ports = [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT, "name": "tcp"}]
        lesson.patch("Service", "web", {"spec": {"type": "NodePort", "ports": ports}})
        node, client = lesson.lab.node(1), lesson.lab.outside()
        ipv4, ipv6 = map(str, node.ips)
        lesson.say(f"One number, {NODE_PORT}, on every address of every node. node1 has no pod of web.")
        with lesson.watch() as seen:
            answer = lesson.run(
                client, f"{CURL} --local-port 40002 http://[{ipv6}]:{NODE_PORT}/clientip"
            )  # fmt: skip
        connection = seen.by(40002)
        lesson.packets(connection)
        lesson.check(
            "the pod sees node1's IPv6 address, so that the answer returns there",
            expected=f"[{ipv6}]:40002",
            seen=answer.stdout,
        )
        lesson.check(
            "the client gets its answer from the address it asked",
            expected=f"[{ipv6}]:{NODE_PORT}",
            seen=str(connection.reply.hops[-1].src),
        )
        said = lesson.lab_command(f"url web --lab {lab_name()}")
        lesson.check(
            "./lab url prints one URL a family",
            expected=f"http://{ipv4}:{NODE_PORT} http://[{ipv6}]:{NODE_PORT}",
            seen=" ".join(said.split()),
        )
        lesson.say("And inside the node?")
        for target, works in ((ipv4, True), ("127.0.0.1", True), (f"[{ipv6}]", True), ("[::1]", False)):
            done = lesson.run(node, f"{CURL} http://{target}:{NODE_PORT}/hostname")
            lesson.check(
                f"node1 {'reaches' if works else 'does not reach'} the NodePort by {target}",
                expected=0 if works else 7,
                seen=done.returncode,
            )
        lesson.say(
            "The localhost NodePort rests on route_localnet, which only IPv4 has: ::1 never leaves the "
            "loopback. kube-proxy has none in IPv6 either, and its nftables mode has none at all."
        )


def not_from_outside(lesson: Lesson) -> None:
    with lesson.step("A ClusterIP is not reachable from outside in IPv6 either"):
        ipv6 = cluster_ips(lesson)[1]
        with lesson.watch() as seen:
            done = lesson.run(lesson.lab.outside(), f"{CURL} --local-port 40003 http://[{ipv6}]/hostname")
        connection = seen.by(40003)
        lesson.packets(connection)
        lesson.check_that("curl fails", done.returncode != 0, expected="curl fails", seen=done.stderr)
        lesson.check(
            "the router says at once, by ICMPv6, that it has no route",
            expected="no route",
            seen=next((reply.hops[0].flags for reply in connection.replies()), "nothing"),
        )
        lesson.say(
            "curl took a second to believe it: the answer was back before its connect() had begun to wait, "
            "and then Linux heeds an ICMPv6 error only when it sends the SYN again."
        )


def upgrade(lesson: Lesson) -> None:
    from scenarios.asking import ask, request

    with lesson.step("A living Service gets a second family"):
        alice, name = lesson.lab.pod("alice"), CHANGED
        before = lesson.lab.client.get("Service", name)["spec"]
        with alice.socket() as old:
            old.settimeout(5)
            old.connect((before["clusterIP"], 80))
            first = request(old).pod
            lesson.say(f"{name} has IPv4 only, {before['clusterIP']}, and alice has a connection open to it.")
            lesson.patch("Service", name, {"spec": {"ipFamilyPolicy": "PreferDualStack"}})
            after = lesson.lab.client.get("Service", name)["spec"]
            lesson.table(
                ("", "ipFamilies", "clusterIPs"),
                [
                    (word, " ".join(spec["ipFamilies"]), " ".join(spec["clusterIPs"]))
                    for word, spec in (("before", before), ("after", after))
                ],
            )
            lesson.check(
                "it keeps its address", expected=before["clusterIP"], seen=after["clusterIPs"][0]
            )  # fmt: skip
            lesson.check("and has a second one", expected="IPv4, IPv6", seen=", ".join(after["ipFamilies"]))
            answer = ask(alice, after["clusterIPs"][-1], 80, source_port=40004)
            lesson.check(
                "which answers, and the pod sees alice's IPv6 address",
                expected=f"[{alice.ips[1]}]:40004",
                seen=answer.source or answer.fate,
            )
            lesson.check("the connection that was open lives on", expected=first, seen=request(old).pod)
        turned = {"ipFamilies": ["IPv6", "IPv4"], "clusterIPs": after["clusterIPs"][::-1]}
        turned["clusterIP"] = turned["clusterIPs"][0]
        said = lesson.refused_patch("Service", name, {"spec": turned})
        lesson.check_says(
            "the first family and its address are for life", "may not change once set", seen=said
        )


def downgrade(lesson: Lesson) -> None:
    from scenarios.asking import ask

    with lesson.step("And gives it back"):
        alice, name = lesson.lab.pod("alice"), CHANGED
        ipv4, ipv6 = lesson.lab.client.get("Service", name)["spec"]["clusterIPs"]
        lesson.patch("Service", name, {"spec": {"ipFamilyPolicy": "SingleStack"}})
        spec = lesson.lab.client.get("Service", name)["spec"]
        lesson.check("one address is left, the first", expected=ipv4, seen=" ".join(spec["clusterIPs"]))
        lesson.check(
            "and the slices of one family",
            expected="IPv4",
            seen=", ".join(one["addressType"] for one in slices(lesson, name)),
        )
        answer = ask(alice, ipv4, 80)
        lesson.check("IPv4 answers as ever", expected="answered", seen=answer.fate)
        answer = ask(alice, ipv6, 80, timeout=0.5)
        lesson.check("the IPv6 address is nobody's now", expected="dropped", seen=answer.fate)


def pods(lesson: Lesson) -> list[Any]:
    found: list[Any] = lesson.lab.client.list("Pod", "default")[0]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def addresses(pod: Any) -> list[str]:
    return [entry["ip"] for entry in pod["status"]["podIPs"]]


def cluster_ips(lesson: Lesson) -> list[str]:
    found: list[str] = lesson.lab.client.get("Service", "web")["spec"]["clusterIPs"]
    return found


def slices(lesson: Lesson, service: str) -> list[Any]:
    label = f"kubernetes.io/service-name={service}"
    found = lesson.lab.client.list("EndpointSlice", "default", labels=label)[0]
    return sorted(found, key=lambda one: str(one["addressType"]))


def told(packet: Packet) -> tuple[str, str, str]:
    """A row about a packet between neighbours."""
    asked = packet.dst.address if packet.flags == "who has" else packet.mac_src
    return packet.protocol, f"{packet.src.address} {packet.flags} {asked}", packet.mac_dst


def lab_name() -> str:
    from topo import sandbox

    return sandbox.name()


if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.dont_write_bytecode = True  # root writes nothing into the checkout; ensure() says where instead
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python put this folder there
    from scenarios.__main__ import main

    sys.exit(main([Path(__file__).stem, *sys.argv[1:]]))
