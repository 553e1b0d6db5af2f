"""[sig-network] DNS: names of Services and pods, what a pod's resolver is told, the server's own settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from controller.api.errors import Invalid
from controller.api.objects import Obj
from tests.conformance.case import NotThere, case
from tests.conformance.kit import Kit
from tests.conformance.names import ZONE, dig, full, library, name_server, resolves
from tests.conformance.objects import service_object
from tests.conformance.traffic import Target, ask

DNS, HOST, CONFIG, SCALE = "DNS", "DNS HostNetwork", "DNS configMap nameserver", "DNS at scale"
HTTP = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
HEADLESS, PLAIN = "dns-test-service", "test-service-2"
INJECTED = "192.0.2.123"
MANY, ASKED = 10_000, 500


def services(kit: Kit) -> tuple[Obj, str]:
    """Upstream's two: one headless, one with an address, over the same pod; the second one and the pod's
    address."""
    kit.service(HEADLESS, ports=[HTTP], app="web", clusterIP="None")
    plain = kit.service(PLAIN, ports=[HTTP], app="web")
    return plain, kit.ip(kit.pod("web", 1, app="web"))


def reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


# -- the cluster's own names


@case(DNS, "should provide DNS for the cluster")
def cluster(kit: Kit) -> None:
    resolves(kit, kit.client(2), f"kubernetes.default.svc.{ZONE}", ["10.96.0.1"], search=False)


@case(DNS, "should resolve DNS of partial qualified names for the cluster [LinuxOnly]")
def cluster_partial(kit: Kit) -> None:
    client = kit.client(2)
    for name in ("kubernetes.default", "kubernetes.default.svc"):
        resolves(kit, client, name, ["10.96.0.1"])
        library(kit, client, name, "10.96.0.1")


@case(DNS, "should provide /etc/hosts entries for the cluster")
def hosts_entries(kit: Kit) -> None:
    kit.service(HEADLESS, ports=[HTTP], app="querier", clusterIP="None")
    pod = kit.pod("querier", 1, hostname="dns-querier-1", subdomain=HEADLESS)
    for name in (full(kit, f"dns-querier-1.{HEADLESS}"), "dns-querier-1"):
        library(kit, f"pod/{pod}", name, kit.ip(pod))


# -- Services


@case(DNS, "should provide DNS for services")
def service_names(kit: Kit) -> None:
    (plain, address), client = services(kit), kit.client(2)
    cluster_ip = plain["spec"]["clusterIP"]
    resolves(kit, client, full(kit, HEADLESS), [address], search=False)
    resolves(kit, client, full(kit, PLAIN), [cluster_ip], search=False)
    dashed = address.replace(".", "-")
    target = f"0 100 8080 {full(kit, f'{dashed}.{HEADLESS}')}."
    resolves(kit, client, full(kit, f"_http._tcp.{HEADLESS}"), [target], "SRV", search=False)
    target = f"0 100 80 {full(kit, PLAIN)}."
    resolves(kit, client, full(kit, f"_http._tcp.{PLAIN}"), [target], "SRV", search=False)
    resolves(kit, client, reverse(cluster_ip), [full(kit, PLAIN) + "."], "PTR", search=False)


def _partial(kit: Kit, client: str, plain: Obj, address: str) -> None:
    cluster_ip = plain["spec"]["clusterIP"]
    dashed = address.replace(".", "-")
    for end in ("", f".{kit.namespace}", f".{kit.namespace}.svc"):
        resolves(kit, client, HEADLESS + end, [address])
        library(kit, client, HEADLESS + end, address)
        library(kit, client, PLAIN + end, cluster_ip)
    end = f"{kit.namespace}.svc"
    target = f"0 100 8080 {full(kit, f'{dashed}.{HEADLESS}')}."
    resolves(kit, client, f"_http._tcp.{HEADLESS}.{end}", [target], "SRV")
    resolves(kit, client, f"_http._tcp.{PLAIN}.{end}", [f"0 100 80 {full(kit, PLAIN)}."], "SRV")
    resolves(kit, client, reverse(cluster_ip), [full(kit, PLAIN) + "."], "PTR")


@case(DNS, "should resolve DNS of partial qualified names for services [LinuxOnly]")
def service_partial(kit: Kit) -> None:
    plain, address = services(kit)
    _partial(kit, kit.client(2), plain, address)


@case(
    HOST,
    "should resolve DNS of partial qualified names for services on hostNetwork pods "
    "with dnsPolicy: ClusterFirstWithHostNet [LinuxOnly]",
)
def host_network(kit: Kit) -> None:
    plain, address = services(kit)
    kit.pod("on-host", 2, port=10380, host_network=True, dnsPolicy="ClusterFirstWithHostNet")
    _partial(kit, "pod/on-host", plain, address)


@case(DNS, "should provide DNS for ExternalName services")
def external_name(kit: Kit) -> None:
    kit.service("dns-test-service-3", app=None, ports=[], type="ExternalName", externalName="foo.example.com")
    client, name = kit.client(2), full(kit, "dns-test-service-3")
    resolves(kit, client, name, ["foo.example.com."], "CNAME")
    kit.patch("Service", "dns-test-service-3", {"spec": {"externalName": "bar.example.com"}})
    resolves(kit, client, name, ["bar.example.com."], "CNAME")
    change = {"type": "ClusterIP", "externalName": None, "ports": [HTTP]}
    kit.patch("Service", "dns-test-service-3", {"spec": change})
    resolves(kit, client, name, [kit.get("Service", "dns-test-service-3")["spec"]["clusterIP"]])


@case(SCALE, "ClusterDns should create pod that uses dns")
def cluster_dns(kit: Kit) -> None:
    """Upstream's example has its backends in two namespaces; the second here is kube-system's kube-dns."""
    service, pods = kit.service("dns-backend"), kit.pods("dns-backend", (1, 2))
    client = kit.client(3)
    library(kit, client, "dns-backend", service["spec"]["clusterIP"])
    library(kit, client, f"dns-backend.{kit.namespace}.svc.{ZONE}", service["spec"]["clusterIP"])
    library(kit, client, "kube-dns.kube-system", "10.96.0.10")
    kit.by_name(client, service, pods, strict=True)


@case(
    DNS, "should work with a service name that starts with a digit [FeatureGate:RelaxedServiceNameValidation]"
)
def digit(kit: Kit) -> None:
    try:
        service = kit.service("1kubernetes")
    except Invalid as error:
        why = "DNS-1035" if "a DNS-1035 label must" in str(error) else str(error)
        raise NotThere(f"the feature gate RelaxedServiceNameValidation: names are checked by {why}") from None
    resolves(kit, kit.client(2), full(kit, "1kubernetes"), [service["spec"]["clusterIP"]])


@case(
    SCALE,
    "[Feature:PerformanceDNS] Should answer DNS query for maximum number of services per cluster",
    slow=True,
)
def many_services(kit: Kit) -> None:
    """Upstream asks for five in a hundred of the names."""
    client = kit.host(kit.client(2))
    made = [kit.create(service_object(f"svc-{number}", app=None)) for number in range(MANY)]
    kit.settle()
    for service in made[:: MANY // ASKED]:
        resolves(kit, client, full(kit, service["metadata"]["name"]), [service["spec"]["clusterIP"]])


# -- pods


@case(DNS, "should provide DNS for pods for Hostname")
def pod_hostname(kit: Kit) -> None:
    kit.service("dns-test-service-2", ports=[HTTP], app="querier", clusterIP="None")
    pod = kit.pod("querier", 1, hostname="dns-querier-2", subdomain="dns-test-service-2")
    name = full(kit, "dns-querier-2.dns-test-service-2")
    library(kit, f"pod/{pod}", name, kit.ip(pod))
    library(kit, f"pod/{pod}", "dns-querier-2", kit.ip(pod))
    resolves(kit, kit.client(2), name, [kit.ip(pod)], search=False)


@case(DNS, "should provide DNS for pods for Subdomain")
def pod_subdomain(kit: Kit) -> None:
    kit.service("dns-test-service-2", ports=[HTTP], app="querier", clusterIP="None")
    pod = kit.pod("querier", 1, hostname="dns-querier-2", subdomain="dns-test-service-2")
    client = kit.client(2)
    for name in ("dns-querier-2.dns-test-service-2", "dns-test-service-2"):
        resolves(kit, client, full(kit, name), [kit.ip(pod)], search=False)


@case(HOST, "spec.Hostname field is not silently ignored and is used for hostname for a Pod", own=True)
@case(
    HOST,
    "spec.Hostname field is silently ignored and the node hostname is used "
    "when hostNetwork is set to true for a Pod",
    own=False,
)
def host_name(kit: Kit, own: bool) -> None:
    kit.pod("named", 2, hostname="hostnamefield", port=10380, host_network=not own)
    found = kit.host("pod/named").run(["hostname"]).stdout.strip()
    assert found == ("hostnamefield" if own else "node2"), found


# -- what a pod's resolver is told


def resolv_conf(kit: Kit, pod: str) -> list[list[str]]:
    return [
        line.split() for line in kit.host(f"pod/{pod}").run(["cat", "/etc/resolv.conf"]).stdout.splitlines()
    ]


@case(DNS, "should support configurable pod DNS nameservers")
def own_servers(kit: Kit) -> None:
    config = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]}
    lines = resolv_conf(kit, kit.pod("configured", 1, dnsPolicy="None", dnsConfig=config))
    assert ["nameserver", "1.1.1.1"] in lines, lines
    assert ["search", "resolv.conf.local"] in lines, lines
    assert not any(line[0] == "nameserver" and line[1] != "1.1.1.1" for line in lines), lines


@case(DNS, "should support configurable pod resolv.conf", searches=["resolv.conf.local"])
@case(
    DNS,
    "should work with the pod containing more than 6 DNS search paths "
    "and longer than 256 search list characters",
    searches=[*(f"{'x' * 50}{number}.example.com" for number in range(7)), "resolv.conf.local"],
)
def own_resolv_conf(kit: Kit, searches: list[str]) -> None:
    """The pod's own name server knows one name, of the last search path. Upstream's is a CoreDNS."""
    kit.pod("server", 1)
    with name_server(kit.host("pod/server"), {("notexistname.resolv.conf.local", "A"): INJECTED}) as server:
        config: Obj = {"nameservers": [server], "searches": searches}
        config["options"] = [{"name": "ndots", "value": "2"}]
        pod = kit.pod("asks", 2, dnsPolicy="None", dnsConfig=config)
        lines = resolv_conf(kit, pod)
        assert ["options", "ndots:2"] in lines, lines
        assert ["search", *searches] in lines, lines
        found = dig(kit, f"pod/{pod}", "notexistname")
        assert found == {INJECTED}, found


@case(DNS, "should work with a search path containing an underscore and a search path with a single dot")
def odd_searches(kit: Kit) -> None:
    config = {"searches": [".", "_sip._tcp.abc_d.example.com"]}
    pod = kit.pod("odd", 2, dnsPolicy="ClusterFirst", dnsConfig=config)
    (search,) = [line for line in resolv_conf(kit, pod) if line[0] == "search"]
    assert search[-2:] == config["searches"], search
    library(kit, f"pod/{pod}", "kubernetes.default", "10.96.0.1")


# -- the server's settings


@contextlib.contextmanager
def corefile(kit: Kit, change: dict[str, str], more: str = "") -> Iterator[None]:
    """CoreDNS' ConfigMap with words changed and lines added; as it was afterwards."""
    api = kit.client_api
    before = api.get("ConfigMap", "coredns", "kube-system")["data"]["Corefile"]
    text = before
    for word, other in change.items():
        assert word in text, f"the Corefile does not say {word!r}"
        text = text.replace(word, other)
    try:
        api.patch("ConfigMap", "coredns", {"data": {"Corefile": text + more}}, "kube-system")
        yield
    finally:
        api.patch("ConfigMap", "coredns", {"data": {"Corefile": before}}, "kube-system")


