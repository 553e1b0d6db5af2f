"""ClusterIPs and NodePorts: what a Service is given when it is admitted.

Called by the registry before a Service is stored, on create and on update, with the Services that
exist; returns the Service with its addresses and ports filled in, or raises Invalid in Kubernetes'
own words. Pure: what is in use is an argument (``InUse`` is the same fact kept incrementally).

Kubernetes draws at random from the upper (dynamic) band of a range, so that what people write into
manifests by hand, usually low numbers, rarely collides (KEP-3070, KEP-3668). A lab should give the
same addresses on every run: we take a stable hash of namespace/name into the same upper band and
probe onward from there; the lower band is used only when the upper is full.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from controller.api.errors import ApiError
from controller.api.objects import Obj, copy
from controller.api.rules_families import HEADLESS
from controller.api.rules_metadata import decimal
from controller.api.status import INVALID, FieldError, invalid
from controller.api.wiring import FAMILIES_OF, NODE_PORTS, SERVICE_NET
from controller.api.wiring import RANGES as ADDRESSES
from controller.managers import families

_TAKEN = "provided port is already allocated"
_VIRTUAL = ("ClusterIP", "NodePort", "LoadBalancer")


def _reserved(networks: Iterable[IPv4Network | IPv6Network]) -> dict[str, tuple[str, str]]:
    made: dict[str, tuple[str, str]] = {}
    for network in networks:
        made[str(network[1])] = ("default", "kubernetes")
        made[str(network[10])] = ("kube-system", "kube-dns")
    return made


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What may be handed out. ``networks``: by family, the primary one first. ``reserved``: address -> the
    one (namespace, name) that may have it."""

    networks: Mapping[str, IPv4Network | IPv6Network] = field(default_factory=lambda: {"IPv4": SERVICE_NET})
    node_ports: range = NODE_PORTS
    reserved: Mapping[str, tuple[str, str]] = field(default_factory=lambda: _reserved([SERVICE_NET]))


RANGES = Ranges()


def ranges_of(ip_family: str) -> Ranges:
    """Those of a cluster by its ``--ip-family`` (``ipv4`` or ``dual``)."""
    networks = {family: ADDRESSES[family].services for family in FAMILIES_OF[ip_family]}
    return Ranges(networks=networks, reserved=_reserved(networks.values()))


