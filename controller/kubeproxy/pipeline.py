"""The pipeline as data: tables in order, registers, connection marks, zones, priorities.

Everything is declared once, with its reason; ids are computed from the order. Table names are
AntreaProxy's, so its public pipeline document can be read beside ours. No flow is built here.
"""

from __future__ import annotations

from dataclasses import replace

from controller.api.wiring import conntrack_zones
from controller.kubeproxy.fields import (
    ARP_OP,
    ARP_TPA,
    CT_IPV6_DST,
    CT_IPV6_SRC,
    CT_MARK,
    CT_NW_DST,
    CT_NW_PROTO,
    CT_NW_SRC,
    CT_STATE,
    CT_TP_DST,
    CT_TP_SRC,
    CT_ZONE,
    ETH_SRC,
    ETH_TYPE,
    ICMP_TYPE,
    ICMPV6_TYPE,
    IN_PORT,
    IP_FRAG,
    IP_PROTO,
    IPV4,
    IPV4_DST,
    IPV4_SRC,
    IPV6_DST,
    IPV6_SRC,
    ND_TARGET,
    REG0,
    REG1,
    REG2,
    REG3,
    REG4,
    REG5,
    SCTP_DST,
    SCTP_SRC,
    TCP_DST,
    TCP_SRC,
    UDP_DST,
    UDP_SRC,
    XXREG3,
    Family,
    Field,
    Part,
)
from controller.kubeproxy.table import PipelineError, Table

# Registers.
SOURCE = Part(REG0, 0, 4, "Source", "where the packet came in: decides what may be its address, and SNAT")
FROM_UPLINK, FROM_NODE, FROM_POD = 1, 2, 3
OUT_PORT = Part(REG1, 0, 32, "OutPort", "the port L3Forwarding chose; Output sends there")
CONSTANT = Part(
    REG2, 0, 32, "Constant", "a value on its way to a field that set_field may not write everywhere"
)
ENDPOINT_IP = Part(REG3, 0, 32, "EndpointIP", "the address the group's bucket chose")
ENDPOINT_IP6 = Part(XXREG3, 0, 128, "EndpointIP", "the same for IPv6; overlays no other register in use")
ENDPOINT_PORT = Part(REG4, 0, 16, "EndpointPort", "the port the group's bucket chose")
EP_STATE = Part(REG4, 16, 3, "EndpointState", "how far the choice of an endpoint has come")
EP_TO_SELECT, EP_SELECTED, EP_NONE = 1, 2, 4
EP_UNION = Part(REG4, 0, 19, "EndpointPort+State", "port and state in one write and one match")
TO_NODE_PORT = Part(REG4, 19, 1, "ToNodePortAddress", "to an address of this node: NodePorts apply")
NEEDS_SNAT = Part(
    REG4,
    20,
    1,
    "NeedsSNAT",
    "a Service connection that must carry the node's address; copied "
    "into the connection's mark by the commit that translates its destination",
)
SERVICE_GROUP = Part(REG5, 0, 32, "ServiceGroup", "whose group it is, for Scheduler and SessionLearn")
REGISTERS = (
    SOURCE,
    OUT_PORT,
    CONSTANT,
    ENDPOINT_IP,
    ENDPOINT_PORT,
    EP_STATE,
    TO_NODE_PORT,
    NEEDS_SNAT,
    SERVICE_GROUP,
)

# Bits of ct_mark, in the DNAT zone: what later packets of the connection need to know.
MARK_SERVICE = Part(CT_MARK, 4, 1, "Service", "its destination was translated: a Service's connection")
MARK_SNAT = Part(CT_MARK, 5, 1, "SNAT", "leaves with the node's address: passes the SNAT zone too")
MARK_HAIRPIN = Part(CT_MARK, 6, 1, "Hairpin", "returns to where it came from: leaves as 169.254.0.253")
MARKS = (MARK_SERVICE, MARK_SNAT, MARK_HAIRPIN)

# Priorities: within a table, the higher is looked at first.
HIGHEST, HIGH, NORMAL, FENCE, LOW, LAST, LEAST, MISS = 220, 210, 200, 195, 190, 180, 100, 0


def endpoint_ip(family: Family) -> Part:
    return ENDPOINT_IP if family is IPV4 else ENDPOINT_IP6


zones = conntrack_zones
"""Of a node, by its number."""


FRAGMENT_ZONE = 999
"""Where fragments wait for each other; nothing is ever committed there."""


def _fields(*fields: Field) -> frozenset[Field]:
    return frozenset(fields)


_DST, _SRC = (IPV4_DST, IPV6_DST), (IPV4_SRC, IPV6_SRC)
_CT_ASKED = (CT_NW_PROTO, CT_NW_DST, CT_IPV6_DST, CT_TP_DST)
_L4_DST, _L4_SRC = (TCP_DST, UDP_DST, SCTP_DST), (TCP_SRC, UDP_SRC, SCTP_SRC)


def _table(name: str, stage: str, why: str, matches: frozenset[Field], *next_tables: str) -> Table:
    return Table(
        name=name,
        stage=stage,
        why=why,
        matches=matches,
        next=frozenset(next_tables),
        again=name in next_tables,
    )


def number(tables: list[Table]) -> tuple[Table, ...]:
    """Give ids by order; every jump must name a table further down, or the packet could go round.

    Only one that says ``again`` may lead to itself.
    """
    place = {table.name: index for index, table in enumerate(tables)}
    for table in tables:
        for target in table.next:
            if place.get(target, -1) <= place[table.name] and not (table.again and target == table.name):
                raise PipelineError(f"table {table.name} cannot lead to {target}")
    return tuple(replace(table, id=place[table.name]) for table in tables)


