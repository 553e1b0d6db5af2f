"""API Server, Endpoints, EndpointSlice, mirroring, ServiceCIDR, IPAddress: objects, and some packets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from controller.api.wiring import RANGES
from tests.conformance.case import case
from tests.conformance.kit import Kit
from tests.conformance.objects import Obj, endpoint_slice, service_object

SLICES = "kubernetes.io/service-name"
LATENCY_SERVICES = 100
P50, P90 = 20.0, 50.0
"""Upstream's limits in seconds."""


@case("API Server", "should provide secure master service")
def master_service(kit: Kit) -> None:
    service = kit.client_api.get("Service", "kubernetes", "default")
    assert [port["port"] for port in service["spec"]["ports"]] == [443]
    assert service["spec"]["clusterIP"] == "10.96.0.1"


@case("API Server", "should have Endpoints and EndpointSlices pointing to API Server")
def master_endpoints(kit: Kit) -> None:
    endpoints = kit.client_api.get("Endpoints", "kubernetes", "default")
    addresses = {a["ip"] for subset in endpoints["subsets"] for a in subset["addresses"]}
    slices, _ = kit.client_api.list("EndpointSlice", "default", labels=f"{SLICES}=kubernetes")
    listed = {a for one in slices for e in one["endpoints"] for a in e["addresses"]}
    assert addresses == listed == {str(kit.node(1).ip)}, f"Endpoints {addresses}, EndpointSlices {listed}"
    ports = {port["port"] for one in slices for port in one["ports"]}
    client = kit.client(2)
    done = kit.host(client).run(["curl", "-sSk", "--max-time", "5", "https://10.96.0.1/healthz"])
    assert done.stdout.strip() == "ok", f"ports {ports}: {done.stdout}{done.stderr}"