def static_addresses(size: int) -> int:
    """How many of the lowest addresses of a range are left to manifests: KEP-3070."""
    return min(max(16, size // 16), 256) if size > 16 else 0


def static_ports(size: int) -> int:
    """How many of the lowest NodePorts are left to manifests (86 of 30000-32767): KEP-3668."""
    return min(max(16, size // 32), 128) if size > 16 else 0


class InUse:
    """The addresses and ports that existing Services hold; the registry may keep one incrementally."""

    def __init__(self, services: Iterable[Obj] = ()) -> None:
        self.addresses: dict[str, tuple[str, str]] = {}
        self.ports: dict[int, tuple[str, str]] = {}
        for service in services:
            self.add(service)

    def add(self, service: Obj) -> None:
        who = _who(service)
        self.addresses.update(dict.fromkeys(addresses_of(service), who))
        self.ports.update(dict.fromkeys(ports_of(service), who))

    def remove(self, service: Obj) -> None:
        who = _who(service)
        for address in addresses_of(service):
            if self.addresses.get(address) == who:
                del self.addresses[address]
        for port in ports_of(service):
            if self.ports.get(port) == who:
                del self.ports[port]


def addresses_of(service: Obj) -> list[str]:
    """The virtual addresses a Service holds; none for a headless one."""
    spec = service.get("spec") or {}
    found = list(spec.get("clusterIPs") or ()) or [spec.get("clusterIP")]
    return [address for address in found if address and address != HEADLESS]


def ports_of(service: Obj) -> list[int]:
    """The NodePorts a Service holds, its health check port among them.

    One number belongs to one Service whatever the protocol, as upstream; within a Service TCP and
    UDP may share it.
    """
    spec = service.get("spec") or {}
    numbers = [port.get("nodePort") for port in spec.get("ports") or ()]
    return [number for number in (*numbers, spec.get("healthCheckNodePort")) if number]


def allocate_service(
    service: Obj,
    services: Iterable[Obj] | InUse,
    *,
    old: Obj | None = None,
    ranges: Ranges = RANGES,
) -> Obj:
    """The Service as it is to be stored: a copy of ``service`` with addresses and ports.

    ``services``: those that exist (``old``, the stored version of an update, may be among them; when
    it is not given it is looked for there). Raises Invalid.
    """
    if not isinstance(services, InUse):
        services = list(services)
        if old is None:
            old = next((other for other in services if _who(other) == _who(service)), None)
        services = InUse(services)
    made = copy(service)
    spec = made.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    _in_one_form(spec)
    _normalize(spec, old["spec"] if old else {})
    if old is not None:
        _keep(spec, old["spec"])
        _drop(spec, old["spec"])
    allocation = _Allocation(made, services, old, ranges)
    if _needs_cluster_ip(spec):
        allocation.cluster_ips()
    if _needs_node_port(spec):
        allocation.node_ports()
    if _needs_health_check(spec):
        allocation.health_check_port()
    return made


def _who(service: Obj) -> tuple[str, str]:
    metadata = service["metadata"]
    return metadata.get("namespace") or "default", metadata["name"]


def _needs_cluster_ip(spec: Mapping[str, Any]) -> bool:
    return spec.get("type", "ClusterIP") in _VIRTUAL


def _needs_node_port(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _allocates_node_ports(spec: Mapping[str, Any]) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def _needs_health_check(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _in_one_form(spec: Obj) -> None:
    """Stored in the one spelling that every reader understands; what is no address is left to the rules."""
    if spec.get("clusterIP"):
        spec["clusterIP"] = _canonical(spec["clusterIP"])
    if spec.get("clusterIPs"):
        spec["clusterIPs"] = [_canonical(address) for address in spec["clusterIPs"]]


def _canonical(text: str) -> str:
    try:
        return str(ip_address(decimal(text)))
    except ValueError:
        return text


def _normalize(spec: Obj, old: Mapping[str, Any]) -> None:
    """clusterIP is the elder twin of clusterIPs[0]: who wrote or changed only that one meant both."""
    address = spec.get("clusterIP")
    if address != old.get("clusterIP") and spec.get("clusterIPs") == old.get("clusterIPs"):
        if address:
            spec["clusterIPs"] = [address]
        else:
            spec.pop("clusterIPs", None)
    elif address and address != old.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [address]


def _keep(spec: Obj, old: Mapping[str, Any]) -> None:
    """What was allocated and is not mentioned stays: a manifest applied again changes no address."""
    if _needs_cluster_ip(spec) and _needs_cluster_ip(old):
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        if (
            not spec.get("clusterIPs")
            and spec.get("clusterIP") == old.get("clusterIP")
            and old.get("clusterIPs")
        ):
            spec["clusterIPs"] = old.get("clusterIPs")
    if _needs_node_port(spec) and _needs_node_port(old):
        before = {port.get("name", ""): port.get("nodePort") for port in old.get("ports") or ()}
        after = spec.get("ports") or ()
        taken = {port.get("nodePort") for port in after} & set(before.values())
        for port in after:
            kept = before.get(port.get("name", ""))
            if not port.get("nodePort") and kept and kept not in taken:
                port["nodePort"] = kept
    if _needs_health_check(spec) and _needs_health_check(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old.get("healthCheckNodePort")


def _drop(spec: Obj, old: Mapping[str, Any]) -> None:
    """What the new type has no use for is released, if it is merely what was allocated before."""
    if (
        _needs_cluster_ip(old)
        and not _needs_cluster_ip(spec)
        and spec.get("clusterIP", "") in ("", old.get("clusterIP"))
    ):
        spec.pop("clusterIP", None)
        for word in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(word) == old.get(word):
                spec.pop(word, None)
    if _needs_node_port(old) and not _needs_node_port(spec):
        before = {port.get("nodePort") for port in old.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in before:
                port.pop("nodePort", None)
    if (
        _needs_health_check(old)
        and not _needs_health_check(spec)
        and spec.get("healthCheckNodePort") == old.get("healthCheckNodePort")
    ):
        spec.pop("healthCheckNodePort", None)
    if old.get("type") == "LoadBalancer" != spec.get("type"):
        for word in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(word) == old.get(word):
                spec.pop(word, None)
    if not _needs_node_port(spec) and spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)


class _Allocation:
    """One Service being filled in; ``spec`` is its own copy and is changed in place."""

    def __init__(self, service: Obj, in_use: InUse, old: Obj | None, ranges: Ranges) -> None:
        self.service, self.spec = service, service["spec"]
        self.who = _who(service)
        self.in_use, self.ranges = in_use, ranges
        self.old = (old or {}).get("spec") or {}
        self.own_ports = set(ports_of(old) if old else ())
        self.seed = zlib.crc32("/".join(self.who).encode())

    def cluster_ips(self) -> None:
        """One address for each family of the Service; those that an update has no word about stay."""
        spec = self.spec
        problems = families.choose(spec, self.old, list(self.ranges.networks))
        if problems:
            raise invalid("Service", self.who[1], problems)
        addresses = list(spec.get("clusterIPs") or ())
        if addresses == [HEADLESS]:
            return
        before = self.old.get("clusterIPs") or ()
        for index, family in enumerate(spec["ipFamilies"]):
            if index >= len(addresses):
                addresses.append(self.next_address(family))
            elif addresses[index] not in before:
                self.claim(addresses[index], family)
        spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses

    def claim(self, asked: str, family: str) -> None:
        """The address a manifest asks for: raises when it cannot have it."""
        network, address = self.ranges.networks[family], ip_address(asked)
        if address not in network or address in (network[0], network[-1]):
            problem = (
                f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {network}"
            )
        elif not self.free(asked):
            problem = "provided IP is already allocated"
        else:
            return
        told = f"failed to allocate IP {asked}: {problem}"
        raise self.invalid("spec.clusterIPs", self.spec["clusterIPs"], told)

    def free(self, address: str) -> bool:
        if self.ranges.reserved.get(address, self.who) != self.who:
            return False
        return self.in_use.addresses.get(address, self.who) == self.who

    def next_address(self, family: str) -> str:
        network = self.ranges.networks[family]
        for address, who in self.ranges.reserved.items():
            if who == self.who and ip_address(address) in network and self.free(address):
                return address
        size = min(network.num_addresses, 1 << 20)
        last = size - 1 if isinstance(network, IPv6Network) else size - 2
        band = static_addresses(size)
        for offset in _probe(range(band + 1, last + 1), range(1, band + 1), self.seed):
            address = str(_at(network, offset))
            if address not in self.ranges.reserved and address not in self.in_use.addresses:
                return address
        raise _internal(self.service, "failed to allocate a serviceIP: range is full")

    def node_ports(self) -> None:
        """Two ports of one number (DNS by TCP and UDP) get the same NodePort, as upstream."""
        ports: Sequence[Obj] = self.spec.get("ports") or ()
        mine = {port["nodePort"] for port in ports if port.get("nodePort")}
        given: dict[int, int] = {}
        for index, port in enumerate(ports):
            asked = port.get("nodePort")
            if asked:
                self.claim_port(f"spec.ports[{index}].nodePort", asked)
                given.setdefault(port["port"], asked)
        if not _allocates_node_ports(self.spec):
            return
        used: set[tuple[str, int]] = {
            (port.get("protocol", "TCP"), port["nodePort"]) for port in ports if port.get("nodePort")
        }
        for port in ports:
            if port.get("nodePort"):
                continue
            protocol = port.get("protocol", "TCP")
            number = given.get(port["port"], 0)
            if not number or (protocol, number) in used:
                number = self.next_port(mine)
            port["nodePort"] = number
            given.setdefault(port["port"], number)
            used.add((protocol, number))
            mine.add(number)

    def health_check_port(self) -> None:
        asked, before = self.spec.get("healthCheckNodePort"), self.old.get("healthCheckNodePort")
        if asked and before and asked != before and _needs_health_check(self.old):
            raise self.invalid("spec.healthCheckNodePort", asked, "field is immutable")
        mine = {port["nodePort"] for port in self.spec.get("ports") or () if port.get("nodePort")}
        if asked:
            self.claim_port("spec.healthCheckNodePort", asked)
            if asked in mine:
                raise self.invalid("spec.healthCheckNodePort", asked, _TAKEN)
        else:
            self.spec["healthCheckNodePort"] = self.next_port(mine)

    def claim_port(self, path: str, number: int) -> None:
        ports = self.ranges.node_ports
        if number in self.own_ports:
            return
        if number not in ports:
            raise self.invalid(
                path,
                number,
                "provided port is not in the valid range."
                f" The range of valid ports is {ports.start}-{ports.stop - 1}",
            )
        if self.in_use.ports.get(number, self.who) != self.who:
            raise self.invalid(path, number, _TAKEN)

    def next_port(self, mine: set[int]) -> int:
        ports = self.ranges.node_ports
        first = ports.start + static_ports(len(ports))
        upper, lower = range(first, ports.stop), range(ports.start, first)
        for number in _probe(upper, lower, self.seed):
            if number not in self.in_use.ports and number not in mine:
                return number
        raise _internal(self.service, "failed to allocate a nodePort: range is full")

    def invalid(self, path: str, value: Any, detail: str) -> ApiError:
        return invalid("Service", self.who[1], [FieldError(path, INVALID, detail, value)])


def _internal(service: Obj, detail: str) -> ApiError:
    """Not the object's fault: Kubernetes answers 500 when a range is full."""
    return ApiError(f"Internal error occurred: {detail}")


def _probe(upper: range, lower: range, seed: int) -> Iterable[int]:
    """Every number of the upper band from the hash onward, then of the lower one."""
    for band in (upper, lower):
        for step in range(len(band)):
            yield band[(seed + step) % len(band)]


def _at(network: IPv4Network | IPv6Network, offset: int) -> IPv4Address | IPv6Address:
    return network[offset]
