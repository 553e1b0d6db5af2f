"""Services and EndpointSlices in kube-proxy's words: ServicePortName, ServicePort, Endpoint.

Pure reading of objects as the API server serves them. Which endpoint gets traffic is ``topology``'s
question; flows are built elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from types import MappingProxyType
from typing import Any, NamedTuple

from controller.api import wiring
from controller.kubeproxy.fields import Family
from controller.kubeproxy.schedulers import Scheduler, read_scheduler

Obj = dict[str, Any]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
DEFAULT_AFFINITY_SECONDS = 10800


class ServicePortName(NamedTuple):
    """A port of a Service, as kube-proxy names it, and its family: kube-proxy has a proxier for each."""

    namespace: str
    name: str
    port: str
    protocol: str
    family: str = "IPv4"

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        text = f"{self.namespace}/{self.name}{port}/{self.protocol}"
        return text if self.family == "IPv4" else f"{text}/{self.family}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service in one address family, with all that decides about its traffic."""

    name: ServicePortName
    family: Family
    cluster_ip: Address
    port: int
    node_port: int = 0
    external_ips: tuple[Address, ...] = ()
    load_balancer_ips: tuple[Address, ...] = ()
    source_ranges: tuple[Network, ...] = ()
    external_local: bool = False
    internal_local: bool = False
    affinity_seconds: int = 0
    health_check_node_port: int = 0
    traffic_distribution: str = ""
    scheduler: Scheduler | None = None
    """None: the default, an even hash."""

    @property
    def external_addresses(self) -> tuple[Address, ...]:
        """Where it is asked for from outside, node ports aside."""
        return tuple(dict.fromkeys(self.external_ips + self.load_balancer_ips))

    @property
    def is_external(self) -> bool:
        return bool(self.node_port or self.external_addresses)

    @property
    def uses_cluster(self) -> bool:
        """External traffic needs them even under policy Local: for what comes from the node and its pods."""
        return not self.internal_local or self.is_external


class EndpointKey(NamedTuple):
    """An endpoint whatever Service it is of. Its address as a number: ``Address`` takes long to hash."""

    ip: int
    port: int
    protocol: str
    family: str

    @property
    def address(self) -> Address:
        return IPv4Address(self.ip) if self.family == "IPv4" else IPv6Address(self.ip)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.family == "IPv6" else str(self.address)
        return f"{host}:{self.port}/{self.protocol}"


class Endpoint(NamedTuple):
    """One address and port behind a Service port."""

    address: Address
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    zone: str = ""
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    weight: int = 1

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


