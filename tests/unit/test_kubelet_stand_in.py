"""Stand-ins: which probes are asked, where they listen, which failed init containers hold nobody back."""

from __future__ import annotations

from typing import Any

import pytest

from topo.kubelet_spec import Place, container_of, remarks
from topo.kubelet_stand_in import excused, unasked

Obj = dict[str, Any]
UNKNOWN, OURS = "shop.example/cart:1.2", "podwire/echo"


def pod(*containers: Obj) -> Obj:
    metadata = {"name": "cart", "namespace": "shop", "labels": {"app": "cart"}}
    return {"metadata": metadata, "spec": {"containers": list(containers)}}


def container(image: str = UNKNOWN, **parts: Any) -> Obj:
    return {"name": "main", "image": image, **parts}


PROBES = [
    ({"exec": {"command": ["redis-cli", "ping"]}}, UNKNOWN, "the stand-in has not the program of the"),
    ({"exec": {"command": ["redis-cli", "ping"]}}, OURS, ""),
    ({"grpc": {"port": 1}}, UNKNOWN, "podwire asks no gRPC"),
    ({"grpc": {"port": 1}}, OURS, "podwire asks no gRPC"),
    ({"httpGet": {"port": 1, "scheme": "HTTPS"}}, UNKNOWN, "the stand-in has no certificate for the HTTPS"),
    ({"httpGet": {"port": 1, "scheme": "HTTPS"}}, OURS, ""),
    ({"httpGet": {"port": 1}}, UNKNOWN, ""),
    ({"tcpSocket": {"port": 1}}, UNKNOWN, ""),
]


@pytest.mark.parametrize(("probe", "image", "why"), PROBES)
def test_a_probe_that_a_stand_in_cannot_pass_is_not_asked_and_that_is_said(
    probe: Obj, image: str, why: str
) -> None:
    spec = container(image, readinessProbe=probe)
    told = [remark.message for remark in remarks(pod(spec), spec) if remark.reason == "ProbeIgnored"]
    assert told == ([f"container main: {why} readiness probe; it counts as passed"] if why else [])
    assert bool(unasked(spec, "readiness")) == bool(why)


def service(*ports: Obj, **selector: str) -> Obj:
    return {
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"selector": selector, "ports": list(ports)},
    }


def listening(spec: Obj, *services: Obj, of: Obj | None = None) -> list[tuple[int, str]]:
    place = Place(
        node="node1", node_addresses=("192.168.49.2",), addresses=("10.244.1.2",), netns="/proc/self/ns/net"
    )
    made = container_of(of or pod(spec), spec, "c1", place, services, lambda *at: None)
    return [(port.number, port.protocol) for port in made.ports]


def test_a_stand_in_listens_where_probes_and_services_expect_it() -> None:
    spec = container(
        ports=[{"containerPort": 80}],
        readinessProbe={"httpGet": {"port": 8081}},
        livenessProbe={"tcpSocket": {"port": "80"}},
    )
    around = [
        service({"port": 7070}, app="cart"),
        service({"port": 1, "targetPort": 80}, {"port": 2, "targetPort": "http"}, app="cart"),
        service({"port": 53, "targetPort": 5353, "protocol": "UDP"}, app="cart"),
        service({"port": 9999}, app="other"),
    ]
    assert listening(spec, *around) == [(80, "TCP"), (8081, "TCP"), (7070, "TCP"), (5353, "UDP")]


def test_a_program_of_ours_listens_on_its_container_ports_alone() -> None:
    spec = container(OURS, ports=[{"containerPort": 80}], readinessProbe={"httpGet": {"port": 8081}})
    assert listening(spec, service({"port": 7070}, app="cart")) == [(80, "TCP")]


def test_a_sidecar_leaves_the_ports_of_the_others_alone() -> None:
    main, sidecar = container(ports=[{"containerPort": 80}]), {"name": "proxy", "image": UNKNOWN}
    around = service({"port": 80}, {"port": 81}, app="cart")
    both = pod(main, sidecar)
    assert listening(main, around, of=both) == [(80, "TCP"), (81, "TCP")]
    assert listening(sidecar, around, of=both) == []


@pytest.mark.parametrize(
    ("parts", "code", "why"),
    [
        ({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}, 1, "its volumes may hold less here"),
        ({"securityContext": {"runAsUser": 0}}, 1, "podwire grants no root"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, 1, "podwire grants no root"),
        ({}, 127, "podwire has not its program"),
        ({}, 1, ""),
        ({"securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}}, 1, ""),
    ],
)
def test_an_init_container_that_podwire_made_fail_is_excused(parts: Obj, code: int, why: str) -> None:
    assert excused(container("busybox", **parts), code) == why
