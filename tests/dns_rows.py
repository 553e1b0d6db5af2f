"""DNS questions and their answers over one set of objects: for the pure records and for the wire.

The objects can be applied to any cluster. Rows follow CoreDNS' handler_test and the specification 1.1.0.

    testns    Services 10.96.10.x, endpoints 10.244.200.x, fd00::200:x
    bare      a namespace without anything
"""

from __future__ import annotations

from typing import Any, NamedTuple

Obj = dict[str, Any]
ZONE = "cluster.local."
NS = "testns"
NODATA, NXDOMAIN, NOERROR = "NODATA", "NXDOMAIN", "NOERROR"


class Row(NamedTuple):
    """``answers``: sorted lines ``TYPE data``, or ``name TYPE data`` where the name is not the question's."""

    says: str
    name: str
    type: str
    rcode: str
    answers: tuple[str, ...] = ()


def namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(name: str, address: str = "", *ports: tuple[str, str, int], **spec: Any) -> Obj:
    said: Obj = {"ports": [{"name": n, "protocol": p, "port": number} for n, p, number in ports]}
    if address:
        said["clusterIP"] = address
        said["clusterIPs"] = [address]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NS},
        "spec": {**said, **spec},
    }


def endpoint_slice(name: str, service_name: str, endpoints: list[Obj], *ports: tuple[str, str, int]) -> Obj:
    v6 = any(":" in address for endpoint in endpoints for address in endpoint["addresses"])
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NS,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv6" if v6 else "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": n, "protocol": p, "port": number} for n, p, number in ports],
    }


def endpoint(address: str, hostname: str = "", *, ready: bool = True, zone: str = "") -> Obj:
    made: Obj = {"addresses": [address], "conditions": {"ready": ready}}
    if hostname:
        made["hostname"] = hostname
    if zone:
        made["zone"] = zone
    return made


HTTP = ("http", "TCP", 80)
C_PORT = ("c-port", "UDP", 1234)
OBJECTS: list[Obj] = [
    namespace(NS),
    namespace("bare"),
    service("svc1", "10.96.10.1", HTTP),
    service("svc2", "10.96.10.2", HTTP, C_PORT),
    service("svcempty", "10.96.10.3", HTTP),
    service("external", type="ExternalName", externalName="svc1.testns.svc.cluster.local"),
    service("loop1", type="ExternalName", externalName="loop2.testns.svc.cluster.local"),
    service("loop2", type="ExternalName", externalName="loop1.testns.svc.cluster.local"),
    service("dangling", type="ExternalName", externalName="nobody.testns.svc.cluster.local"),
    service("hdls1", "None", HTTP, C_PORT),
    service("hdlsports", "None"),
    service("hdlsempty", "None", HTTP),
    service("hdlsdual", "None", HTTP),
    endpoint_slice("svc1-a", "svc1", [endpoint("10.244.200.9", "ep1a")], HTTP),
    endpoint_slice(
        "hdls1-a",
        "hdls1",
        [
            endpoint("10.244.200.2", zone="east"),
            endpoint("10.244.200.3", "dup-name", zone="west"),
            endpoint("10.244.200.4", "dup-name", zone="west"),
            endpoint("10.244.200.8", "late", ready=False),
        ],
        HTTP,
        C_PORT,
    ),
    endpoint_slice("hdls1-b", "hdls1", [endpoint("10.244.200.5", "web-0")], HTTP),
    endpoint_slice("hdlsports-a", "hdlsports", [endpoint("10.244.200.20", "db-0")]),
    endpoint_slice("hdlsempty-a", "hdlsempty", [endpoint("10.244.200.30", ready=False)], HTTP),
    endpoint_slice("hdlsdual-a", "hdlsdual", [endpoint("10.244.200.40", "both")], HTTP),
    endpoint_slice("hdlsdual-b", "hdlsdual", [endpoint("fd00::200:40", "both")], HTTP),
]