TABLES = number(
    [
        _table(
            "Classifier",
            "Classifier",
            "learns from the port where a packet comes from",
            _fields(IN_PORT, ETH_TYPE, IP_PROTO, IPV6_SRC, IPV6_DST, ICMPV6_TYPE, ND_TARGET),
            "SpoofGuard",
            "ARPResponder",
        ),
        _table(
            "ARPResponder",
            "Validation",
            "answers ARP and NDP for the one gateway every host knows; nothing is flooded",
            _fields(ETH_TYPE, ARP_OP, ARP_TPA, IP_PROTO, ICMPV6_TYPE, ND_TARGET),
        ),
        _table(
            "SpoofGuard",
            "Validation",
            "lets pass only source addresses that belong to the port",
            _fields(IN_PORT, ETH_SRC, ETH_TYPE, *_SRC, IP_PROTO, *_L4_SRC),
            "UnSNAT",
            "L3Forwarding",
        ),
        _table(
            "UnSNAT",
            "ConntrackState",
            "gives replies to a masqueraded connection their first address back",
            _fields(ETH_TYPE, *_DST),
            "ConntrackZone",
        ),
        _table(
            "ConntrackZone",
            "ConntrackState",
            "tracks everything in the DNAT zone and undoes DNAT on replies",
            _fields(CT_STATE, ETH_TYPE, IP_FRAG),
            "Fragments",
            "ConntrackState",
        ),
        _table(
            "Fragments",
            "ConntrackState",
            "keeps the later fragments of a new connection waiting for what the first one chooses",
            _fields(CT_STATE, CT_ZONE, ETH_TYPE, IP_FRAG),
            "Fragments",
            "ConntrackState",
        ),
        _table(
            "ConntrackState",
            "ConntrackState",
            "drops the invalid, lets known connections skip the choosing",
            _fields(CT_STATE, CT_MARK, REG0, ETH_TYPE, IP_FRAG, IP_PROTO, ICMP_TYPE, ICMPV6_TYPE, *_CT_ASKED),
            "Connections",
            "NodePortMark",
            "L3Forwarding",
        ),
        _table(
            "Connections",
            "ConntrackState",
            "has a flow for each open connection that a scheduler counts",
            _fields(CT_STATE, ETH_TYPE, IP_PROTO, *_CT_ASKED, CT_NW_SRC, CT_IPV6_SRC, CT_TP_SRC),
        ),
        _table(
            "NodePortMark",
            "PreRouting",
            "marks what is addressed to this node, and what must carry its address",
            _fields(REG0, ETH_TYPE, *_DST),
            "SessionAffinity",
            "ServiceLB",
        ),
        _table(
            "SessionAffinity",
            "PreRouting",
            "remembers an earlier choice for a client (sessionAffinity: ClientIP)",
            _fields(ETH_TYPE, IP_PROTO, *_SRC, *_DST, *_L4_DST, REG4),
        ),
        _table(
            "ServiceLB",
            "PreRouting",
            "finds the Service port and has its group choose an endpoint",
            _fields(ETH_TYPE, IP_FRAG, IP_PROTO, *_SRC, *_DST, *_L4_DST, REG0, REG4),
            "Scheduler",
            "EndpointDNAT",
            "L3Forwarding",
        ),
        _table(
            "Scheduler",
            "PreRouting",
            "asks the kubeproxy for whom the next connection is, or the group while there is none",
            _fields(ETH_TYPE, IP_FRAG, REG5),
        ),
        _table(
            "SessionLearn",
            "PreRouting",
            "has SessionAffinity remember the choice for the client's next connections",
            _fields(ETH_TYPE, IP_PROTO, REG3, XXREG3, REG4, REG5),
            "EndpointDNAT",
        ),
        _table(
            "EndpointDNAT",
            "PreRouting",
            "translates the destination to the chosen endpoint, for good",
            _fields(ETH_TYPE, IP_PROTO, *_SRC, *_DST, *_L4_DST, REG3, XXREG3, REG4),
            "L3Forwarding",
        ),
        _table(
            "L3Forwarding",
            "Routing",
            "chooses port and MAC addresses by the destination",
            _fields(CT_STATE, CT_ZONE, ETH_TYPE, IP_FRAG, *_DST, REG4),
            "L3Forwarding",
            "SNATMark",
            "Output",
        ),
        _table(
            "SNATMark",
            "PostRouting",
            "decides for new connections whether they leave with the node's address",
            _fields(CT_STATE, CT_MARK, REG0, ETH_TYPE, *_DST),
            "SNAT",
            "Output",
        ),
        _table(
            "SNAT",
            "PostRouting",
            "translates the source in a zone of its own",
            _fields(CT_STATE, CT_MARK, REG0, ETH_TYPE, IP_PROTO, IP_FRAG, *_L4_SRC),
            "Output",
        ),
        _table(
            "Output",
            "Output",
            "counts the hop and sends, even back by the port it came in",
            _fields(CT_STATE, ETH_TYPE, IP_FRAG, REG0, REG1),
        ),
    ]
)
"""In order: a table's id is its place."""

(
    CLASSIFIER,
    ARP_RESPONDER,
    SPOOF_GUARD,
    UN_SNAT,
    CONNTRACK_ZONE,
    FRAGMENTS,
    CONNTRACK_STATE,
    CONNECTIONS,
    NODE_PORT_MARK,
    SESSION_AFFINITY,
    SERVICE_LB,
    SCHEDULER,
    SESSION_LEARN,
    ENDPOINT_DNAT,
    L3_FORWARDING,
    SNAT_MARK,
    SNAT,
    OUTPUT,
) = TABLES
TABLE_IDS = {table.name: table.id for table in TABLES}
TABLES_BY_ID = {table.id: table for table in TABLES}
