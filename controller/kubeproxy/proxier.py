"""One node's kube-proxy without the network: objects in, desired flows and groups out.

No I/O, no clock, no randomness: what it says depends only on the objects and ports it has been told,
never on the order or the number of the events. The app feeds it and sends what ``diff`` makes of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

from controller.api import wiring
from controller.api.hostports import forwarded
from controller.kubeproxy.flow import Category, Cause, Changes, Desired, Flow, Group
from controller.kubeproxy.flows_endpoint import flows_of_endpoint
from controller.kubeproxy.flows_fragments import group_of_fragments
from controller.kubeproxy.flows_healthcheck import flows_of_health_check
from controller.kubeproxy.flows_hostport import flows_of_host_ports, ways_of_host_ports
from controller.kubeproxy.flows_node import flows_of_node
from controller.kubeproxy.flows_pod import LocalPod, flows_of_pod
from controller.kubeproxy.flows_scheduler import Scheduled
from controller.kubeproxy.flows_service import flows_of_service, flows_of_service_port
from controller.kubeproxy.groupids import GroupIds, group_hash, local, part
from controller.kubeproxy.groups import after_choice, groups_of
from controller.kubeproxy.ledger import Ledger
from controller.kubeproxy.node import Node, mac_among, read_node
from controller.kubeproxy.schedulers import read_weight
from controller.kubeproxy.services import (
    Endpoint,
    EndpointKey,
    ServicePort,
    ServicePortName,
    merge,
    service_key,
    service_ports,
    slice_service,
)
from controller.kubeproxy.stale import Stale, outdated, serving, ways
from controller.kubeproxy.topology import categorize

Obj = dict[str, Any]
Name = tuple[str, str]
T = TypeVar("T")


class Proxier:
    """The desired state of one node's bridge, recomputed only where something changed."""

    KINDS = ("Service", "EndpointSlice", "Pod", "Node")

    def __init__(self, node: str, hash_of: Callable[[str], int] = group_hash) -> None:
        self.name = node
        self._node_obj: Obj | None = None
        self._nodes: tuple[Node, ...] = ()  # itself in each of its families
        self._node_missing: list[str] = []
        self._ports: dict[str, int] = {}
        self._services: dict[Name, Obj] = {}
        self._slices: dict[Name, Obj] = {}
        self._slices_of: dict[Name, set[Name]] = defaultdict(set)
        self._pods: dict[Name, Obj] = {}
        self._portless: set[Name] = set()  # those of them whose port is not on the bridge yet
        self._service_ports: dict[Name, list[ServicePort]] = {}
        self._endpoints_of: dict[ServicePortName, frozenset[EndpointKey]] = {}
        self._users: dict[EndpointKey, tuple[ServicePortName, ...]] = {}  # tuples: mostly of one
        self._group_ids = GroupIds(hash_of)
        self._parts: dict[ServicePortName, int] = {}  # how many, of groups too large for one
        self._ledger = Ledger()
        self._ways: dict[ServicePortName, frozenset[Stale]] = {}  # of UDP ports alone
        self._host_ways: dict[Name, frozenset[Stale]] = {}  # of pods with UDP host ports
        self._stale: set[Stale] = set()
        self._weights: dict[Name, int] = {}  # of pods, where it is not 1
        self._scheduled: dict[Name, dict[int, Scheduled]] = {}
        self._dirty_services: set[Name] = set()
        self._dirty_pods: set[Name] = set()
        self._dirty_endpoints: set[EndpointKey] = set()
        self._dirty_node = True

    # What is told.

    def apply(self, type: str, obj: Obj) -> None:
        """One watch event (ADDED, MODIFIED, DELETED); marks what depends on the object as dirty."""
        gone = type == "DELETED"
        match obj["kind"]:
            case "Service":
                key = service_key(obj)
                _put(self._services, key, None if gone else obj)
                self._dirty_services.add(key)
            case "EndpointSlice":
                self._apply_slice(obj, gone)
            case "Pod":
                self._apply_pod(obj, gone)
            case "Node" if obj["metadata"]["name"] == self.name:
                self._node_obj = None if gone else obj
                self._dirty_node = True

    def _apply_slice(self, obj: Obj, gone: bool) -> None:
        key = service_key(obj)
        old = self._slices.get(key)
        for one, add in ((old, False), (None if gone else obj, True)):
            service = slice_service(one) if one else None
            if service:
                self._dirty_services.add(service)
                (self._slices_of[service].add if add else self._slices_of[service].discard)(key)
        _put(self._slices, key, None if gone else obj)

    def _apply_pod(self, obj: Obj, gone: bool) -> None:
        key = service_key(obj)
        self._weigh(key, None if gone else (obj["metadata"].get("annotations") or {}).get(wiring.WEIGHT))
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        here = (
            not gone
            and spec.get("nodeName") == self.name
            and not spec.get("hostNetwork")
            and status.get("phase") not in ("Succeeded", "Failed")
            and bool(status.get("podIP"))
            and bool(_interface(obj))
        )
        if here or key in self._pods:
            _put(self._pods, key, obj if here else None)
            self._dirty_pods.add(key)

    def _weigh(self, pod: Name, text: str | None) -> None:
        weight, _ = read_weight(text)
        if weight == self._weights.get(pod, 1):
            return
        self._weights.pop(pod, None)
        if weight != 1:
            self._weights[pod] = weight
        for key, one in self._slices.items():  # rare, so no index is kept
            service = slice_service(one)
            if key[0] == pod[0] and service and _names(one, pod[1]):
                self._dirty_services.add(service)

    def set_ports(self, ports: Mapping[str, int]) -> None:
        """All ports of the bridge, name to ofport; replaces what was known."""
        old, self._ports = self._ports, dict(ports)
        moved = {name for name in old.keys() | ports.keys() if old.get(name) != ports.get(name)}
        if not moved:
            return
        self._dirty_pods.update(key for key, pod in self._pods.items() if _interface(pod) in moved)
        annotations = ((self._node_obj or {}).get("metadata") or {}).get("annotations") or {}
        if {annotations.get(wiring.HOST_INTERFACE), annotations.get(wiring.UPLINK_INTERFACE)} & moved:
            self._dirty_node = True

    # What is wanted.

    def desired(self) -> Desired:
        """The whole desired state; costs the dirty share only. The mappings are live: read, do not keep."""
        self._recompute()
        return self._ledger.desired

    def changes(self) -> Changes:
        """What changed since the last ``changes()`` or since the start, in time of the change alone."""
        self._recompute()
        return self._ledger.take()

    def stale(self) -> set[Stale]:
        """What conntrack is to forget since the last ``stale()``, once the changes are in the switch."""
        self._recompute()
        stale, self._stale = self._stale, set()
        return stale

    def ways(self) -> frozenset[Stale]:
        """Every way in which a UDP client may be led somewhere, as things are wanted now."""
        self._recompute()
        return frozenset().union(*self._ways.values(), *self._host_ways.values())

    def nodes(self) -> tuple[Node, ...]:
        """The node itself in each of its families."""
        self._recompute()
        return self._nodes

    def scheduled(self) -> dict[int, Scheduled]:
        """By id, the groups whose connections the kubeproxy itself gives out."""
        self._recompute()
        return {number: one for groups in self._scheduled.values() for number, one in groups.items()}

    def waiting(self) -> list[str]:
        """Why the state cannot be complete yet, a sentence each; until then no progress is reported."""
        self._recompute()
        sentences = list(self._node_missing)
        for namespace, name in sorted(self._portless & self._pods.keys()):
            interface = _interface(self._pods[namespace, name])
            sentences.append(f"no port {interface} on the bridge for pod {namespace}/{name}")
        return sentences

    def endpoint_users(self) -> Mapping[EndpointKey, tuple[ServicePortName, ...]]:
        """For each endpoint in use, the Service ports because of which its flows exist."""
        self._recompute()
        return self._users

    def _recompute(self) -> None:
        if self._dirty_node:
            self._recompute_node()
        if not self._nodes:
            return
        for key in self._dirty_pods:
            self._recompute_pod(key)
        self._dirty_pods.clear()
        while self._dirty_services:  # a group id that moves makes the Service it belongs to dirty again
            self._recompute_service(self._dirty_services.pop())
        by_family = {node.family.name: node for node in self._nodes}
        for endpoint in self._dirty_endpoints:
            used = self._users.get(endpoint)
            if not used:
                self._users.pop(endpoint, None)
            node = by_family.get(endpoint.family)
            flows = (
                flows_of_endpoint(endpoint.address, endpoint.port, endpoint.protocol, node)
                if used and node
                else ()
            )
            self._ledger.share(("endpoint", endpoint), flows)
        self._dirty_endpoints.clear()

    def _recompute_node(self) -> None:
        self._dirty_node = False
        nodes: tuple[Node, ...] = ()
        self._node_missing = [f"no Node {self.name}"]
        if self._node_obj is not None:
            nodes, self._node_missing = read_node(self._node_obj, self._ports)
        if nodes == self._nodes:
            return
        self._nodes = nodes
        if not nodes:
            self._ledger.clear()
            return
        flows = {flow.key: flow for node in nodes for flow in flows_of_node(node)}  # some are of no family
        self._ledger.share(("node", self.name), flows.values(), [group_of_fragments(nodes[0])])
        self._dirty_pods.update(self._pods)
        self._dirty_services.update(self._services, self._service_ports)
        self._dirty_endpoints.update(self._users)

    def _recompute_pod(self, key: Name) -> None:
        pod = self._pods.get(key)
        ofport = self._ports.get(_interface(pod)) if pod else None
        flows: list[Flow] = []
        (self._portless.add if pod and ofport is None else self._portless.discard)(key)
        addresses = [ip_address(text) for text in _pod_ips(pod)] if pod else []
        its_mac = mac_among(addresses)
        ports = forwarded(pod) if pod else ()
        found: frozenset[Stale] = frozenset()
        if ofport is not None and its_mac is not None:
            for node in self._nodes:
                for address in [a for a in addresses if isinstance(a, node.family.address)][:1]:
                    local = LocalPod(
                        namespace=key[0], name=key[1], address=address, mac=its_mac, ofport=ofport
                    )
                    flows += flows_of_pod(local, node)
                    flows += flows_of_host_ports(ports, local, node)
                    found |= ways_of_host_ports(ports, local, node)
        self._set_host_ways(key, found)
        self._ledger.share(("pod", key), flows)

    def _recompute_service(self, key: Name) -> None:
        service = self._services.get(key)
        by_node = [(node, service_ports(service, node.family)) for node in self._nodes] if service else []
        all_ports = [port for _, ports in by_node for port in ports]
        gone = {p.name for p in self._service_ports.get(key, ())} - {p.name for p in all_ports}
        for name in gone:
            self._use(name, frozenset())
            self._set_ways(name, frozenset())
            for group_name in (name, local(name)):
                self._group(group_name, ())
        _put(self._service_ports, key, all_ports or None)
        flows: list[Flow] = []
        groups: list[Group] = []
        slices = [self._slices[s] for s in sorted(self._slices_of.get(key, ()))]
        self._scheduled.pop(key, None)
        for node, ports in by_node:
            if not ports:
                continue
            flows += flows_of_service(ports[0], node)
            check = service["spec"].get("healthCheckNodePort") if service else None
            if check:
                flows += flows_of_health_check(check, node, Cause(Category.SERVICE, *key))
            merged = merge(slices, node.family, self._weights)
            for port in ports:
                found = merged.get((port.name.port, port.name.protocol), {})
                chosen = categorize(found.values(), port, self.name, node.zone)
                ids = self._group(port.name, chosen.cluster), self._group(local(port.name), chosen.local)
                flows += flows_of_service_port(port, chosen, ids, node)
                for here, number in enumerate(ids):
                    groups += self._groups(port, (chosen.cluster, chosen.local)[here], number, bool(here))
                    if number and port.scheduler is not None and port.scheduler.reactive:
                        endpoints = (chosen.cluster, chosen.local)[here]
                        one = Scheduled(port.scheduler, endpoints, after_choice(port))
                        self._scheduled.setdefault(key, {})[number] = one
                self._set_ways(port.name, ways(port, {*chosen.all, *serving(found.values())}, node))
                protocol, family = port.name.protocol, node.family.name
                self._use(
                    port.name,
                    frozenset(EndpointKey(int(e.address), e.port, protocol, family) for e in chosen.all),
                )
        self._ledger.share(("service", key), flows, groups)

    def _set_host_ways(self, pod: Name, after: frozenset[Stale]) -> None:
        """UDP by host ports: what led to the pod when it goes; when it comes, what led to the node itself."""
        before = self._host_ways.pop(pod, frozenset())
        if after:
            self._host_ways[pod] = after
        self._stale |= (before - after) | {Stale(way.zone, way.asked, way.port) for way in after - before}

    def _set_ways(self, name: ServicePortName, after: frozenset[Stale]) -> None:
        before = self._ways.pop(name, frozenset())
        if after:
            self._ways[name] = after
        self._stale = (self._stale | outdated(before, after)) - {w for w in after if w.endpoint is not None}

    def _group(self, name: ServicePortName, endpoints: Sequence[Endpoint]) -> int:
        """The id of the group of these endpoints; 0, which no group has, when there are none."""
        if not endpoints:
            self._moved(self._group_ids.remove(name))
            self._parts_are(name, 0)
            return 0
        self._moved(self._group_ids.add(name))
        return self._group_ids[name]

    def _groups(
        self, port: ServicePort, endpoints: Sequence[Endpoint], number: int, here: bool
    ) -> list[Group]:
        if not endpoints:
            return []
        name = local(port.name) if here else port.name

        def part_id(turn: int) -> int:
            self._moved(self._group_ids.add(part(name, turn)))
            return self._group_ids[part(name, turn)]

        groups = groups_of(port, endpoints, number, part_id, local=here)
        self._parts_are(name, len(groups) - 1)
        return groups

    def _parts_are(self, name: ServicePortName, now: int) -> None:
        """Forget the ids of a group's parts that are no more."""
        for turn in range(now, self._parts.pop(name, 0)):
            self._moved(self._group_ids.remove(part(name, turn)))
        if now:
            self._parts[name] = now

    def _moved(self, names: set[ServicePortName]) -> None:
        self._dirty_services.update((name.namespace, name.name) for name in names)

    def _use(self, name: ServicePortName, endpoints: frozenset[EndpointKey]) -> None:
        """Note which endpoints a Service port uses; an endpoint's flows exist while anyone uses it."""
        before = self._endpoints_of.pop(name, frozenset())
        if endpoints:
            self._endpoints_of[name] = endpoints
        for endpoint in before - endpoints:
            self._users[endpoint] = tuple(user for user in self._users[endpoint] if user != name)
            if not self._users[endpoint]:
                self._dirty_endpoints.add(endpoint)
        for endpoint in endpoints - before:
            users = self._users.get(endpoint, ())
            if not users:
                self._dirty_endpoints.add(endpoint)
            self._users[endpoint] = (*users, name)


def _put(store: dict[Name, T], key: Name, obj: T | None) -> None:
    if obj is None:
        store.pop(key, None)
    else:
        store[key] = obj


def _names(endpoint_slice: Obj, pod: str) -> bool:
    return any((e.get("targetRef") or {}).get("name") == pod for e in endpoint_slice.get("endpoints") or [])


def _interface(pod: Obj) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(wiring.INTERFACE, ""))


def _pod_ips(pod: Obj) -> list[str]:
    status = pod["status"]
    return [entry["ip"] for entry in status.get("podIPs") or []] or [status["podIP"]]