@case("Endpoints", "should test the lifecycle of an Endpoint")
def endpoint_lifecycle(kit: Kit) -> None:
    def endpoints(address: str) -> Obj:
        subset = {"addresses": [{"ip": address}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        metadata = {"name": "testservice", "labels": {"test-endpoint-static": "true"}}
        return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}

    kit.create(endpoints("10.0.0.24"))
    everywhere, version = kit.client_api.list("Endpoints", labels="test-endpoint-static=true")
    assert [one["metadata"]["name"] for one in everywhere] == ["testservice"]
    with watching(kit, "Endpoints", version) as events:
        changed = kit.get("Endpoints", "testservice")
        changed["metadata"]["labels"]["test-service"] = "updated"
        kit.client_api.update(changed)
        assert next(events)["type"] == "MODIFIED"
        patch = {
            "metadata": {"labels": {"test-service": "patched"}},
            "subsets": endpoints("10.0.0.25")["subsets"],
        }
        kit.client_api.patch("Endpoints", "testservice", patch, kit.namespace)
        patched = next(events)["object"]
        assert patched["metadata"]["labels"]["test-service"] == "patched"
        assert patched["subsets"][0]["addresses"][0]["ip"] == "10.0.0.25"
        path = f"/api/v1/namespaces/{kit.namespace}/endpoints"
        kit.api.request("DELETE", path, query={"labelSelector": "test-endpoint-static=true"})
        assert next(events)["type"] == "DELETED"
    assert kit.list("Endpoints") == []


@contextmanager
def watching(kit: Kit, kind: str, version: str) -> Iterator[Iterator[Obj]]:
    """The events of this namespace from a resourceVersion on; ends by itself."""
    stream = kit.client_api.watch(kind, kit.namespace, resource_version=version, timeoutSeconds="10")
    try:
        yield iter(stream)
    finally:
        stream.close()


@case(
    "EndpointSlice",
    "should create and delete EndpointSlices for a Service with a selector that matches no pods",
)
@case(
    "EndpointsController",
    "should create and delete Endpoints for a Service with a selector that matches no pods",
)
def empty_endpoints(kit: Kit) -> None:
    kit.service("example-empty-selector", app="does-not-match-anything")
    assert not kit.get("Endpoints", "example-empty-selector").get("subsets")
    slices = kit.list("EndpointSlice", f"{SLICES}=example-empty-selector")
    assert [one.get("endpoints") or [] for one in slices] == [[]], f"the slices are {slices}"
    kit.delete("Service", "example-empty-selector")
    assert kit.list("EndpointSlice") == []
    assert kit.list("Endpoints") == []


@case("EndpointSlice", "should create Endpoints and EndpointSlices for Pods matching a Service")
@case("EndpointsController", "should create Endpoints for Pods matching a Service")
def matching_pods(kit: Kit) -> None:
    named = {"name": "example-name", "port": 80, "protocol": "TCP", "targetPort": 3000}
    other = {"name": "other-port", "port": 81, "protocol": "TCP", "targetPort": "example-name"}
    kit.service("int-port", ports=[named], app="both")
    kit.service("named-port", ports=[other], app="both")
    pods = kit.pods("both", (1, 2), port=3001, port_name="example-name")
    wanted = {kit.ip(name) for name in pods}
    for service, port in (("int-port", 3000), ("named-port", 3001)):
        (one,) = kit.list("EndpointSlice", f"{SLICES}={service}")
        assert {a for e in one["endpoints"] for a in e["addresses"]} == wanted
        assert [p["port"] for p in one["ports"]] == [port]
        assert {e["targetRef"]["name"] for e in one["endpoints"]} == pods
        assert all(e["conditions"]["ready"] and e["nodeName"] for e in one["endpoints"])
        (subset,) = kit.get("Endpoints", service)["subsets"]
        assert {a["ip"] for a in subset["addresses"]} == wanted
        assert [p["port"] for p in subset["ports"]] == [port]


@case("EndpointSlice", "should support creating EndpointSlice API operations")
def slice_operations(kit: Kit) -> None:
    operations(
        kit, "EndpointSlice", "/apis/discovery.k8s.io/v1", f"namespaces/{kit.namespace}/endpointslices",
        [endpoint_slice(f"e2e-{n}", "nobody", [f"10.0.0.{n}"], 80, "http") for n in (1, 2, 3)],
    )  # fmt: skip


def operations(kit: Kit, kind: str, group: str, path: str, objects: list[Obj]) -> None:
    """Discovery, create, get, list, watch, patch, update, delete, delete the collection."""
    listed = kit.api.request("GET", group)["resources"]
    assert kind in {one["kind"] for one in listed}, f"{group} does not list {kind}"
    for obj in objects:
        obj["metadata"].setdefault("labels", {})["special-label"] = kit.namespace
        kit.create(obj)
    name, mine = objects[0]["metadata"]["name"], f"special-label={kit.namespace}"
    url = f"{group}/{path}"
    kit.settle()
    assert kit.api.request("GET", f"{url}/{name}")["metadata"]["name"] == name
    found, version = kit.client_api.list(kind, labels=mine)
    assert len(found) == len(objects)
    namespace = kit.namespace if "namespace" in objects[0]["metadata"] else None
    stream = kit.client_api.watch(kind, namespace, resource_version=version, labels=mine, timeoutSeconds="10")
    try:
        events = iter(stream)
        patch = {"metadata": {"annotations": {"patched": "true"}}}
        kit.api.request("PATCH", f"{url}/{name}", body=patch, content_type="application/merge-patch+json")
        event = next(events)
        assert event["type"] == "MODIFIED", event
        assert event["object"]["metadata"]["annotations"]["patched"] == "true"
        held = kit.api.request("GET", f"{url}/{name}")
        held["metadata"]["annotations"]["updated"] = "true"
        kit.api.request("PUT", f"{url}/{name}", body=held)
        assert next(events)["object"]["metadata"]["annotations"]["updated"] == "true"
        kit.api.request("DELETE", f"{url}/{name}")
        until_deleted(events)
    finally:
        stream.close()
    kit.api.request("DELETE", url, query={"labelSelector": mine})
    kit.settle()
    assert kit.client_api.list(kind, labels=mine)[0] == []


def until_deleted(events: Iterator[Obj]) -> None:
    """What has a finalizer is changed once more on its way."""
    for event in events:
        if event["type"] == "DELETED":
            return
    raise AssertionError("the watch ended without DELETED")


@case("EndpointSlice", "should support a Service with multiple ports specified in multiple EndpointSlices")
def ports_in_slices(kit: Kit) -> None:
    ports = [{"name": f"port{n}", "port": n, "protocol": "TCP", "targetPort": f"port{n}"} for n in (80, 81)]
    service = kit.service("by-hand", ports=ports, app=None)
    client, pod = kit.client(2), kit.pod("server", 1, port=8090)
    extra = kit.pod("extra", 1, port=8091)
    for name, server, number in (("port80", pod, 8090), ("port81", extra, 8091)):
        kit.create(endpoint_slice(f"by-hand-{name}", "by-hand", [kit.ip(server)], number, name))
    kit.settle()
    address = service["spec"]["clusterIP"]
    kit.reach(client, f"{address}:80", {pod})
    kit.reach(client, f"{address}:81", {extra})


@case(
    "EndpointSlice",
    "should support a Service with multiple endpoint IPs specified in multiple EndpointSlices",
)
def addresses_in_slices(kit: Kit) -> None:
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    service, client = kit.service("by-hand", ports=[port], app=None), kit.client(3)
    pods = kit.pods("server", (1, 2))
    for pod in sorted(pods):
        kit.create(endpoint_slice(f"by-hand-{pod}", "by-hand", [kit.ip(pod)], 8080, "http"))
    kit.settle()
    kit.reach(client, service, pods)


def custom_endpoints(subsets: list[Obj]) -> Obj:
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "custom"}, "subsets": subsets}