_T = f"{NS}.svc.{ZONE}"
ROWS: tuple[Row, ...] = (
    Row("a Service has its ClusterIP", f"svc1.{_T}", "A", NOERROR, ("A 10.96.10.1",)),
    Row("names have no case", "SVC1.TestNS.svc.cluster.LOCAL.", "A", NOERROR, ("A 10.96.10.1",)),
    Row("an IPv4 Service has no AAAA", f"svc1.{_T}", "AAAA", NODATA),
    Row("nor a CNAME", f"svc1.{_T}", "CNAME", NODATA),
    Row("nor a TXT", f"svc1.{_T}", "TXT", NODATA),
    Row("nor an MX", f"svc1.{_T}", "MX", NODATA),
    Row("no Service, no name", f"svc0.{_T}", "A", NXDOMAIN),
    Row("and no name of another type", f"svc0.{_T}", "TXT", NXDOMAIN),
    Row("no namespace, no name", f"svc1.nowhere.svc.{ZONE}", "A", NXDOMAIN),
    Row("a Service without endpoints keeps its address", f"svcempty.{_T}", "A", NOERROR, ("A 10.96.10.3",)),
    Row("a named port", f"_http._tcp.svc1.{_T}", "SRV", NOERROR, (f"SRV 0 100 80 svc1.{_T}",)),
    Row("a port is of one protocol", f"_http._udp.svc1.{_T}", "SRV", NXDOMAIN),
    Row("a port that is not there", f"_smtp._tcp.svc1.{_T}", "SRV", NXDOMAIN),
    Row("all ports of a Service", f"svc2.{_T}", "SRV", NOERROR,
        (f"SRV 0 50 1234 svc2.{_T}", f"SRV 0 50 80 svc2.{_T}")),
    Row("the address of a port", f"_http._tcp.svc1.{_T}", "A", NOERROR, ("A 10.96.10.1",)),
    Row("too many labels", f"a.b.c.svc1.{_T}", "A", NXDOMAIN),
    Row("an endpoint of a ClusterIP Service", f"ep1a.svc1.{_T}", "A", NOERROR, ("A 10.244.200.9",)),
    Row("a headless Service has its ready endpoints", f"hdls1.{_T}", "A", NOERROR,
        ("A 10.244.200.2", "A 10.244.200.3", "A 10.244.200.4", "A 10.244.200.5")),
    Row("an endpoint by its host name", f"web-0.hdls1.{_T}", "A", NOERROR, ("A 10.244.200.5",)),
    Row("two endpoints of one host name", f"dup-name.hdls1.{_T}", "A", NOERROR,
        ("A 10.244.200.3", "A 10.244.200.4")),
    Row("an endpoint by its address", f"10-244-200-2.hdls1.{_T}", "A", NOERROR, ("A 10.244.200.2",)),
    Row("with a host name it has no other", f"10-244-200-5.hdls1.{_T}", "A", NXDOMAIN),
    Row("an endpoint that is not ready has none", f"late.hdls1.{_T}", "A", NXDOMAIN),
    Row("an endpoint that is not there", f"bogusendpoint.hdls1.{_T}", "A", NXDOMAIN),
    Row("a headless Service has no AAAA of IPv4 endpoints", f"hdls1.{_T}", "AAAA", NODATA),
    Row("SRV of a headless Service's port", f"_c-port._udp.hdls1.{_T}", "SRV", NOERROR,
        (f"SRV 0 33 1234 10-244-200-2.hdls1.{_T}", f"SRV 0 33 1234 dup-name.hdls1.{_T}")),
    Row("a headless Service without ports", f"hdlsports.{_T}", "A", NOERROR, ("A 10.244.200.20",)),
    Row("has no SRV", f"hdlsports.{_T}", "SRV", NODATA),
    Row("a headless Service with nobody ready", f"hdlsempty.{_T}", "A", NXDOMAIN),
    Row("both families: A", f"hdlsdual.{_T}", "A", NOERROR, ("A 10.244.200.40",)),
    Row("both families: AAAA", f"hdlsdual.{_T}", "AAAA", NOERROR, ("AAAA fd00::200:40",)),
    Row("both families: one SRV", f"_http._tcp.hdlsdual.{_T}", "SRV", NOERROR,
        (f"SRV 0 50 80 both.hdlsdual.{_T}",)),
    Row("an ExternalName within the cluster", f"external.{_T}", "A", NOERROR,
        (f"CNAME svc1.{_T}", f"svc1.{_T} A 10.96.10.1")),
    Row("its CNAME alone", f"external.{_T}", "CNAME", NOERROR, (f"CNAME svc1.{_T}",)),
    Row("it has no SRV", f"external.{_T}", "SRV", NODATA),
    Row("nothing lies below it", f"ep.external.{_T}", "A", NXDOMAIN),
    Row("names that lead to each other", f"loop1.{_T}", "A", NODATA),
    Row("a name that leads to nobody", f"dangling.{_T}", "A", NODATA),
    Row("a pod by its address", f"10-244-1-2.bare.pod.{ZONE}", "A", NOERROR, ("A 10.244.1.2",)),
    Row("it is one of the family", f"10-244-1-2.bare.pod.{ZONE}", "AAAA", NODATA),
    Row("a pod by its IPv6 address", f"fd00--1.bare.pod.{ZONE}", "AAAA", NOERROR, ("AAAA fd00::1",)),
    Row("no pod has a name", f"frontend-x.bare.pod.{ZONE}", "A", NXDOMAIN),
    Row("nor one in no namespace", f"10-244-1-2.nowhere.pod.{ZONE}", "A", NXDOMAIN),
    Row("the zone", ZONE, "A", NODATA),
    Row("all Services", f"svc.{ZONE}", "A", NODATA),
    Row("all pods", f"pod.{ZONE}", "A", NODATA),
    Row("a namespace", _T, "A", NODATA),
    Row("no such namespace", f"foo.svc.{ZONE}", "A", NXDOMAIN),
    Row("a name beside them", f"foo.{ZONE}", "A", NXDOMAIN),
    Row("the specification's version", f"dns-version.{ZONE}", "TXT", NOERROR, ('TXT "1.1.0"',)),
    Row("which has no address", f"dns-version.{ZONE}", "A", NODATA),
    Row("who answers for the zone", ZONE, "SOA", NOERROR,
        ("SOA ns.dns.cluster.local. hostmaster.cluster.local. * 7200 1800 86400 30",)),
    Row("a ClusterIP back to its name", "1.10.96.10.in-addr.arpa.", "PTR", NOERROR, (f"PTR svc1.{_T}",)),
    Row("an endpoint back to its name", "5.200.244.10.in-addr.arpa.", "PTR", NOERROR,
        (f"PTR web-0.hdls1.{_T}",)),
    Row("an endpoint without a host name", "2.200.244.10.in-addr.arpa.", "PTR", NOERROR,
        (f"PTR 10-244-200-2.hdls1.{_T}",)),
    Row("an IPv6 endpoint back to its name",
        "0.4.0.0.0.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", "PTR", NOERROR,
        (f"PTR both.hdlsdual.{_T}",)),
    Row("a reverse name has nothing else", "1.10.96.10.in-addr.arpa.", "A", NODATA),
)  # fmt: skip
