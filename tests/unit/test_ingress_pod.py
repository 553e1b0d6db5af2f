"""The ingress controller as a pod, and its process against a real API server and a real nginx."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.api.access import INGRESS
from controller.api.client import Client
from controller.api.manifests import check, load
from controller.ingress import app as apps
from controller.ingress.app import App
from controller.ingress.nginx import Nginx
from controller.ingress.render import render
from controller.ingress.routes import Routes, routes
from tests.unit.api_kit import api_server, namespace, pod, service
from topo.images.image import Container
from topo.images.ingress_nginx import MISSING, nginx_program, program
from topo.images.table import INGRESS_NGINX, find
from topo.ingress import SELECTOR, components

Obj = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "scenarios" / "manifests"
ARGUMENTS = ("--publish-service=ingress-nginx/ingress-nginx-controller",)
PUBLISH = ("ingress-nginx", "ingress-nginx-controller")


def container(*argv: str, command: int = 0) -> Container:
    return Container(
        id="1",
        name="controller",
        image="registry.k8s.io/ingress-nginx/controller:v1.13.0@sha256:abc",
        pod="ingress-nginx-controller-x",
        namespace="ingress-nginx",
        node="node1",
        netns="/n",
        argv=argv,
        command=command,
    )


@pytest.mark.parametrize(
    "image",
    ["registry.k8s.io/ingress-nginx/controller:v1.13.0@sha256:abc", "mirror.io/ingress-nginx/controller:v1"],
)
def test_upstreams_image_is_our_controller_in_a_process_of_its_own(image: str) -> None:
    assert find(image) is INGRESS_NGINX
    assert not find(image).light


def test_upstreams_command_and_arguments_are_taken() -> None:
    made = program(container("/nginx-ingress-controller", *ARGUMENTS))
    assert made.argv[-3:] == ("controller.ingress.app", f"--nginx={nginx_program()}", *ARGUMENTS)
    assert program(container("/nginx-ingress-controller", *ARGUMENTS, command=1)).argv == made.argv


def test_a_fetched_nginx_is_on_the_pods_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topo.images.ingress_nginx.nginx_program", lambda: "/fetched/usr/sbin/nginx")
    made = program(container())
    assert made.env["PATH"].split(":")[-1] == "/fetched/usr/sbin"
    assert "/fetched/usr/sbin/nginx" in made.binds


def test_a_machine_without_nginx_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topo.images.ingress_nginx.nginx_program", lambda: None)
    with pytest.raises(OSError, match=r"run \./lab setup ingress once"):
        program(container())


@pytest.mark.parametrize("name", ["ingress-nginx.yaml", "ingress.yaml"])
def test_the_manifests_are_ones_an_api_server_takes(name: str) -> None:
    documents = load([MANIFESTS / name])
    check(documents, [])
    for document in documents:
        if document.obj["kind"] == "Deployment":
            template = document.obj["spec"]["template"]
            assert template["spec"]["serviceAccountName"] == INGRESS.account
            key, _, value = SELECTOR.partition("=")
            assert template["metadata"]["labels"][key] == value


def obj(kind: str, name: str, namespace: str = "default", **more: Any) -> Obj:
    group = {"Ingress": "networking.k8s.io/v1", "IngressClass": "networking.k8s.io/v1"}
    metadata: Obj = {"name": name}
    if kind != "IngressClass":
        metadata["namespace"] = namespace
    return {"apiVersion": group.get(kind, "v1"), "kind": kind, "metadata": metadata, **more}


def ingress(name: str, path: str = "/", kind: str = "Prefix") -> Obj:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": kind, "backend": backend}]
    return obj(
        "Ingress",
        name,
        spec={"ingressClassName": "nginx", "rules": [{"host": f"{name}.com", "http": {"paths": paths}}]},
    )


class World:
    """An API server, and the app with an nginx on Unix sockets."""

    def __init__(self, client: Client, directory: Path) -> None:
        self.client, self._directory = client, directory

    def settle(self) -> None:
        """Until the app has done all that the objects ask for."""
        self.client.settle(["ingress/me"], 10)

    def ask(self, host: str) -> str:
        """nginx' status for a host's root."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self._directory / "http"))
            sock.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode().split()[1]

    def told(self, name: str) -> list[str]:
        """The Events of an Ingress."""
        events, _ = self.client.list("Event", "default")
        return [one["message"] for one in events if one["involvedObject"]["name"] == name]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    directory = tmp_path / "nginx"
    directory.mkdir()
    tmp_path.chmod(0o755)
    made = nginx_program()
    assert made is not None, MISSING

    def on_unix_sockets(wanted: Routes, **words: Any) -> str:
        text = render(
            wanted,
            log=str(directory / "log"),
            http=[f"unix:{directory}/http"],
            status=[f"unix:{directory}/status"],
            **words,
        )
        # What nginx minds although routes lets it pass: stands for all that nobody has thought of.
        return text.replace("server_name poison.com", "server_name poison.com nonsense{")

    monkeypatch.setattr(apps, "render", on_unix_sockets)
    with api_server(tmp_path) as server:
        client = server.client
        client.create(namespace("ingress-nginx"))
        client.create(obj("IngressClass", "nginx", spec={"controller": "k8s.io/ingress-nginx"}))
        client.create(service("ingress-nginx-controller", metadata={"namespace": "ingress-nginx"}))
        client.create(service("web"))
        app = App(client, Nginx(directory, made), component="ingress/me", publish=PUBLISH).start()
        yield World(client, directory)
        app.stop()
        assert not app.failed.is_set()