UPSTREAM = "/etc/resolv.conf"


@case(CONFIG, "Change stubDomain should be able to change stubDomain configuration")
def stub_domain(kit: Kit) -> None:
    kit.pod("server", 1)
    client = kit.client(2)
    with name_server(kit.host("pod/server"), {("abc.acme.local", "A"): "192.0.2.10"}) as server:
        with corefile(kit, {}, f"acme.local:53 {{\n    forward . {server}\n}}\n"):
            resolves(kit, client, "abc.acme.local", ["192.0.2.10"], search=False)
        resolves(kit, client, "abc.acme.local", [], search=False)


@case(CONFIG, "Forward PTR lookup should forward PTR records lookup to upstream nameserver")
def forward_ptr(kit: Kit) -> None:
    client, records = kit.client(2), {(reverse(INJECTED), "PTR"): "my.test."}
    with name_server(kit.outside(), records) as server, corefile(kit, {UPSTREAM: server}):
        resolves(kit, client, reverse(INJECTED), ["my.test."], "PTR", search=False)
        resolves(kit, client, reverse("10.96.0.1"), [f"kubernetes.default.svc.{ZONE}."], "PTR", search=False)


@case(CONFIG, "Forward external name lookup should forward externalname lookup to upstream nameserver")
def forward_external_name(kit: Kit) -> None:
    kit.service("upstream", app=None, ports=[], type="ExternalName", externalName="dns.google")
    client = kit.client(2)
    records = {("dns.google", "A"): INJECTED}
    with name_server(kit.outside(), records) as server, corefile(kit, {UPSTREAM: server}):
        resolves(kit, client, full(kit, "upstream"), ["dns.google.", INJECTED], search=False)


@case(DNS, "should provide DNS for the cluster [Provider:GCE]")
@case("Networking by name", "should provide Internet connection for containers [Feature:Networking-DNS]")
def internet_names(kit: Kit) -> None:
    """client1 is the internet: name server and web site. What it refuses came by the name."""
    client, site = kit.client(2), kit.outside()
    records = {("google.com", "A"): str(site.ip)}
    with name_server(site, records) as server, corefile(kit, {UPSTREAM: server}):
        resolves(kit, client, "google.com", [str(site.ip)])
        library(kit, client, "google.com", str(site.ip))
    assert ask(kit.host(client), Target(address=str(site.ip), port=80)).fate == "refused"