def in_order(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """By address and port: so the order of a group's buckets is stable."""
    return sorted(endpoints, key=lambda endpoint: (int(endpoint.address), endpoint.port))


def service_key(service: Obj) -> tuple[str, str]:
    metadata = service["metadata"]
    return metadata.get("namespace", "default"), metadata["name"]


def proxied(service: Obj) -> bool:
    """Whether kube-proxy handles this Service at all: not headless, not a name only, not another proxy's."""
    spec, labels = service.get("spec", {}), service["metadata"].get("labels") or {}
    cluster_ip = spec.get("clusterIP", "")
    return (
        spec.get("type", "ClusterIP") != "ExternalName"
        and cluster_ip not in ("", "None")
        and PROXY_NAME_LABEL not in labels
        and HEADLESS_LABEL not in labels
    )


def _address(text: str, family: Family) -> Address:
    """One of this family, in a third of the time ``ipaddress`` takes to read a text."""
    return family.address(inet_pton(AF_INET if family.address is IPv4Address else AF_INET6, text))


def _addresses(texts: Iterable[str], family: Family) -> tuple[Address, ...]:
    return tuple(a for a in map(ip_address, texts) if isinstance(a, family.address))


def service_ports(service: Obj, family: Family) -> list[ServicePort]:
    """The ports that kube-proxy serves for this Service in this family; none when it is not proxied."""
    if not proxied(service):
        return []
    spec = service["spec"]
    cluster_ips = _addresses(spec.get("clusterIPs") or [spec["clusterIP"]], family)
    if not cluster_ips:
        return []
    namespace, name = service_key(service)
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        affinity = client_ip.get("timeoutSeconds", DEFAULT_AFFINITY_SECONDS)
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    scheduler, _ = read_scheduler((service["metadata"].get("annotations") or {}).get(wiring.SCHEDULER))
    vips = [entry["ip"] for entry in ingress if entry.get("ip") and entry.get("ipMode", "VIP") == "VIP"]
    ranges = (ip_network(text.strip(), strict=False) for text in spec.get("loadBalancerSourceRanges") or ())
    # Only those of this family count, as in kube-proxy: IPv4 ranges alone leave IPv6 open to everyone.
    of_family = tuple(net for net in ranges if isinstance(net.network_address, family.address))
    return [
        ServicePort(
            name=ServicePortName(
                namespace, name, port.get("name", ""), port.get("protocol", "TCP"), family.name
            ),
            family=family,
            cluster_ip=cluster_ips[0],
            port=port["port"],
            node_port=port.get("nodePort", 0) if spec.get("type") in ("NodePort", "LoadBalancer") else 0,
            external_ips=_addresses(spec.get("externalIPs") or [], family),
            load_balancer_ips=_addresses(vips, family),
            source_ranges=of_family,
            external_local=spec.get("externalTrafficPolicy") == "Local",
            internal_local=spec.get("internalTrafficPolicy") == "Local",
            affinity_seconds=affinity,
            health_check_node_port=spec.get("healthCheckNodePort", 0),
            traffic_distribution=spec.get("trafficDistribution", ""),
            scheduler=scheduler,
        )
        for port in spec.get("ports") or []
    ]


def slice_service(endpoint_slice: Obj) -> tuple[str, str] | None:
    """(namespace, name) of the Service a slice belongs to; None when it says no name."""
    metadata = endpoint_slice["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_NAME_LABEL)
    return (metadata.get("namespace", "default"), name) if name else None


Weights = Mapping[tuple[str, str], int]
"""By (namespace, name) of pods; what is not in it weighs 1."""


def slice_endpoints(
    endpoint_slice: Obj, family: Family, weights: Weights
) -> Iterator[tuple[tuple[str, str], Endpoint]]:
    """((port name, protocol), endpoint) of everything in one slice of this family.

    Conditions that are absent mean: ready and serving, not terminating (as upstream reads them). A port
    without a number means "all ports" upstream and is for Services without meaning: left out.
    """
    if endpoint_slice.get("addressType", "IPv4") != family.name:
        return
    ports = [
        ((p.get("name") or "", p.get("protocol") or "TCP"), p["port"])
        for p in endpoint_slice.get("ports") or []
        if p.get("port")
    ]
    namespace = endpoint_slice["metadata"].get("namespace", "default")
    for entry in endpoint_slice.get("endpoints") or []:
        addresses = entry.get("addresses")
        if not addresses:
            continue
        conditions = entry.get("conditions") or {}
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        hints = entry.get("hints") or {}
        address = _address(addresses[0], family)
        target = (entry.get("targetRef") or {}).get("name") or ""
        weight = weights.get((namespace, target), 1) if weights else 1
        for key, port in ports:
            yield (
                key,
                Endpoint(
                    address,
                    port,
                    ready,
                    ready if serving is None else serving,
                    conditions.get("terminating") is True,
                    entry.get("nodeName") or "",
                    entry.get("zone") or "",
                    tuple(h["name"] for h in hints.get("forZones") or ()) if hints else (),
                    tuple(h["name"] for h in hints.get("forNodes") or ()) if hints else (),
                    weight,
                ),
            )


def merge(
    slices: Iterable[Obj], family: Family, weights: Weights = MappingProxyType({})
) -> dict[tuple[str, str], dict[tuple[int, int], Endpoint]]:
    """All slices of one Service: by (port name, protocol) the endpoints by (address as a number, port).

    The same endpoint in two slices (a move under way) counts once; the better state wins, so that the
    result does not depend on the order of the slices.
    """
    found: dict[tuple[str, str], dict[tuple[int, int], Endpoint]] = {}
    for endpoint_slice in slices:
        for key, endpoint in slice_endpoints(endpoint_slice, family, weights):
            endpoints = found.setdefault(key, {})
            place = int(endpoint.address), endpoint.port
            known = endpoints.get(place)
            if known is None or known < endpoint:
                endpoints[place] = endpoint
    return found