def test_an_ingress_is_served_when_everything_is_settled(world: World) -> None:
    world.settle()
    assert world.ask("one.com") == "404"
    world.client.create(ingress("one"))
    world.settle()
    assert world.ask("one.com") == "503"
    world.client.delete("Ingress", "one")
    world.settle()
    assert world.ask("one.com") == "404"


def test_an_ingress_has_its_controllers_external_addresses_as_long_as_there_are_any(world: World) -> None:
    def addresses() -> list[Obj]:
        status = world.client.get("Ingress", "one").get("status") or {}
        return (status.get("loadBalancer") or {}).get("ingress") or []

    def publish(given: list[Obj] | None) -> None:
        status = {"status": {"loadBalancer": {"ingress": given}}}
        namespace, name = PUBLISH
        world.client.patch("Service", name, status, namespace, subresource="status")
        world.settle()

    world.client.create(ingress("one"))
    world.settle()
    assert addresses() == []
    publish([{"ip": "203.0.113.7", "ipMode": "VIP"}])
    assert addresses() == [{"ip": "203.0.113.7"}]
    publish(None)
    assert addresses() == []


def test_a_path_that_is_left_out_is_told_once_by_an_event_and_the_others_go_on(world: World) -> None:
    world.client.create(ingress("evil", '/x" { return 200; }', "ImplementationSpecific"))
    world.client.create(ingress("one"))
    world.settle()
    world.client.create(ingress("two"))
    world.settle()
    assert (world.ask("one.com"), world.ask("two.com")) == ("503", "503")
    (message,) = world.told("evil")
    assert message.startswith("spec.rules[0].http.paths[0] is left out: ")


def test_what_nginx_itself_refuses_is_found_and_left_out_alone(world: World) -> None:
    for name in ("one", "poison", "two"):
        world.client.create(ingress(name))
        world.settle()
    assert [world.ask(f"{name}.com") for name in ("one", "poison", "two")] == ["503", "404", "503"]
    (message,) = world.told("poison")
    assert message == 'is left out: nginx says directive "server_name" is not terminated by ";"'
    assert not any("left out" in message for message in world.told("two"))


def test_an_nginx_that_ends_by_itself_ends_the_controller(tmp_path: Path) -> None:
    made = nginx_program()
    assert made is not None, MISSING
    (tmp_path / "nginx").mkdir()
    nginx = Nginx(tmp_path / "nginx", made)
    app = App(Client(tmp_path / "nobody"), nginx, component="ingress/me")
    nginx.use(render(routes([]), directory=str(tmp_path / "nginx"), log="/dev/null",
                     http=[f"unix:{tmp_path}/a"], status=[f"unix:{tmp_path}/b"]))  # fmt: skip
    app.look()
    assert not app.failed.is_set()
    nginx.stop()
    app.look()
    assert app.failed.is_set()


def test_settle_waits_for_the_ready_pods_of_our_image(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        client = server.client
        client.create(namespace("ingress-nginx"))
        for name, image, ready in (
            ("ours", "registry.k8s.io/ingress-nginx/controller:v1", "True"),
            ("starting", "registry.k8s.io/ingress-nginx/controller:v1", "False"),
            ("other", "nginx:1", "True"),
        ):
            labels = {"app.kubernetes.io/component": "controller"}
            made = pod(name, metadata={"namespace": "ingress-nginx", "labels": labels})
            made["spec"]["containers"][0]["image"] = image
            made["spec"]["serviceAccountName"] = "ingress-nginx"
            client.create(made)
            status = {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
            client.patch("Pod", name, status, "ingress-nginx", subresource="status")
        assert components(client) == ["ingress/ours"]
