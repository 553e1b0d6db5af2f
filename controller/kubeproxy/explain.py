"""What a person wants to know of a switch: which object caused this flow, and why; whose connection is this.

Pure: text of ``ovs-ofctl dump-flows`` and ``dpctl/dump-conntrack`` and a ``Proxier`` that knows the objects
go in, rows come out. Nothing is asked of a switch here, and nothing is printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api import wiring
from controller.kubeproxy.actions import Learn
from controller.kubeproxy.dispatch import LEASE, cookie_of
from controller.kubeproxy.fields import FAMILIES, IPV4, IPV6
from controller.kubeproxy.flow import Category, Cause, Flow, FlowKey, cause_bits
from controller.kubeproxy.pipeline import MARK_HAIRPIN, MARK_SNAT, TABLES_BY_ID, zones
from controller.kubeproxy.proxier import Proxier
from controller.kubeproxy.services import ServicePort, service_key, service_ports

Obj = dict[str, Any]

_FLOW = re.compile(
    r"cookie=(0x[0-9a-f]+), .*?table=(\d+), n_packets=(\d+), n_bytes=(\d+),.*? ?"
    r"(?:priority=(\d+))?,?(\S*) actions=(.*)$"
)
_DEFAULT_PRIORITY = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFlow:
    """One flow of a switch and the object behind it; ``users``: Service ports that share an endpoint's."""

    table: str
    priority: int
    match: str
    actions: str
    packets: int
    bytes: int
    cause: str
    users: tuple[str, ...]
    why: str

    def concerns(self, namespace: str, name: str) -> bool:
        """Whether a Service is the cause, or one of those that share it."""
        users = (re.split("[:/]", user)[:2] for user in self.users)
        return self.cause == f"Service {namespace}/{name}" or [namespace, name] in users


def explain_flows(dump: str, proxier: Proxier) -> list[ExplainedFlow]:
    """Every flow in the text of ``ovs-ofctl dump-flows`` (without ``--names``), in the pipeline's order."""
    desired = proxier.desired().flows
    causes = {cause_bits(flow.cause): flow.cause for flow in desired.values()}
    users = {
        cause_bits(Cause(Category.ENDPOINT, "", str(endpoint))): names
        for endpoint, names in proxier.endpoint_users().items()
    }
    rows = []
    taught = {
        action.cookie: flow.cause
        for flow in desired.values()
        for action in flow.actions
        if isinstance(action, Learn)
    }
    counted = {
        cookie_of(number, endpoint): (group, endpoint, proxier.desired().groups[number].cause)
        for number, group in proxier.scheduled().items()
        for endpoint in group.endpoints
    }
    for key, packets, octets, match, actions in _parse(dump):
        flow = desired.get(key)
        cause = flow.cause if flow else causes.get(key.cookie >> 32) or taught.get(key.cookie)
        why = flow.why if flow else _LEARNED if key.cookie in taught else _stranger(cause)
        if key.cookie in counted:
            group, endpoint, cause = counted[key.cookie]
            why = f"A connection that {group.scheduler.name} gave to {endpoint}; it counts while this stands."
        elif key.cookie >> 56 == Category.CONNECTION:
            why = "A connection of a Service that is gone or scheduled otherwise now: no longer counted."
        if key.cookie >> 56 == Category.LEASE:
            cause, why = Cause(Category.NODE, "", proxier.name), _LEASE
        table = TABLES_BY_ID.get(key.table)
        rows.append(
            ExplainedFlow(
                table=table.name if table else str(key.table),
                priority=key.priority,
                match=flow.match_text if flow else match,
                actions=_actions(flow) if flow else actions,
                packets=packets,
                bytes=octets,
                cause=str(cause) if cause else "nobody",
                users=tuple(sorted(str(u) for u in users.get(key.cookie >> 32, ()))),
                why=why,
            )
        )
    return sorted(rows, key=lambda r: (_place(r.table), -r.priority, r.match))


def _parse(dump: str) -> Iterator[tuple[FlowKey, int, int, str, str]]:
    for line in dump.splitlines():
        found = _FLOW.search(line)
        if found:
            cookie, table, packets, octets, priority, match, actions = found.groups()
            key = FlowKey(int(table), int(priority or _DEFAULT_PRIORITY), int(cookie, 16))
            yield key, int(packets), int(octets), match, actions


def _actions(flow: Flow) -> str:
    return ",".join(map(str, flow.actions)) or "drop"


_LEARNED = "Learned by the switch: sessionAffinity keeps this client with its endpoint."


_LEASE = (
    f"For {LEASE} s since the kubeproxy last said so, first packets go to it and come back: it schedules."
)