def subset(address: str, port: int, name: str = "example") -> Obj:
    return {"addresses": [{"ip": address}], "ports": [{"name": name, "port": port, "protocol": "TCP"}]}


def mirrored(kit: Kit) -> set[tuple[str, str, int]]:
    """(address, port name, port) of the slices of Service custom."""
    found = kit.list("EndpointSlice", f"{SLICES}=custom")
    managers = {one["metadata"]["labels"].get("endpointslice.kubernetes.io/managed-by") for one in found}
    assert managers <= {"endpointslicemirroring-controller.k8s.io"}, managers
    return {
        (address, port.get("name", ""), port["port"])
        for one in found
        for entry in one.get("endpoints") or ()
        for address in entry["addresses"]
        for port in one["ports"]
    }


@case("EndpointSliceMirroring", "should mirror a custom Endpoints resource through create update and delete")
def mirror(kit: Kit) -> None:
    port = {"name": "example", "port": 80, "protocol": "TCP"}
    kit.service("custom", ports=[port], app=None)
    kit.create(custom_endpoints([subset("10.1.2.3", 80)]))
    kit.settle()
    assert mirrored(kit) == {("10.1.2.3", "example", 80)}
    kit.patch("Endpoints", "custom", {"subsets": [subset("10.2.3.4", 8080)]})
    assert mirrored(kit) == {("10.2.3.4", "example", 8080)}
    kit.delete("Endpoints", "custom")
    assert mirrored(kit) == set()


