"""The DNS server as a pod: its objects, its program, what its service account may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.api import access
from controller.api.errors import ApiError, MachineError
from controller.api.manifests import Document, check
from controller.api.tokens import User
from controller.dns.corefile import parse
from topo import dns
from topo.addons import cluster_dns
from topo.images.coredns import program
from topo.images.image import Container
from topo.images.table import find

SOMEBODY = User("default", "default")
CONFIG = "/api/v1/namespaces/kube-system/configmaps"


def container(image: str) -> Container:
    return Container(
        id="1",
        name="coredns",
        image=image,
        pod="coredns-x",
        namespace="kube-system",
        node="node1",
        netns="/n",
    )


@pytest.mark.parametrize("which", ["podwire", "coredns", "none"])
def test_its_objects_are_ones_an_api_server_takes(which: str) -> None:
    objects = list(cluster_dns(which))
    check([Document(file="dns", number=n, obj=obj) for n, obj in enumerate(objects, 1)], [])
    kinds = [obj["kind"] for obj in objects]
    assert kinds == ["Service", "ServiceAccount", "ConfigMap", "Deployment"][: 1 if which == "none" else 4]


def test_its_configmap_is_one_it_can_read() -> None:
    assert parse(
        next(obj for obj in cluster_dns("podwire") if obj["kind"] == "ConfigMap")["data"]["Corefile"]
    )


def images(which: str) -> list[Any]:
    (deployment,) = (obj for obj in cluster_dns(which) if obj["kind"] == "Deployment")
    return [one["image"] for one in deployment["spec"]["template"]["spec"]["containers"]]


def test_its_image_is_our_server_in_a_process_of_its_own() -> None:
    (image,) = images("podwire")
    assert not find(image).light
    assert program(container(image)).argv[-2:] == ("-m", "controller.dns.app")


def test_the_machines_coredns_runs_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (image,) = images("coredns")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="no program coredns"):
        program(container(image))
    with pytest.raises(MachineError, match="no program coredns on the PATH"):
        dns.need("coredns")
    binary = tmp_path / "coredns"
    binary.touch(mode=0o755)
    dns.need("coredns")
    made = program(container(image))
    file = "/tmp/Corefile"
    assert made.argv[-6:] == ("-m", "controller.dns.mounted", file, str(binary), "-conf", file)
    assert str(binary) in made.binds


def test_only_the_dns_server_reads_its_configuration_and_tells_how_far_it_is() -> None:
    access.authorize(access.DNS, "GET", CONFIG, {"watch": "true"})
    access.authorize(access.DNS, "POST", access.PROGRESS, {})
    for user, method, path in (
        (SOMEBODY, "GET", CONFIG),
        (SOMEBODY, "POST", access.PROGRESS),
        (access.DNS, "GET", "/api/v1/namespaces/default/configmaps"),
        (access.DNS, "GET", "/api/v1/configmaps"),
        (access.DNS, "PUT", f"{CONFIG}/coredns"),
        (access.DNS, "POST", "/podwire/v1/credentials"),
        (access.DNS, "GET", "/podwire/v1/settle"),
    ):
        with pytest.raises(ApiError, match="cannot"):
            access.authorize(user, method, path, {})