def _stranger(cause: Cause | None) -> str:
    if cause:
        return f"An older state of {cause}: it goes with the next change."
    return "No object wants it: put there by hand, or left over; the next read-back removes it."


def _place(table: str) -> int:
    return next((id for id, t in TABLES_BY_ID.items() if t.name == table), len(TABLES_BY_ID))


def _pair(address: object, port: object) -> str:
    """Address and port as they are written together."""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


_ENTRY = re.compile(
    r"^(?P<protocol>\w+),orig=\((?P<orig>[^)]*)\),reply=\((?P<reply>[^)]*)\)(?:,zone=(?P<zone>\d+))?"
    r"(?:,mark=(?P<mark>\d+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One conntrack entry in a zone of ours.

    ``client`` asked for ``asked``; the first zone says which ``endpoint`` answers instead (the same when
    it is no Service's), the second as which address the client appears there (``seen_as``).
    """

    node: str
    zone: str
    protocol: str
    client: str
    asked: str
    endpoint: str
    seen_as: str
    state: str
    service: str
    why: str


def explain_conntrack(text: str, services: Iterable[Obj], nodes: Iterable[Obj]) -> list[Connection]:
    """The entries of ``dpctl/dump-conntrack`` that are in a zone of one of these nodes."""
    zone_names: dict[int, tuple[str, str]] = {}
    addresses = {str(family.ranges.node_port_virtual) for family in FAMILIES.values()}
    for node in nodes:
        number = int(node["metadata"]["annotations"][wiring.DATAPATH_ID], 16)
        for zone, name in zip(zones(number), ("DNAT", "SNAT"), strict=True):
            zone_names[zone] = node["metadata"]["name"], name
        addresses |= {a["address"] for a in node.get("status", {}).get("addresses", ())}
    ports = _asked_for(services, addresses)
    rows = []
    for line in text.splitlines():
        found = _ENTRY.match(line)
        if found and int(found["zone"] or 0) in zone_names:
            rows.append(_connection(line, found, zone_names[int(found["zone"])], ports))
    return rows


def _asked_for(
    services: Iterable[Obj], addresses: set[str]
) -> Mapping[tuple[str, str], tuple[str, ServicePort]]:
    """(protocol, address:port) to the Service that answers there."""
    found: dict[tuple[str, str], tuple[str, ServicePort]] = {}
    for service in services:
        name = "/".join(service_key(service))
        for port in (p for family in FAMILIES.values() for p in service_ports(service, family)):
            protocol = port.name.protocol.lower()
            found[protocol, _pair(port.cluster_ip, port.port)] = f"Service {name}", port
            for address in addresses if port.node_port else ():
                found[protocol, _pair(address, port.node_port)] = f"NodePort of Service {name}", port
            for external in port.external_addresses:
                found[protocol, _pair(external, port.port)] = f"external address of Service {name}", port
    return found


def _connection(
    line: str,
    found: re.Match[str],
    zone: tuple[str, str],
    ports: Mapping[tuple[str, str], tuple[str, ServicePort]],
) -> Connection:
    orig, reply = _tuple(found["orig"]), _tuple(found["reply"])
    if "sport" in orig:
        client, asked = _pair(orig["src"], orig["sport"]), _pair(orig["dst"], orig["dport"])
        endpoint, seen_as = _pair(reply["src"], reply["sport"]), _pair(reply["dst"], reply["dport"])
    else:  # ICMP has no ports
        client, asked, endpoint, seen_as = orig["src"], orig["dst"], reply["src"], reply["dst"]
    protocol, mark = found["protocol"], int(found["mark"] or 0)
    service = ports.get((protocol, asked), ("", None))[0]
    node, name = zone
    hairpin = (IPV6 if ":" in orig["dst"] else IPV4).ranges.hairpin_virtual
    if name == "SNAT":
        why = f"{client} leaves {node} as {seen_as}, so that replies return to {node}."
    elif service:
        why = f"{client} asked for {service} ({asked}); {node} chose {endpoint}"
        if mark & MARK_HAIRPIN.mask:
            why += f", where it came from: it leaves as {hairpin}."
        else:
            why += (
                " and gives it the node's address."
                if mark & MARK_SNAT.mask
                else " and keeps the source address."
            )
    elif asked != endpoint:
        why = f"{client} asked for {asked} and got {endpoint}; that Service port is no longer there."
    else:
        why = f"{client} talks to {asked} itself" + (", masqueraded." if mark & MARK_SNAT.mask else ".")
    state = re.search(r"state=(\w+)", line)
    return Connection(
        node=node,
        zone=name,
        protocol=protocol,
        client=client,
        asked=asked,
        endpoint=endpoint,
        seen_as=seen_as,
        state=state[1] if state else "",
        service=service,
        why=why,
    )


def _tuple(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)