@case("EndpointSliceMirroring", "should mirror a custom Endpoint with multiple subsets and same IP address")
def mirror_same_address(kit: Kit) -> None:
    ports = [{"name": f"port{n}", "port": n, "protocol": "TCP"} for n in (80, 81)]
    service = kit.service("custom", ports=ports, app=None)
    one, two, client = kit.pod("one", 1, port=9090), kit.pod("two", 1, port=9091), kit.client(2)
    address = kit.ip(one)
    kit.create(custom_endpoints([subset(address, 9090, "port80"), subset(address, 9091, "port81")]))
    kit.settle()
    assert mirrored(kit) == {(address, "port80", 9090), (address, "port81", 9091)}
    kit.reach(client, f"{service['spec']['clusterIP']}:80", {one})
    assert kit.ip(two) != address
    kit.reach(client, f"{service['spec']['clusterIP']}:81", "refused")


@case("ServiceCIDR and IPAddress API", "should support ServiceCIDR API operations")
def service_cidr_operations(kit: Kit) -> None:
    names = [f"e2e-{n}" for n in (1, 2, 3)]
    cidrs: list[Obj] = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
         "spec": {"cidrs": [f"10.{200 + n}.0.0/24"]}}
        for n, name in enumerate(names)
    ]  # fmt: skip
    operations(kit, "ServiceCIDR", "/apis/networking.k8s.io/v1", "servicecidrs", cidrs)
    assert kit.client_api.get("ServiceCIDR", "kubernetes")["spec"]["cidrs"] == [
        str(RANGES[family].services) for family in kit.lab.plan.families
    ]


@case("ServiceCIDR and IPAddress API", "should support IPAddress API operations")
def ip_address_operations(kit: Kit) -> None:
    reference = {"group": "", "resource": "services", "namespace": kit.namespace, "name": "e2e"}
    addresses: list[Obj] = [
        {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
         "metadata": {"name": f"192.168.7.{n}", "labels": {"ipaddress.kubernetes.io/managed-by": "e2e"}},
         "spec": {"parentRef": dict(reference)}}
        for n in (1, 2, 3)
    ]  # fmt: skip
    operations(kit, "IPAddress", "/apis/networking.k8s.io/v1", "ipaddresses", addresses)


@case("CVE-2021-29923", "IPv4 Service Type ClusterIP with leading zeros should work interpreted as decimal")
def leading_zeros(kit: Kit) -> None:
    pods, client = kit.pods("funny", (1,)), kit.client(2)
    for attempt in range(11, 20):
        taken = {one["spec"].get("clusterIP") for one in kit.client_api.list("Service")[0]}
        if (decimal := f"10.96.0.{attempt}") not in taken:
            break
    kit.create(service_object("funny", clusterIP=f"10.96.0.0{attempt}"))
    kit.settle()
    kit.reach(client, f"{decimal}:80", pods)


@case("Service endpoints latency", "should not be very high")
def latency(kit: Kit) -> None:
    """Measured from the creation of a Service to its Endpoints being seen by a watch, over 100 Services."""
    kit.pods("latency", (1,))
    _, version = kit.client_api.list("Endpoints", kit.namespace)
    began: dict[str, float] = {}
    seen: dict[str, float] = {}
    stream = kit.client_api.watch("Endpoints", kit.namespace, resource_version=version, timeoutSeconds="25")

    def follow() -> None:
        for event in stream:
            obj: Any = event["object"]
            if event["type"] in ("ADDED", "MODIFIED") and obj.get("subsets"):
                seen.setdefault(obj["metadata"]["name"], time.monotonic())
                if len(seen) == LATENCY_SERVICES:
                    return

    watcher = threading.Thread(target=follow)
    watcher.start()
    try:
        for number in range(LATENCY_SERVICES):
            name = f"latency-{number}"
            began[name] = time.monotonic()
            kit.create(service_object(name, app="latency"))
        watcher.join(25)
    finally:
        stream.close()
        watcher.join()
    assert len(seen) == LATENCY_SERVICES, f"only {len(seen)} Endpoints were seen"
    took = sorted(seen[name] - began[name] for name in began)
    assert took[49] < P50, f"the median is {took[49]:.1f} s"
    assert took[89] < P90, f"nine tenths take {took[89]:.1f} s"
