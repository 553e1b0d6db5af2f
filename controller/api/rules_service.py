"""Kubernetes' rules about Services, in Kubernetes' words. Pure.

Whether an address or a NodePort is free and in range is the allocator's question
(``controller.managers.allocator``), asked at admission.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from controller.api import rules_families
from controller.api import rules_metadata as rules
from controller.api.objects import Obj
from controller.api.status import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, FieldError

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_MAX_AFFINITY = 86400


def service(obj: Obj, old: Obj | None) -> Iterator[FieldError]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    yield from rules.one_of("spec.type", kind, TYPES)
    if kind == "ExternalName":
        name = spec.get("externalName") or ""
        if not name:
            yield FieldError("spec.externalName", REQUIRED)
        else:
            yield from rules.is_valid("spec.externalName", name.removesuffix("."), rules.dns_subdomain)
        text = "may not be set for ExternalName services"
        if spec.get("clusterIP") or spec.get("clusterIPs"):
            yield FieldError("spec.clusterIPs", FORBIDDEN, text)
        for word in ("ipFamilies", "ipFamilyPolicy"):
            if spec.get(word):
                yield FieldError(f"spec.{word}", FORBIDDEN, text)
    elif not ports and not headless:
        yield FieldError("spec.ports", REQUIRED)
    if kind in ("LoadBalancer", "NodePort") and headless:
        yield FieldError(
            "spec.clusterIPs[0]", INVALID, f"may not be set to 'None' for {kind} services", "None"
        )
    if kind != "ExternalName":
        yield from rules_families.related(spec)
    yield from _ports(ports, kind)
    yield from rules.labels("spec.selector", spec.get("selector"))
    yield from _traffic(spec, kind, (old or {}).get("spec") or {})
    yield from _affinity(spec)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        yield from rules.is_valid(f"spec.externalIPs[{index}]", address, rules.endpoint_address)
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        yield from rules.is_valid(f"spec.loadBalancerSourceRanges[{index}]", text, _range)


def _ports(ports: list[Obj], kind: str | None) -> Iterator[FieldError]:
    seen: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if not port.get("name"):
            if len(ports) > 1:
                yield FieldError(f"{path}.name", REQUIRED)
        else:
            yield from rules.is_valid(f"{path}.name", port["name"], rules.dns_label)
        if "port" in port:
            yield from rules.is_valid(f"{path}.port", port["port"], rules.port_number)
        else:
            yield FieldError(f"{path}.port", REQUIRED)
        protocol = port.get("protocol")
        yield from rules.one_of(f"{path}.protocol", protocol, PROTOCOLS)
        target = port.get("targetPort")
        if isinstance(target, str):
            yield from rules.is_valid(f"{path}.targetPort", target, rules.port_name)
        elif target is not None and target != port.get("port"):
            yield from rules.is_valid(f"{path}.targetPort", target, rules.port_number)
        if (protocol, port.get("port")) in seen:
            yield FieldError(path, DUPLICATE, value={"protocol": protocol, "port": port.get("port")})
        seen.add((protocol, port.get("port")))
        node_port = port.get("nodePort")
        if not node_port:
            continue
        if kind in ("ClusterIP", "ExternalName"):
            yield FieldError(f"{path}.nodePort", FORBIDDEN, f"may not be used when `type` is '{kind}'")
        elif (protocol, node_port) in node_ports:
            yield FieldError(f"{path}.nodePort", DUPLICATE, value=node_port)
        node_ports.add((protocol, node_port))
    yield from rules.duplicates("spec.ports", "name", ports)


def _traffic(spec: Mapping[str, Any], kind: str | None, before: Mapping[str, Any]) -> Iterator[FieldError]:
    external = spec.get("externalTrafficPolicy")
    yield from rules.one_of("spec.externalTrafficPolicy", external, _POLICIES)
    yield from rules.one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), _POLICIES)
    if external and kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
        text = "may only be set for externally-accessible services"
        yield FieldError("spec.externalTrafficPolicy", INVALID, text, external)
    for word in ("loadBalancerClass", "allocateLoadBalancerNodePorts", "loadBalancerSourceRanges"):
        if spec.get(word) not in (None, "", []) and kind != "LoadBalancer":
            yield FieldError(f"spec.{word}", FORBIDDEN, "may only be used when `type` is 'LoadBalancer'")
    if kind == "LoadBalancer" and spec.get("loadBalancerClass") is not None:
        yield from rules.is_valid("spec.loadBalancerClass", spec["loadBalancerClass"], rules.qualified_name)
    if kind == before.get("type") == "LoadBalancer":
        wanted = spec.get("loadBalancerClass")
        if wanted != before.get("loadBalancerClass"):
            yield FieldError("spec.loadBalancerClass", INVALID, "may not change once set", wanted)
    if spec.get("healthCheckNodePort") and (kind, external) != ("LoadBalancer", "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield FieldError("spec.healthCheckNodePort", INVALID, text, spec["healthCheckNodePort"])
    yield from rules.one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def _affinity(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    affinity = spec.get("sessionAffinity")
    yield from rules.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    if affinity != "ClientIP":
        return
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 0 < seconds <= _MAX_AFFINITY:
        text = f"must be greater than 0 and less than {_MAX_AFFINITY}"
        yield FieldError("spec.sessionAffinityConfig.clientIP.timeoutSeconds", INVALID, text, seconds)


def _range(text: str) -> list[str]:
    try:
        ip_network(text.strip())
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return []
